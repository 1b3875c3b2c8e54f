// SPDX-License-Identifier: BSL-1.0
// A second level on the file system, which outlives the process.
#pragma once

#include <tidegate/cache_tier.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/file_store.hpp>
#include <tidegate/detail/worker_pool_fwd.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// How values are kept in files, with the defaults.
class file_cache_tier_options {
public:
    /// What all files together may have, 1 to 2^62 bytes; default 1 GiB. The least recently used
    /// make room.
    file_cache_tier_options& max_bytes(std::uint64_t bytes) {
        detail::check_option<std::uint64_t>("file_cache_tier max_bytes", bytes, 1,
                                            std::uint64_t{1} << 62);
        max_bytes_ = bytes;
        return *this;
    }
    /// True: what was written survives a loss of power, at the price of two waits for the device a
    /// value, and a third for the first in each of up to 256 folders. Default: false. Either way it
    /// survives the process, and what is damaged is found and dropped.
    file_cache_tier_options& durable(bool yes) noexcept {
        durable_ = yes;
        return *this;
    }

    std::uint64_t max_bytes() const noexcept { return max_bytes_; }
    bool durable() const noexcept { return durable_; }

private:
    std::uint64_t max_bytes_ = std::uint64_t{1} << 30;
    bool durable_ = false;
};

using file_cache_tier_statistics = detail::file_store_statistics;

/// Values in a folder, a file each, behind an index in memory:
///
///     auto files = co_await tidegate::file_cache_tier::open(pool, "/var/cache/service");
///
/// Guarantees. What is found is what was put last, whole, and in its time: a value is written
/// beside its place and renamed, and carries a checksum, so neither a killed process nor a full
/// disk leaves half of one. The index is read once, in `open`; afterwards a miss does not touch the
/// file system, and a hit opens one file. Keys may be any bytes, and are no part of file names.
///
/// The folder belongs to one process at a time. In it are up to 256 folders of files named by UUIDs
/// that end in `.value`; other files are left alone.
///
/// All that blocks runs on `pool`, which has to outlive this, and a call that a `tiered_cache` left
/// behind keeps this alive. Thread-safe. Cancellation, and the pool's `stop`: between two values,
/// with `operation_aborted`; those put by then stay. Otherwise operations throw `file_error`.
/// Memory: about 200 bytes a file.
///
/// `Executor` is the pool's, whose header is not included here.
template <class Executor = boost::asio::any_io_executor>
class basic_file_cache_tier final : public cache_tier {
public:
    using executor_type = Executor;
    using options = file_cache_tier_options;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    /// Makes the folder if need be, reads which values there are, and removes what is over or
    /// damaged, and what is too much. Throws `file_error`.
    static awaitable<std::shared_ptr<basic_file_cache_tier>>
    open(basic_worker_pool<Executor>& pool, std::filesystem::path folder, options settings = {}) {
        std::unique_ptr<detail::file_store> store;
        auto const read = [&] {
            store = std::make_unique<detail::file_store>(folder, settings.max_bytes(),
                                                         settings.durable());
        };
        auto reading = pool.async_submit(read, boost::asio::deferred);
        co_await std::move(reading);
        co_return std::shared_ptr<basic_file_cache_tier>(
            new basic_file_cache_tier(pool, std::move(store)));
    }

    awaitable<std::vector<std::optional<tier_value>>>
    get_many(std::vector<std::string> keys) override {
        std::vector<std::optional<tier_value>> all(keys.size());
        auto const read = [&](std::stop_token asked) {
            for (std::size_t i = 0; i < keys.size(); ++i) {
                throw_if_asked(asked);
                if (auto found = store_->get(keys[i]))
                    all[i] = tier_value{std::move(found->bytes), found->time_to_live};
            }
        };
        auto reading = pool_.async_submit(read, boost::asio::deferred);
        co_await std::move(reading);
        co_return all;
    }

    awaitable<void> put_many(std::vector<tier_entry> entries) override {
        auto const write = [&](std::stop_token asked) {
            for (auto const& [key, value, if_missing] : entries) {
                throw_if_asked(asked);
                store_->put(key, value.bytes, value.time_to_live);
            }
        };
        auto writing = pool_.async_submit(write, boost::asio::deferred);
        co_await std::move(writing);
    }

    awaitable<void> invalidate(std::vector<std::string> keys) override {
        auto const erase = [&] {
            for (auto const& key : keys) store_->erase(key);
        };
        auto erasing = pool_.async_submit(erase, boost::asio::deferred);
        co_await std::move(erasing);
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_file_cache_tier_files", "Files", static_cast<double>(all.files));
        to.gauge("tidegate_file_cache_tier_size_bytes", "Their size",
                 static_cast<double>(all.bytes));
        to.counter("tidegate_file_cache_tier_damaged", "Files found damaged",
                   static_cast<double>(all.damaged));
        to.counter("tidegate_file_cache_tier_evicted", "Files that made room",
                   static_cast<double>(all.evicted));
    }

    file_cache_tier_statistics statistics() const { return store_->statistics(); }

private:
    basic_file_cache_tier(basic_worker_pool<Executor>& pool,
                          std::unique_ptr<detail::file_store> store) noexcept
        : pool_(pool), store_(std::move(store)) {}

    // What is left out would look like misses, or as if the older values had been replaced.
    static void throw_if_asked(std::stop_token const& to_stop) {
        if (to_stop.stop_requested())
            throw boost::system::system_error(boost::asio::error::operation_aborted);
    }

    basic_worker_pool<Executor>& pool_;
    std::unique_ptr<detail::file_store> store_;
};

using file_cache_tier = basic_file_cache_tier<>;

TIDEGATE_END_NAMESPACE
