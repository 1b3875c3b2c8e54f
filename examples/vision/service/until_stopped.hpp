// SPDX-License-Identifier: BSL-1.0
// Ends a coroutine when a stop token says so.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/channel.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <memory>
#include <stop_token>
#include <utility>

namespace vision::service {

namespace detail {

// `||` waits for a success: a failure has to look like one.
template <class T>
boost::asio::awaitable<tidegate::outcome<T>> attempt(boost::asio::awaitable<T> work) {
    tidegate::outcome<T> result;
    try {
        result.succeed(co_await std::move(work));
    } catch (...) {
        result.fail(tidegate::failure(std::current_exception()));
    }
    co_return result;
}

inline boost::asio::awaitable<void> closed(std::shared_ptr<tidegate::channel<char>> gate) {
    static_cast<void>(co_await gate->receive());
}

} // namespace detail

// What `work` results in or throws, or operation_aborted soon after the request. The token may be
// asked on any thread. Cancelling this cancels `work`.
template <class T>
boost::asio::awaitable<T> until_stopped(std::stop_token stop, boost::asio::awaitable<T> work) {
    using namespace boost::asio::experimental::awaitable_operators;
    auto const gate = std::make_shared<tidegate::channel<char>>(
        co_await boost::asio::this_coro::executor, std::size_t{0});
    auto close = [gate] { gate->close(); };
    std::stop_callback<decltype(close)> const on_stop(stop, close);
    auto trying = detail::attempt(std::move(work));
    auto waiting = detail::closed(gate);
    auto first = co_await (std::move(trying) || std::move(waiting));
    if (first.index() == 1)
        throw boost::system::system_error(boost::asio::error::operation_aborted);
    auto& result = std::get<0>(first);
    if (!result) result.why().rethrow();
    co_return std::move(result.value());
}

} // namespace vision::service
