// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/detail/file_store.hpp>

#include <boost/crc.hpp>
#include <boost/endian/conversion.hpp>
#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid.hpp>
#include <boost/uuid/uuid_io.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <system_error>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

inline constexpr std::string_view file_store_suffix = ".value";

inline std::int64_t system_clock_ns() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

inline std::string name_of_key(std::string_view key) {
    // Our own namespace, so that the names are nobody else's.
    static boost::uuids::uuid const space =
        boost::uuids::name_generator_sha1(boost::uuids::ns::dns())("tidegate.file_store");
    return boost::uuids::to_string(
        boost::uuids::name_generator_sha1(space)(key.data(), key.size()));
}

/// Numbers are little-endian: magic, checksum of all that follows, until, key size, value size.
struct file_store::header {
    static constexpr std::size_t size = 32;
    static constexpr std::array<char, 4> magic{'t', 'g', 'v', '1'};

    std::uint32_t checksum = 0;
    std::int64_t until = 0;
    std::uint64_t key_size = 0;
    std::uint64_t value_size = 0;

    static std::uint32_t sum(std::span<char const> rest) noexcept {
        boost::crc_32_type crc;
        crc.process_bytes(rest.data(), rest.size());
        return crc.checksum();
    }

    void write(char* to) const noexcept {
        using boost::endian::store_little_s64;
        using boost::endian::store_little_u32;
        using boost::endian::store_little_u64;
        auto const at = reinterpret_cast<unsigned char*>(to);
        std::memcpy(to, magic.data(), magic.size());
        store_little_u32(at + 4, checksum);
        store_little_s64(at + 8, until);
        store_little_u64(at + 16, key_size);
        store_little_u64(at + 24, value_size);
    }

    static std::optional<header> read(std::span<char const> from) noexcept {
        using boost::endian::load_little_s64;
        using boost::endian::load_little_u32;
        using boost::endian::load_little_u64;
        if (from.size() < size || !std::equal(magic.begin(), magic.end(), from.begin())) return {};
        auto const at = reinterpret_cast<unsigned char const*>(from.data());
        header h;
        h.checksum = load_little_u32(at + 4);
        h.until = load_little_s64(at + 8);
        h.key_size = load_little_u64(at + 16);
        h.value_size = load_little_u64(at + 24);
        return h;
    }

    bool fits(std::uint64_t file_size) const noexcept {
        return key_size < file_size && value_size < file_size &&
               size + key_size + value_size == file_size;
    }
};

TIDEGATE_DECL file_store::file_store(std::filesystem::path folder, std::uint64_t max_bytes,
                                     bool durable)
    : folder_(std::move(folder)),
      durable_(durable),
      index_(
          max_bytes,
          [] {
              core::store_features f;
              f.weighs = true;
              f.expires = true;
              return f;
          }(),
          system_clock_ns()) {
    make_folder();
    read_folder();
}

TIDEGATE_DECL std::filesystem::path file_store::path_of(std::string const& name) const {
    return folder_ / name.substr(0, 2) / (name + std::string(file_store_suffix));
}

TIDEGATE_DECL core::entry_id file_store::find(std::string const& name) const {
    return index_.find(hash(name), name, std::equal_to<>{});
}

TIDEGATE_DECL bool file_store::is_known(std::string const& name) const {
    std::lock_guard lock(indexing_);
    return find(name) != core::no_entry;
}

// Named by a UUID, in the folder of its first two digits: nobody else's file is to be removed.
inline constexpr std::string_view uuid_digits = "0123456789abcdef-";
inline bool is_folder_of_stored_files(std::string_view name) {
    return name.size() == 2 && name.find_first_not_of(uuid_digits) == name.npos;
}
inline bool is_stored_file(std::filesystem::path const& path, std::string_view name) {
    constexpr std::size_t uuid_size = 36;
    return name.size() == uuid_size + file_store_suffix.size() &&
           name.ends_with(file_store_suffix) && name.find_first_not_of(uuid_digits) == uuid_size &&
           path.parent_path().filename() == name.substr(0, 2);
}

// `.NAME.*.tmp`, see `replacement_file`.
inline bool is_left_behind(std::filesystem::path const& path, std::string_view name) {
    auto const end = name.rfind(file_store_suffix);
    return name.starts_with('.') && name.ends_with(".tmp") && end != name.npos &&
           is_stored_file(path, name.substr(1, end + file_store_suffix.size() - 1));
}

// Opening ---------------------------------------------------------------------------------------

TIDEGATE_DECL void file_store::make_folder() const {
    namespace fs = std::filesystem;
    std::error_code ec;
    std::vector<fs::path> parents; // of what is made
    for (fs::path at = folder_; at.has_relative_path() && !fs::exists(at, ec);
         at = at.parent_path())
        parents.push_back(at.has_parent_path() ? at.parent_path() : ".");
    fs::create_directories(folder_, ec);
    if (ec) throw file_error(ec, folder_, "make folder");
    if (!durable_) return;
    for (auto const& parent : parents) sync_folder(parent);
}

TIDEGATE_DECL void file_store::read_folder() {
    namespace fs = std::filesystem;
    std::error_code ec;
    struct there {
        fs::file_time_type changed;
        std::string name;
        std::uint64_t size;
        std::int64_t until;
    };
    std::vector<there> all;
    auto const long_ago = fs::file_time_type::clock::now() - std::chrono::minutes(1);
    std::error_code reading; // with which the iterator becomes the end
    for (fs::recursive_directory_iterator it(folder_, reading), end; it != end;
         it.increment(reading)) {
        fs::path const& path = it->path();
        // Those of others need not be readable.
        if (it.depth() > 0 || !is_folder_of_stored_files(path.filename().string()))
            it.disable_recursion_pending();
        if (it.depth() != 1 || !it->is_regular_file(ec)) continue;
        auto const changed = it->last_write_time(ec);
        std::string const file_name = path.filename().string();
        if (is_left_behind(path, file_name) && changed < long_ago) fs::remove(path, ec);
        if (!is_stored_file(path, file_name)) continue;
        std::array<char, header::size> bytes{};
        std::size_t got = 0;
        std::uint64_t const size = it->file_size(ec);
        try {
            auto file = file_handle::open(path);
            got = file.read_some(bytes);
        } catch (file_error const&) { // gone, or not ours to read
            continue;
        }
        auto const h = header::read(std::span(bytes).first(got));
        if (h && h->fits(size) && h->until > system_clock_ns()) {
            all.push_back({changed, path.stem().string(), size, h->until});
        } else {
            damaged_ += h && h->fits(size) ? 0 : 1;
            fs::remove(path, ec);
        }
    }
    if (reading) throw file_error(reading, folder_, "read folder");
    std::sort(all.begin(), all.end(),
              [](there const& a, there const& b) { return a.changed < b.changed; });
    for (there const& one : all) {
        for (auto const& name : note(one.name, one.size, one.until)) unlink(name);
    }
}

// Using -----------------------------------------------------------------------------------------

// A file that is gone, or somebody else's by now. Others may be opened again later: the process had
// too many open, say.
inline bool is_lost(error_code why) noexcept {
    namespace errc = boost::system::errc;
    return why == errc::no_such_file_or_directory || why == errc::permission_denied ||
           why == errc::is_a_directory || why == errc::not_a_directory;
}

TIDEGATE_DECL std::optional<file_store::found> file_store::get(std::string_view key) {
    std::string const name = name_of_key(key);
    {
        std::lock_guard lock(indexing_);
        auto const id = find(name);
        if (id == core::no_entry || index_.fresh_until(id) <= system_clock_ns())
            return std::nullopt;
        index_.touch(id);
    }
    bool damaged = false;
    auto value = read(name, key, damaged);
    if (!damaged) return value;
    // It may have been replaced or removed meanwhile: to be sure, nobody may change it.
    std::lock_guard changing(changing_);
    if (!is_known(name)) return std::nullopt;
    value = read(name, key, damaged);
    if (damaged) {
        drop(name);
        std::lock_guard lock(indexing_);
        ++damaged_;
    }
    return value;
}

TIDEGATE_DECL std::optional<file_store::found>
file_store::read(std::string const& name, std::string_view key, bool& damaged) const {
    damaged = true;
    std::string bytes;
    try {
        auto file = file_handle::open(path_of(name));
        bytes.resize(static_cast<std::size_t>(file.size()));
        std::size_t got = 0;
        while (got < bytes.size()) {
            std::size_t const n = file.read_some(std::span(bytes).subspan(got));
            if (n == 0) return std::nullopt;
            got += n;
        }
    } catch (file_error const& e) {
        if (!is_lost(e.code())) throw;
        return std::nullopt; // as good as damaged
    }
    auto const h = header::read(bytes);
    if (!h || !h->fits(bytes.size()) || h->checksum != header::sum(std::span(bytes).subspan(8)))
        return std::nullopt;
    damaged = false;
    std::string_view const rest = std::string_view(bytes).substr(header::size);
    std::int64_t const left =
        h->until == index::never ? index::never : h->until - system_clock_ns();
    // Another key of that name would be a collision of SHA-1.
    if (rest.substr(0, h->key_size) != key || left <= 0) return std::nullopt;
    bytes.erase(0, header::size + h->key_size);
    return found{std::move(bytes), nanoseconds(left)};
}

TIDEGATE_DECL void file_store::put(std::string_view key, std::string_view bytes,
                                   nanoseconds time_to_live) {
    std::string const name = name_of_key(key);
    std::int64_t const now = system_clock_ns();
    header h;
    h.until =
        time_to_live.count() >= index::never - now ? index::never : now + time_to_live.count();
    h.key_size = key.size();
    h.value_size = bytes.size();
    std::string contents(header::size, '\0');
    contents.reserve(header::size + key.size() + bytes.size());
    contents.append(key).append(bytes);
    h.write(contents.data());
    h.checksum = header::sum(std::span(contents).subspan(8));
    h.write(contents.data());

    std::lock_guard changing(changing_);
    if (contents.size() > index_.capacity()) return drop(name);
    auto const path = path_of(name);
    std::error_code ec;
    if (std::filesystem::create_directory(path.parent_path(), ec)) folders_are_durable_ = false;
    try {
        if (durable_ && !folders_are_durable_) {
            sync_folder(folder_);
            folders_are_durable_ = true;
        }
        replacement_file file;
        file.create(path);
        file.file().write_all(contents);
        file.replace(durable_);
    } catch (...) {
        drop(name); // the older value must not stay
        throw;
    }
    for (auto const& gone : note(name, contents.size(), h.until)) unlink(gone);
}

TIDEGATE_DECL bool file_store::erase(std::string_view key) {
    std::string const name = name_of_key(key);
    std::lock_guard changing(changing_);
    bool const known = is_known(name);
    drop(name);
    return known;
}

// While `changing_` is held, or nobody else has the store.
TIDEGATE_DECL void file_store::drop(std::string const& name) {
    {
        std::lock_guard lock(indexing_);
        auto const id = find(name);
        if (id != core::no_entry)
            index_.erase(id, removal_cause::explicit_, [](auto&&...) noexcept {});
    }
    unlink(name);
}

// Which files have to go for it.
TIDEGATE_DECL file_store::names file_store::note(std::string const& name, std::uint64_t size,
                                                 std::int64_t until) {
    names gone;
    auto const removed = [&](std::string&& which, nothing, bool, removal_cause why) {
        if (why == removal_cause::replaced) return;
        evicted_ += why == removal_cause::size ? 1 : 0;
        gone.push_back(std::move(which));
    };
    if (size > index_.capacity()) {
        gone.push_back(name);
        return gone;
    }
    std::lock_guard lock(indexing_);
    std::int64_t const now = system_clock_ns();
    std::size_t budget = 64;
    index_.expire(now, budget, removed);
    index::fresh_entry fresh{hash(name), name, {}, false, size, until, {}};
    auto const id = find(name);
    if (id != core::no_entry) index_.replace(id, std::move(fresh), now, removed);
    else index_.insert(std::move(fresh), now, removed);
    std::erase(gone, name); // it expired, and is back
    return gone;
}

TIDEGATE_DECL void file_store::unlink(std::string const& name) const {
    std::error_code ec;
    std::filesystem::remove(path_of(name), ec);
    // A folder, or a file that may not be removed: it is not in the index any more.
}

TIDEGATE_DECL file_store_statistics file_store::statistics() const {
    std::lock_guard lock(indexing_);
    return {index_.size(), index_.total_weight(), damaged_, evicted_};
}

} // namespace detail
TIDEGATE_END_NAMESPACE
