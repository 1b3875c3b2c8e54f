// SPDX-License-Identifier: BSL-1.0
// Runs a connection to Redis, and makes it anew as often as it is lost.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/redis/detail/connection_run.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/redis/connection.hpp>

#include <chrono>
#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace redis {
namespace detail {

inline boost::asio::awaitable<void> keep_connected_here(connection_pointer connection,
                                                        boost::redis::config server,
                                                        std::chrono::nanoseconds pause) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto const state = co_await boost::asio::this_coro::cancellation_state;
    auto const is_cancelled = [&] {
        return state.cancelled() != boost::asio::cancellation_type::none;
    };
    while (!is_cancelled()) {
        auto const run = std::make_shared<connection_run>(connection->get_executor());
        auto one_run = run_once(connection, server, run);
        co_await std::move(one_run);
        if (is_cancelled()) break;
        run->news.expires_after(
            std::chrono::duration_cast<std::chrono::steady_clock::duration>(pause));
        co_await run->news.async_wait(boost::asio::as_tuple(boost::asio::deferred));
    }
    connection->cancel(boost::redis::operation::exec); // those who asked in the pause
}

inline boost::asio::awaitable<void> keep_connected_anywhere(connection_pointer connection,
                                                            boost::redis::config server,
                                                            std::chrono::nanoseconds pause) {
    auto const executor = connection->get_executor();
    auto keeping = keep_connected_here(std::move(connection), std::move(server), pause);
    auto running = boost::asio::co_spawn(executor, std::move(keeping), boost::asio::deferred);
    co_await std::move(running);
}

} // namespace detail

/// Runs `connection`, and runs it again `pause` (1 ms to 1 h) after it was lost or could not be
/// made, until it is cancelled:
///
///     auto redis = std::make_shared<boost::redis::connection>(context);
///     co_spawn(context, tidegate::redis::keep_connected(redis, server), handler);
///
/// For whoever has no loop of his own: Boost.Redis 1.88 connects again only once, not while the
/// server is away, and then keeps a processor busy. `server.reconnect_wait_interval` is not used.
///
/// The server is asked by a PING every `server.health_check_interval` (0: never), and given up when
/// it does not answer for twice as long; an error is an answer. (While a script runs, Redis is
/// silent for its `busy-reply-threshold`, 5 s by default: that may be longer.) Requests that wait
/// for an answer fail when the connection is lost or given up, all others when it could not be
/// made.
///
/// May be called on any executor, once at a time for a connection, which nobody else runs; it is
/// used on its own executor, which has to run one thing at a time: a strand, or a context with one
/// thread. Ends when it is cancelled, and with it the requests that wait; while a name is resolved,
/// the resolver is waited for.
inline boost::asio::awaitable<void>
keep_connected(std::shared_ptr<boost::redis::connection> connection, boost::redis::config server,
               std::chrono::nanoseconds pause = std::chrono::milliseconds(250)) {
    tidegate::detail::check_option<std::int64_t>("redis::keep_connected pause in ns", pause.count(),
                                                 1'000'000, 3'600'000'000'000);
    return detail::keep_connected_anywhere(std::move(connection), std::move(server), pause);
}

} // namespace redis
TIDEGATE_END_NAMESPACE
