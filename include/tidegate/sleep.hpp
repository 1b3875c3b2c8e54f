// SPDX-License-Identifier: BSL-1.0
// Lets a coroutine wait for a time.
#pragma once

#include <tidegate/detail/alarm_room.hpp>
#include <tidegate/detail/deadline.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include <chrono>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// No error once the time has come.
template <class Clock, class Executor>
asio::awaitable<error_code, Executor> pause_until(typename Clock::time_point at) {
    auto const executor = co_await asio::this_coro::executor;
    auto const room = alarm_room<Clock>::of(executor);
    auto waiting = room->async_wait_until(at, asio::as_tuple(asio::deferred));
    auto const result = co_await std::move(waiting);
    auto const& [ec] = result;
    co_return ec == error::deadline_exceeded ? error_code() : ec;
}

} // namespace detail

/// Suspends the coroutine until `Clock` shows `at`, at once if it does already. No thread is
/// blocked.
///
/// All sleepers of an execution context share one timer, so that one more or less costs no system
/// call. Resumes on the coroutine's executor. Throws boost::system::system_error:
/// `operation_aborted` when cancelled, which takes O(1), and `error::closed` when the context is
/// going away. One allocation from the coroutine's recycling allocator. O(log n) for n sleepers.
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor>
boost::asio::awaitable<void, Executor> sleep_until(typename Clock::time_point at) {
    if (at <= Clock::now()) co_return;
    error_code const ec = co_await detail::pause_until<Clock, Executor>(at);
    if (ec) throw boost::system::system_error(ec);
}

/// `sleep_until` now plus `time`; zero or less does not suspend.
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor>
boost::asio::awaitable<void, Executor> sleep_for(typename Clock::duration time) {
    return sleep_until<Clock, Executor>(detail::deadline_in<Clock>(time));
}

TIDEGATE_END_NAMESPACE
