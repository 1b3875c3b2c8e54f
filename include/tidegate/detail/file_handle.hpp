// SPDX-License-Identifier: BSL-1.0
// An open file, and files that take another's place once they are whole. All calls block.
#pragma once

#include <tidegate/error.hpp>

#include <boost/system/system_error.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// What could not be done with which file. `what()` says both, and why.
class file_error : public boost::system::system_error {
public:
    file_error(error_code why, std::filesystem::path path, char const* action)
        : boost::system::system_error(why, std::string(action) + " " + path.string()),
          path_(std::move(path)) {}

    std::filesystem::path const& path() const noexcept { return path_; }

private:
    std::filesystem::path path_;
};

namespace detail {

/// Owns a file descriptor. Failures are thrown as `file_error`.
class file_handle {
public:
    file_handle() noexcept = default;
    file_handle(file_handle&& other) noexcept;
    file_handle& operator=(file_handle&& other) noexcept;
    TIDEGATE_DECL ~file_handle();

    /// For reading from the beginning. Not a directory.
    TIDEGATE_DECL static file_handle open(std::filesystem::path const& path);

    explicit operator bool() const noexcept { return descriptor_ >= 0; }
    /// What the system says, which for some files is 0 and wrong.
    TIDEGATE_DECL std::uintmax_t size() const;
    int descriptor() const noexcept { return descriptor_; }
    /// The descriptor, which is the caller's from now on.
    int release() noexcept { return std::exchange(descriptor_, -1); }

    /// Up to `into.size()` bytes from where the last call ended; 0 at the end.
    TIDEGATE_DECL std::size_t read_some(std::span<char> into);
    TIDEGATE_DECL void write_all(std::span<char const> bytes);
    /// Completes when the bytes are on the device.
    TIDEGATE_DECL void sync();
    TIDEGATE_DECL void close();

private:
    friend class replacement_file;
    file_handle(int descriptor, std::filesystem::path path) noexcept
        : descriptor_(descriptor), path_(std::move(path)) {}

    int descriptor_ = -1;
    std::filesystem::path path_;
};

/// A new file beside `target`, which it replaces in one step. Removed if it never does.
class replacement_file {
public:
    replacement_file() noexcept = default;
    replacement_file(replacement_file const&) = delete;
    replacement_file& operator=(replacement_file const&) = delete;
    TIDEGATE_DECL ~replacement_file();

    /// With the permissions of the file that is there, if one is. A symbolic link is followed. What
    /// is there and is no regular file is not replaced.
    TIDEGATE_DECL void create(std::filesystem::path const& target);

    file_handle& file() noexcept { return file_; }

    /// Closes the file and gives it its name; `durable`: it survives a loss of power from now on.
    /// If that fails at the folder, it has its name all the same.
    TIDEGATE_DECL void replace(bool durable);

private:
    std::filesystem::path target_;
    std::filesystem::path temporary_; // empty once there is nothing to remove
    file_handle file_;
};

inline file_handle::file_handle(file_handle&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

inline file_handle& file_handle::operator=(file_handle&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(path_, other.path_);
    return *this;
}

} // namespace detail
TIDEGATE_END_NAMESPACE

#if defined(TIDEGATE_HEADER_ONLY)
#include <tidegate/impl/file_handle.ipp>
#endif
