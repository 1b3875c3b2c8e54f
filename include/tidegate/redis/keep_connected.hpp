// SPDX-License-Identifier: BSL-1.0
// Runs a connection to Redis, and makes it anew as often as it is lost.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/redis/detail/exec.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/redis/connection.hpp>
#include <boost/redis/logger.hpp>
#include <boost/version.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace redis {
namespace detail {

/// How a run of a connection goes. Used on the connection's executor.
struct connection_run {
    boost::asio::steady_timer news;
    bool is_unwanted = false;
    bool is_over = false;
    error_code why;

    explicit connection_run(boost::asio::any_io_executor const& executor)
        : news(executor, std::chrono::steady_clock::time_point::max()) {}

    void stop() {
        is_unwanted = true;
        news.cancel();
    }
};

/// Ends what a connection does now, be it that it is being made.
inline void give_up(boost::redis::connection& connection) {
    connection.cancel();
#if BOOST_VERSION < 108900
    // cancel() closes the socket once only, maybe before it was opened.
    error_code ignored; // NOLINTNEXTLINE(bugprone-unused-return-value)
    connection.next_layer().lowest_layer().close(ignored);
#endif
}

/// One connection, from its making to its loss, or until it is cancelled or stopped. Why it ended.
/// To be called on the connection's executor, by one who does not throw when cancelled.
///
/// Boost.Redis 1.88 loses a cancellation that comes between two steps of making a connection, and
/// then runs for ever: so it is told again, until it is over.
inline boost::asio::awaitable<error_code> run_once(connection_pointer connection,
                                                   boost::redis::config const& server,
                                                   std::shared_ptr<connection_run> run) {
    auto const state = co_await boost::asio::this_coro::cancellation_state;
    auto const is_unwanted = [&] {
        return run->is_unwanted || state.cancelled() != boost::asio::cancellation_type::none;
    };
    if (is_unwanted()) co_return boost::asio::error::operation_aborted; // before it began
    connection->reset_stream();
    boost::redis::logger const silent(boost::redis::logger::level::disabled);
    connection->async_run(server, silent, [run, connection](error_code why) {
        run->is_over = true;
        run->why = why;
        run->news.cancel();
    });
    for (auto pause = std::chrono::milliseconds(1); !run->is_over;) {
        co_await run->news.async_wait(boost::asio::as_tuple(boost::asio::deferred));
        if (run->is_over || !is_unwanted()) continue;
        give_up(*connection);
        run->news.expires_after(pause);
        pause = std::min(2 * pause, std::chrono::milliseconds(64));
    }
    // Those who asked while it was being made.
    connection->cancel(boost::redis::operation::exec);
    co_return run->why;
}

inline boost::asio::awaitable<void> keep_connected_here(connection_pointer connection,
                                                        boost::redis::config server,
                                                        std::chrono::nanoseconds pause) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    server.reconnect_wait_interval = std::chrono::seconds(0);
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
/// connection is lost. `server.reconnect_wait_interval` is not used.
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
