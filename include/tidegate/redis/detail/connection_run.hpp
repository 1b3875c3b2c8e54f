// SPDX-License-Identifier: BSL-1.0
// One run of a connection to Redis: it is made, looked after, and ended. Beside what Boost.Redis
// does, this mends what goes wrong in its release of 1.88 (docs/boost-versions.md).
#pragma once

#include <tidegate/redis/detail/exec.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
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
namespace redis::detail {

/// How a run of a connection goes. Used on the connection's executor.
struct connection_run {
    boost::asio::steady_timer news;
    bool is_unwanted = false;
    bool is_over = false;
    error_code why;

    explicit connection_run(boost::asio::any_io_executor const& executor) : news(executor) {}

    void stop() {
        is_unwanted = true;
        news.cancel();
    }
};

/// Whether a server is there: one PING after the other. An error is an answer, too: a server that
/// is loading or busy will be of use again.
///
/// Boost.Redis 1.88 has a check of its own that throws out of the event loop when a PING that was
/// answered by an error is followed by one that was not.
class sign_of_life {
    using clock = std::chrono::steady_clock;

public:
    sign_of_life(connection_pointer connection, boost::redis::config const& server)
        : connection_(std::move(connection)), interval_(sane(server.health_check_interval)) {
        // Before the first answer, the connection has to be made.
        patience_ = 2 * interval_ + sane(server.resolve_timeout) + sane(server.connect_timeout) +
                    (server.use_ssl ? sane(server.ssl_handshake_timeout) : clock::duration(0));
    }

    /// To be called when `next_look` has come. False: it has not answered in time.
    bool look() {
        if (interval_ <= clock::duration(0)) return true; // never asked
        auto const now = clock::now();
        next_look_ = now + interval_;
        if (is_asked_ && !call_.expired()) {
            next_look_ = std::min(next_look_, asked_at_ + patience_);
            return now < asked_at_ + patience_;
        }
        if (is_asked_) patience_ = 2 * interval_;
        ask(now);
        return true;
    }

    clock::time_point next_look() const noexcept { return next_look_; }

private:
    // No sum of them is more than a clock can say.
    static clock::duration sane(clock::duration d) {
        return std::min<clock::duration>(d, std::chrono::hours(24 * 365));
    }

    void ask(clock::time_point now) {
        auto const ping = std::make_shared<call>();
        ping->request.push("PING");
        ping->request.get_config().cancel_if_not_connected = false; // it will be
        is_asked_ = true;
        asked_at_ = now;
        call_ = ping;
        start(connection_, ping, ping);
    }

    connection_pointer connection_;
    clock::duration interval_;
    clock::duration patience_;
    clock::time_point next_look_ = clock::time_point::max();
    clock::time_point asked_at_;
    bool is_asked_ = false;
    std::weak_ptr<call> call_; // gone when it is over
};

#if BOOST_VERSION < 108900
/// Where a connection of Boost.Redis keeps what the server said to HELLO. Private: only an explicit
/// instantiation may name it.
template <auto Implementation, auto Handshaker, auto Response>
struct answer_to_hello {
    friend void forget_answer_to_hello(boost::redis::connection& connection) {
        connection.*Implementation.*Handshaker.*Response = boost::redis::generic_response();
    }
};
void forget_answer_to_hello(boost::redis::connection& connection);
template struct answer_to_hello<
    &boost::redis::connection::impl_,
    &boost::redis::basic_connection<boost::redis::connection::executor_type>::handshaker_,
    &boost::redis::detail::resp3_handshaker<boost::redis::connection::executor_type>::hello_resp_>;
#endif

/// Makes a connection that was lost, or could not be made, fit for the next run.
inline void renew(boost::redis::connection& connection) {
    connection.reset_stream();
#if BOOST_VERSION < 108900
    // After a refusal, a welcome would throw out of the event loop.
    forget_answer_to_hello(connection);
#endif
}

/// Ends what a connection does now, be it that it is being made.
inline void give_up(boost::redis::connection& connection) {
    connection.cancel();
#if BOOST_VERSION < 108900
    // cancel() closes the socket once only, maybe before it was opened.
    error_code ignored; // NOLINTNEXTLINE(bugprone-unused-return-value)
    connection.next_layer().lowest_layer().close(ignored);
#endif
}

/// One connection, from its making to its loss, or until it is cancelled or stopped, or the server
/// answers no more. Why it ended.
/// To be called on the connection's executor, by one who does not throw when cancelled.
///
/// Boost.Redis 1.88 loses a cancellation that comes between two steps of making a connection, and
/// then runs for ever: so it is told again, until it is over.
inline boost::asio::awaitable<error_code> run_once(connection_pointer connection,
                                                   boost::redis::config server,
                                                   std::shared_ptr<connection_run> run) {
    auto const state = co_await boost::asio::this_coro::cancellation_state;
    auto const is_cancelled = [&] {
        return state.cancelled() != boost::asio::cancellation_type::none;
    };
    if (run->is_unwanted || is_cancelled()) co_return boost::asio::error::operation_aborted;
    sign_of_life server_lives(connection, server);
    server.health_check_interval = std::chrono::seconds(0);
    server.reconnect_wait_interval = std::chrono::seconds(0); // it is run again by its owner
    renew(*connection);
    boost::redis::logger const silent(boost::redis::logger::level::disabled);
    connection->async_run(server, silent, [run, connection](error_code why) {
        run->is_over = true;
        run->why = why;
        run->news.cancel();
    });
    for (auto pause = std::chrono::milliseconds(1); !run->is_over;) {
        if (is_cancelled() || (!run->is_unwanted && !server_lives.look())) run->is_unwanted = true;
        if (run->is_unwanted) {
            give_up(*connection);
            run->news.expires_after(pause);
            pause = std::min(2 * pause, std::chrono::milliseconds(64));
        } else {
            run->news.expires_at(server_lives.next_look());
        }
        co_await run->news.async_wait(boost::asio::as_tuple(boost::asio::deferred));
    }
    // Those who asked while it was being made.
    connection->cancel(boost::redis::operation::exec);
    co_return run->why;
}

} // namespace redis::detail
TIDEGATE_END_NAMESPACE
