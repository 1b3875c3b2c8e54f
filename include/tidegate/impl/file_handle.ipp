// SPDX-License-Identifier: BSL-1.0
// Files by the system's own calls.
#pragma once

#include <tidegate/detail/file_handle.hpp>
#include <tidegate/detail/thread_random.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

inline error_code last_system_error() { return {errno, boost::system::generic_category()}; }

// The same calls under Windows' names; what it lacks does nothing.
#if defined(_WIN32)
inline int open_to_read(std::filesystem::path const& path) {
    return ::_wopen(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT);
}
inline int create_file(std::filesystem::path const& path, bool /*is_private*/) {
    return ::_wopen(path.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                    _S_IREAD | _S_IWRITE);
}
inline error_code set_permissions(int, std::filesystem::path const& path,
                                  std::filesystem::perms wanted) {
    std::error_code ec;
    std::filesystem::permissions(path, wanted, ec);
    return ec;
}
inline auto read_bytes(int file, char* to, std::size_t n) {
    return ::_read(file, to, static_cast<unsigned>(n));
}
inline auto write_bytes(int file, char const* from, std::size_t n) {
    return ::_write(file, from, static_cast<unsigned>(n));
}
using file_status = struct _stat64;
inline int ask_status(int file, file_status* status) { return ::_fstat64(file, status); }
inline int sync_file(int file) { return ::_commit(file); }
inline int close_file(int file) { return ::_close(file); }
inline void sync_folder(std::filesystem::path const&) {}
#else
inline int open_to_read(std::filesystem::path const& path) {
    return ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
}
inline int create_file(std::filesystem::path const& path, bool is_private) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, is_private ? 0600 : 0666);
}
inline error_code set_permissions(int file, std::filesystem::path const&,
                                  std::filesystem::perms wanted) {
    return ::fchmod(file, static_cast<::mode_t>(wanted)) == 0 ? error_code() : last_system_error();
}
inline auto read_bytes(int file, char* to, std::size_t n) { return ::read(file, to, n); }
inline auto write_bytes(int file, char const* from, std::size_t n) {
    return ::write(file, from, n);
}
using file_status = struct ::stat;
inline int ask_status(int file, file_status* status) { return ::fstat(file, status); }
inline int sync_file(int file) { return ::fsync(file); }
inline int close_file(int file) { return ::close(file); }
inline void sync_folder(std::filesystem::path const& folder) {
    int const descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        // Who may not read a folder may write in it all the same, and nobody else can help.
        if (errno == EACCES) return;
        throw file_error(last_system_error(), folder, "open");
    }
    int const failed = ::fsync(descriptor);
    error_code const why = last_system_error();
    ::close(descriptor);
    // Some file systems cannot: then there is nothing more to be had.
    if (failed && why != boost::system::errc::invalid_argument) {
        throw file_error(why, folder, "sync");
    }
}
#endif

inline constexpr std::size_t most_bytes_at_once = std::size_t{1} << 30; // what all systems take

TIDEGATE_DECL file_handle::~file_handle() {
    if (descriptor_ >= 0) close_file(descriptor_);
}

TIDEGATE_DECL file_handle file_handle::open(std::filesystem::path const& path) {
    std::error_code unknown; // then opening it will tell why
    if (std::filesystem::is_directory(path, unknown)) {
        throw file_error(make_error_code(boost::system::errc::is_a_directory), path, "open");
    }
    file_handle file(-1, path); // copied before there is something to close
    file.descriptor_ = open_to_read(path);
    if (!file) throw file_error(last_system_error(), path, "open");
    return file;
}

TIDEGATE_DECL std::uintmax_t file_handle::size() const {
    file_status status{};
    bool const known = ask_status(descriptor_, &status) == 0; // if not, reading will tell why
    return known && status.st_size > 0 ? static_cast<std::uintmax_t>(status.st_size) : 0;
}

TIDEGATE_DECL std::size_t file_handle::read_some(std::span<char> into) {
    for (;;) {
        auto const n =
            read_bytes(descriptor_, into.data(), std::min(into.size(), most_bytes_at_once));
        if (n >= 0) return static_cast<std::size_t>(n);
        if (errno != EINTR) throw file_error(last_system_error(), path_, "read");
    }
}

TIDEGATE_DECL void file_handle::write_all(std::span<char const> bytes) {
    while (!bytes.empty()) {
        auto const n =
            write_bytes(descriptor_, bytes.data(), std::min(bytes.size(), most_bytes_at_once));
        if (n >= 0) bytes = bytes.subspan(static_cast<std::size_t>(n));
        else if (errno != EINTR) throw file_error(last_system_error(), path_, "write");
    }
}

TIDEGATE_DECL void file_handle::sync() {
    if (sync_file(descriptor_) != 0) throw file_error(last_system_error(), path_, "sync");
}

TIDEGATE_DECL void file_handle::close() {
    int const descriptor = release();
    if (descriptor >= 0 && close_file(descriptor) != 0 && errno != EINTR) {
        throw file_error(last_system_error(), path_, "close");
    }
}

TIDEGATE_DECL replacement_file::~replacement_file() {
    if (temporary_.empty()) return;
    file_ = file_handle();   // Windows does not remove what is open
    std::error_code ignored; // there is nobody left to tell
    std::filesystem::remove(temporary_, ignored);
}

// Where a path leads, be there something yet or not. Throws `file_error`.
inline std::filesystem::path end_of_links(std::filesystem::path const& path) {
    auto at = path;
    std::error_code ec;
    for (int left = 40; std::filesystem::is_symlink(at, ec); --left) { // as Linux has it
        if (left == 0) ec = std::make_error_code(std::errc::too_many_symbolic_link_levels);
        else at = at.parent_path() / std::filesystem::read_symlink(at, ec);
        if (ec) throw file_error(ec, path, "follow");
    }
    return at; // what else is wrong with it will show
}

// As much of a name as leaves room for ours beside it, in whole characters of UTF-8: some systems
// allow 143 bytes, and some no half characters.
inline auto start_of_name(std::filesystem::path const& path) {
    auto name = path.filename().native();
    std::size_t size = 100;
    if (name.size() <= size) return name;
    while (size > 0 && (name[size] & 0xc0) == 0x80) --size;
    name.resize(size);
    return name;
}

TIDEGATE_DECL void replacement_file::create(std::filesystem::path const& target) {
    target_ = end_of_links(target);
    std::error_code ec;
    auto const there = std::filesystem::status(target_, ec);
    if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
        throw file_error(make_error_code(std::filesystem::is_directory(there)
                                             ? boost::system::errc::is_a_directory
                                             : boost::system::errc::operation_not_supported),
                         target_, "replace");
    }
    // What is there may be private: then nobody may open what takes its place, not even before that
    // has its permissions.
    bool const replaces = std::filesystem::exists(there);
    file_ = file_handle(-1, target_); // owns from the start what is created
    auto const name = start_of_name(target_);
    auto& random = thread_random(); // anybody may guess it: O_EXCL sees to the rest
    for (int i = 0; i < 16 && !file_; ++i) {
        char unique[32];
        std::snprintf(unique, sizeof unique, ".%016llx.tmp",
                      static_cast<unsigned long long>(random()));
        std::filesystem::path own(".");
        own.concat(name).concat(unique);
        temporary_ = target_.parent_path() / own;
        file_.descriptor_ = create_file(temporary_, replaces);
        if (!file_ && errno != EEXIST) break;
    }
    if (!file_) {
        file_error const failed(last_system_error(), target_, "create a file beside");
        temporary_.clear();
        throw failed;
    }
    if (!replaces) return;
    error_code const failed = set_permissions(file_.descriptor(), temporary_, there.permissions());
    if (failed) throw file_error(failed, target_, "keep the permissions of");
}

TIDEGATE_DECL void replacement_file::replace(bool durable) {
    if (durable) file_.sync();
    file_.close();
    std::error_code ec;
    std::filesystem::rename(temporary_, target_, ec);
    if (ec) throw file_error(error_code(ec), target_, "replace");
    temporary_.clear();
    auto const folder = target_.parent_path();
    if (durable) sync_folder(folder.empty() ? "." : folder);
}

} // namespace detail
TIDEGATE_END_NAMESPACE
