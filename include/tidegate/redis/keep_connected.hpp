// SPDX-License-Identifier: BSL-1.0
// Runs a connection to Redis, and makes it anew as often as it is lost.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/redis/detail/connection_run.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/any_io_executor.hpp>
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
    for (;;) {
        auto const run = std::make_shared<connection_run>(connection->get_executor());
        auto one_run = run_once(connection, server, run);
        co_await std::move(one_run);
        auto const state = co_await boost::asio::this_coro::cancellation_state;
        if (state.cancelled() != boost::asio::cancellation_type::none) co_return;
        auto waiting =
            sleep_for(std::chrono::duration_cast<std::chrono::steady_clock::duration>(pause));
        co_await std::move(waiting);
    }
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
/// server is away, and then keeps a processor busy. Requests that were not answered fail when the
/// connection is lost; it is given up when the server does not answer a PING, sent every
/// `server.health_check_interval` (0: never), for twice as long. A server that refuses to answer,
/// since it is loading or busy, is kept. `server.reconnect_wait_interval` is not used.
///
/// May be called on any executor; the connection is used on its own, which has to run one thing at
/// a time: a strand, or a context with one thread. Throws what cancels it.
inline boost::asio::awaitable<void>
keep_connected(std::shared_ptr<boost::redis::connection> connection, boost::redis::config server,
               std::chrono::nanoseconds pause = std::chrono::milliseconds(250)) {
    tidegate::detail::check_option<std::int64_t>("redis::keep_connected pause in ns", pause.count(),
                                                 1'000'000, 3'600'000'000'000);
    return detail::keep_connected_anywhere(std::move(connection), std::move(server), pause);
}

} // namespace redis
TIDEGATE_END_NAMESPACE
