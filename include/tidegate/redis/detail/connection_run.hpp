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
#include <cstddef>
#include <memory>
#include <optional>
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
    /// To be made before the connection is.
    sign_of_life(connection_pointer connection, clock::duration interval)
        : connection_(std::move(connection)),
          interval_(std::min<clock::duration>(interval, std::chrono::hours(24 * 365))),
          sent_before_(sent()) {}

    /// To be called when `next_look` has come. False: the server has not answered in time.
    bool look() {
        if (interval_ <= clock::duration(0)) return true; // never asked
        auto const now = clock::now();
        next_look_ = now + interval_;
        if (call_.expired()) {
            ask(now);
            return true;
        }
        // The connection is being made, which has time limits of its own.
        if (sent() == sent_before_) asked_at_ = now;
        auto const limit = asked_at_ + 2 * interval_;
        if (now < limit) {
            next_look_ = std::min(next_look_, limit);
            return true;
        }
        // It may be that only we are late: what has come is read first.
        next_look_ = now + std::min<clock::duration>(interval_ / 4, std::chrono::milliseconds(50));
        return !std::exchange(is_late_, true);
    }

    clock::time_point next_look() const noexcept { return next_look_; }

private:
    std::size_t sent() const { return connection_->get_usage().commands_sent; }

    void ask(clock::time_point now) {
        auto const ping = std::make_shared<call>();
        ping->request.push("PING");
        ping->request.get_config().cancel_if_not_connected = false; // it will be
        asked_at_ = now;
        is_late_ = false;
        call_ = ping;
        start(connection_, ping, ping);
    }

    connection_pointer connection_;
    clock::duration interval_;
    std::size_t sent_before_;
    clock::time_point next_look_ = clock::time_point::max();
    clock::time_point asked_at_;
    bool is_late_ = false;
    std::weak_ptr<call> call_; // gone when it is over
};

#if BOOST_VERSION < 108900

/// Where a connection of Boost.Redis keeps what the server said to HELLO. Private: only an explicit
/// instantiation may name it. (That it is in a header is one more than the standard allows; linkers
/// keep one of them.)
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

/// Lets the server select the database, and stops the run if it does not. Boost.Redis 1.88 does so
/// together with its HELLO, and throws out of the event loop when only that is refused.
inline void select_database(boost::redis::connection& connection, int database,
                            std::shared_ptr<connection_run> run) {
    auto const sent = std::make_shared<call>();
    sent->request.get_config().cancel_if_not_connected = false;
    sent->request.push("HELLO", 3); // goes before all that waits, but for the one of Boost.Redis
    sent->request.push("SELECT", database);
    connection.async_exec(sent->request, boost::redis::any_adapter(sent->answer),
                          [sent, run](error_code ec, std::size_t) {
                              auto const& said = sent->answer.nodes;
                              auto const is_error = [](auto const& node) {
                                  return node.is_error();
                              };
                              if (!ec && std::any_of(said.begin(), said.end(), is_error))
                                  run->stop();
                          });
}

/// Before a run: mends what the last one left, and what this one would do.
inline void prepare(boost::redis::connection& connection, boost::redis::config& server,
                    std::shared_ptr<connection_run> const& run) {
    connection.reset_stream();
    // After a refusal, a welcome would throw out of the event loop.
    forget_answer_to_hello(connection);
    int const database = std::exchange(server.database_index, std::nullopt).value_or(0);
    if (database != 0) select_database(connection, database, run);
}

/// The socket stays open when it could not be connected, or was opened after a cancellation.
inline void close_socket(boost::redis::connection& connection) {
    error_code ignored; // NOLINTNEXTLINE(bugprone-unused-return-value)
    connection.next_layer().lowest_layer().close(ignored);
}

#else

inline void prepare(boost::redis::connection& connection, boost::redis::config&,
                    std::shared_ptr<connection_run> const&) {
    connection.reset_stream(); // by 1.92 nothing, and deprecated
}
inline void close_socket(boost::redis::connection&) {}

#endif

/// Ends what a connection does now, be it that it is being made.
inline void give_up(boost::redis::connection& connection) {
    connection.cancel();
    close_socket(connection);
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
    sign_of_life server_lives(connection, server.health_check_interval);
    server.health_check_interval = std::chrono::seconds(0);
    server.reconnect_wait_interval = std::chrono::seconds(0); // it is run again by its owner
    prepare(*connection, server, run);
    boost::redis::logger const silent(boost::redis::logger::level::disabled);
    connection->async_run(server, silent, [run, connection](error_code why) {
        run->is_over = true;
        run->why = why;
        run->news.cancel();
    });
    try {
        for (auto pause = std::chrono::milliseconds(1); !run->is_over;) {
            if (is_cancelled() || (!run->is_unwanted && !server_lives.look()))
                run->is_unwanted = true;
            if (run->is_unwanted) {
                give_up(*connection);
                run->news.expires_after(pause);
                pause = std::min(2 * pause, std::chrono::milliseconds(64));
            } else {
                run->news.expires_at(server_lives.next_look());
            }
            co_await run->news.async_wait(boost::asio::as_tuple(boost::asio::deferred));
        }
    } catch (...) { // no memory: there is nobody to look after it any more
        give_up(*connection);
        throw;
    }
    close_socket(*connection);
    // Those who asked while it was being made.
    connection->cancel(boost::redis::operation::exec);
    co_return run->why;
}

} // namespace redis::detail
TIDEGATE_END_NAMESPACE
