// SPDX-License-Identifier: BSL-1.0
// Files from coroutines, without blocking the event loop.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/file_handle.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/experimental/coro.hpp>
#include <boost/asio/this_coro.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// How a file is read, with the defaults.
class read_file_options {
public:
    /// The most bytes that are taken, 0 to 2^48; default 1 GiB. A larger file is an error: nobody's
    /// file is to take all of the memory.
    read_file_options& max_size(std::uint64_t bytes) {
        detail::check_option<std::uint64_t>("read_file max_size", bytes, 0, std::uint64_t{1} << 48);
        max_size_ = bytes;
        return *this;
    }
    /// Bytes that one job of the pool reads, and the size of a chunk, 1 to 2^30; default 1 MiB.
    /// Between two blocks others have their turn, and the operation can be cancelled.
    read_file_options& block(std::size_t bytes) {
        detail::check_option<std::size_t>("read_file block", bytes, 1, std::size_t{1} << 30);
        block_ = bytes;
        return *this;
    }

    std::uint64_t max_size() const noexcept { return max_size_; }
    std::size_t block() const noexcept { return block_; }

private:
    std::uint64_t max_size_ = std::uint64_t{1} << 30;
    std::size_t block_ = std::size_t{1} << 20;
};

/// How a file is written, with the defaults.
class write_file_options {
public:
    /// True, the default: when it completes, the new contents survive a loss of power. In a folder
    /// that the process may not read, or on a file system that cannot make folders durable, either
    /// the old contents do or the new. False saves two calls that wait for the device.
    write_file_options& durable(bool yes) noexcept {
        durable_ = yes;
        return *this;
    }
    /// Bytes that one job of the pool writes, 1 to 2^30; default 1 MiB.
    write_file_options& block(std::size_t bytes) {
        detail::check_option<std::size_t>("write_file block", bytes, 1, std::size_t{1} << 30);
        block_ = bytes;
        return *this;
    }

    bool durable() const noexcept { return durable_; }
    std::size_t block() const noexcept { return block_; }

private:
    bool durable_ = true;
    std::size_t block_ = std::size_t{1} << 20;
};

/// All bytes of a file.
///
///     std::string text = co_await tidegate::read_file(pool, "settings.json");
///
/// Reads to the real end, whatever size the system tells: files in /proc and files that grow are
/// read right. All calls that may block run on `pool`, block by block. Where Asio was compiled with
/// io_uring, or on Windows, and the system allows it, only opening the file does: the bytes are
/// then read without taking a thread, by a generator as that of `read_chunks`, with its rules.
///
/// Throws `file_error`, a boost::system::system_error that names the file: the system's code, or
/// `file_too_large` above `max_size`. Cancellation: total, partial and terminal, with
/// `operation_aborted`, between two blocks. Resumes on the coroutine's executor. The pool has to
/// outlive the call.
template <class Executor>
boost::asio::awaitable<std::string, Executor> read_file(basic_worker_pool<Executor>& pool,
                                                        std::filesystem::path path,
                                                        read_file_options settings = {});

/// The bytes of a file, one block after the other, as a generator:
///
///     auto chunks = tidegate::read_chunks(executor, pool, path);
///     while (auto chunk = co_await chunks) ...                                // in a coro
///     while (auto chunk = co_await chunks.async_resume(asio::deferred)) ...   // elsewhere
///
/// Each chunk has `block` bytes, but for the last. Nothing is read before it is asked for. Errors
/// are those of `read_file`, except that `max_size` is no limit here, and end the generator.
/// Abandoned early, it closes the file.
///
/// Asio's coro has rules of its own. It runs on `executor`, which runs one thing at a time: that of
/// the caller, who resumes it there, and there alone cancels. Only terminal cancellation is heard,
/// with `operation_aborted`, which ends the generator; a block that is being read already is
/// delivered instead. Whoever waits for a chunk while the context is destroyed leaks, and with it
/// all that it holds: cancel it, and run the context until it has ended, before that.
template <class Executor>
boost::asio::experimental::coro<std::string, void, Executor>
read_chunks(std::type_identity_t<Executor> executor, basic_worker_pool<Executor>& pool,
            std::filesystem::path path, read_file_options settings = {});

/// As above, on the pool's executor.
template <class Executor>
boost::asio::experimental::coro<std::string, void, Executor>
read_chunks(basic_worker_pool<Executor>& pool, std::filesystem::path path,
            read_file_options settings = {});

/// Writes `bytes` to the file `path`, in place of what is there: whoever reads it meanwhile, and
/// whatever happens, finds all of the old contents or all of the new.
///
/// Written is a temporary file in the same folder, with the permissions of the file that is
/// replaced; it then takes the name. A failure or cancellation removes it and leaves the old file
/// alone, but for one: if the folder cannot be made durable (`sync` of the folder, in `what()`) the
/// new file is in place, and a loss of power may bring the old one back. A crash may leave the
/// temporary file behind, named `.NAME.*.tmp`, where NAME is at most the first 100 bytes. A
/// symbolic link is followed, also to where there is nothing yet. What is there and is no regular
/// file (a device, a folder) is not replaced but refused.
///
/// All of it runs on `pool`, since Asio knows no asynchronous way to make a file durable; only
/// after a failure or cancellation the temporary file is closed and removed where the coroutine
/// ends. Throws `file_error`. Cancellation: total, partial and terminal, with `operation_aborted`,
/// between two blocks; once the file has been replaced, it has been written. Otherwise as
/// `read_file`.
template <class Executor>
boost::asio::awaitable<void, Executor> write_file(basic_worker_pool<Executor>& pool,
                                                  std::filesystem::path path, std::string bytes,
                                                  write_file_options settings = {});

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/file.hpp>
