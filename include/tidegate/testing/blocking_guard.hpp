// SPDX-License-Identifier: BSL-1.0
// Makes blocking calls inside handlers fail a test. Link with tidegate::blocking_guard (Linux).
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace testing {

/// A call that may block, made by a thread inside a handler.
struct blocking_call {
    std::string function;           ///< "nanosleep"
    std::vector<std::string> stack; ///< innermost first, from the caller of the function on
};

/// In one line, and a line for each function of the stack.
std::string to_string(blocking_call const& call);

struct blocking_guard_state;

/// While it lives, tells of every blocking call that a thread makes inside a handler of a
/// `watched_executor` (or of any executor, with `asio_tracking.hpp`):
///
///     tidegate::testing::blocking_guard guard;
///     run_the_code_under_test();
///     CHECK(guard.calls().empty());
///
/// The calls are made all the same: nothing is thrown into code that does not expect it. Found are
/// sleeping, poll and select that may wait, reading, writing, sending, receiving, connecting and
/// accepting on descriptors that are not O_NONBLOCK, getaddrinfo, fsync, fdatasync, flock, system
/// and waitpid, condition variables, semaphores, joining threads, locking a mutex that somebody
/// else has, and waiting on a futex, as std::future and std::atomic do. Not found are system calls
/// that a program makes by itself or libc inside another function, and time spent computing.
///
/// The functions of libc are replaced in the whole program, which costs a look at a thread-local
/// variable a call. One guard at a time, else the constructor throws std::logic_error. Thread-safe.
class blocking_guard {
public:
    /// `on_call` is called where the call is made, before it is, with this guard's lock held; must
    /// not throw. Default: nothing.
    explicit blocking_guard(std::function<void(blocking_call const&)> on_call = {});
    blocking_guard(blocking_guard const&) = delete;
    blocking_guard& operator=(blocking_guard const&) = delete;
    ~blocking_guard();

    /// Those so far; 1000 are kept.
    std::vector<blocking_call> calls() const;

private:
    std::unique_ptr<blocking_guard_state> state_;
};

/// This thread may block until it goes; says why. Nests. Not to be kept across a suspension of a
/// coroutine.
class [[nodiscard]] allow_blocking {
public:
    explicit allow_blocking(char const* reason) noexcept;
    allow_blocking(allow_blocking const&) = delete;
    allow_blocking& operator=(allow_blocking const&) = delete;
    ~allow_blocking();
};

} // namespace testing
TIDEGATE_END_NAMESPACE
