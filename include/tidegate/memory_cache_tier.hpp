// SPDX-License-Identifier: BSL-1.0
// A second level in memory: for tests, and shared by several caches of one process.
#pragma once

#include <tidegate/cache.hpp>
#include <tidegate/cache_tier.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Keeps up to so many bytes of values, the least recently used of which make room. Thread-safe.
template <class Clock = std::chrono::steady_clock>
class basic_memory_cache_tier final : public cache_tier {
    struct kept_value {
        std::string bytes;
        typename Clock::time_point until;
    };
    using entries = basic_cache<std::string, kept_value, eviction::lru, cache_hash<std::string>,
                                std::equal_to<>, Clock>;
    using options = cache_options<std::string, kept_value>;

public:
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    /// `max_bytes` of keys and values together, 1 to 2^62.
    basic_memory_cache_tier(boost::asio::any_io_executor executor, std::uint64_t max_bytes)
        : entries_(
              std::move(executor),
              options().max_weight(max_bytes, [](std::string const& key, kept_value const& value) {
                  return key.size() + value.bytes.size();
              })) {}
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_memory_cache_tier(Context& context, std::uint64_t max_bytes)
        : basic_memory_cache_tier(boost::asio::any_io_executor(context.get_executor()), max_bytes) {
    }

    awaitable<std::vector<std::optional<tier_value>>>
    get_many(std::vector<std::string> keys) override {
        auto const now = Clock::now();
        std::vector<std::optional<tier_value>> found;
        for (auto const& key : keys) {
            auto const kept = entries_.get_if_present(key);
            auto& one = found.emplace_back();
            if (!kept) continue;
            bool const for_ever = kept->until == Clock::time_point::max();
            one = tier_value{kept->bytes, for_ever ? tier_value::for_ever : kept->until - now};
        }
        co_return found;
    }

    awaitable<void> put_many(std::vector<tier_entry> all) override {
        auto const now = Clock::now();
        for (auto& [key, value, if_missing] : all) {
            auto const time = value.time_to_live;
            bool const for_ever = time > longest;
            auto const until = for_ever ? Clock::time_point::max() : now + time;
            if (for_ever) entries_.put(std::move(key), {std::move(value.bytes), until});
            else entries_.put(std::move(key), {std::move(value.bytes), until}, time);
        }
        co_return;
    }

    awaitable<void> invalidate(std::vector<std::string> keys) override {
        for (auto const& key : keys) entries_.invalidate(key);
        co_return;
    }

    cache_statistics statistics() const noexcept { return entries_.statistics(); }

private:
    static constexpr std::chrono::nanoseconds longest{315'576'000'000'000'000};

    entries entries_;
};

using memory_cache_tier = basic_memory_cache_tier<>;

TIDEGATE_END_NAMESPACE
