// SPDX-License-Identifier: BSL-1.0
// Values in files, and an index of them in memory. All calls block.
#pragma once

#include <tidegate/core/cache/lru.hpp>
#include <tidegate/core/cache/store.hpp>
#include <tidegate/detail/file_handle.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct file_store_statistics {
    std::size_t files = 0;
    std::uint64_t bytes = 0;
    std::uint64_t damaged = 0; ///< found cut off or changed, and removed
    std::uint64_t evicted = 0;
};

/// One file a value, named after its key by a version 5 UUID (RFC 9562), in one of 256 folders. A
/// file has a header, the key, the value and a checksum over all of it. It is written beside its
/// place and renamed, so it is whole or not there; a loss of power can damage it, which the
/// checksum finds.
///
/// The index knows which files there are, how large, until when, and which was used last; it is
/// made by reading the headers once. Times are the system's clock, since files outlive the process.
///
/// Thread-safe: readers overlap; one change at a time.
class file_store {
public:
    using nanoseconds = std::chrono::nanoseconds;

    struct found {
        std::string bytes;
        nanoseconds time_to_live;
    };

    /// Reads what there is, and removes what is damaged, over, too much, or left by a killed
    /// process. Throws `file_error` if the folder cannot be made or read.
    TIDEGATE_DECL file_store(std::filesystem::path folder, std::uint64_t max_bytes, bool durable);

    /// Removes what it finds damaged. Throws `file_error` if the file is there and cannot be read.
    TIDEGATE_DECL std::optional<found> get(std::string_view key);
    /// What is larger than all that is allowed is not kept.
    TIDEGATE_DECL void put(std::string_view key, std::string_view bytes, nanoseconds time_to_live);
    TIDEGATE_DECL bool erase(std::string_view key);

    TIDEGATE_DECL file_store_statistics statistics() const;

private:
    struct header;
    struct nothing {};
    using index = core::cache_store<std::string, nothing, core::lru_eviction>;
    using names = std::vector<std::string>;

    TIDEGATE_DECL std::filesystem::path path_of(std::string const& name) const;
    static std::uint32_t hash(std::string const& name) noexcept {
        return static_cast<std::uint32_t>(std::hash<std::string>{}(name));
    }
    TIDEGATE_DECL core::entry_id find(std::string const& name) const;

    TIDEGATE_DECL bool is_known(std::string const& name) const;
    TIDEGATE_DECL void make_folder() const;
    TIDEGATE_DECL void read_folder();
    TIDEGATE_DECL std::optional<found> read(std::string const& name, std::string_view key,
                                            bool& damaged) const;
    TIDEGATE_DECL void drop(std::string const& name);
    TIDEGATE_DECL names note(std::string const& name, std::uint64_t size, std::int64_t until);
    TIDEGATE_DECL void unlink(std::string const& name) const;

    std::filesystem::path const folder_;
    bool const durable_;
    std::mutex changing_;
    bool folders_are_durable_ = false; // those of values; an earlier process may have made some
    std::mutex mutable indexing_;      // taken after `changing_`
    index index_;
    std::uint64_t damaged_ = 0;
    std::uint64_t evicted_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE

#if defined(TIDEGATE_HEADER_ONLY)
#include <tidegate/impl/file_store.ipp>
#endif
