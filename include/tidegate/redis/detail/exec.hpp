// SPDX-License-Identifier: BSL-1.0
// Sends a request to Redis without putting the connection at the mercy of whoever waits for it.
#pragma once

#include <tidegate/error.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/redis/connection.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace redis::detail {

/// One element of what Redis sent: `children` of them follow, or it has a value.
struct reply_node {
    boost::redis::resp3::type type;
    std::size_t children;
    std::string value;

    bool is_error() const noexcept {
        return type == boost::redis::resp3::type::simple_error ||
               type == boost::redis::resp3::type::blob_error;
    }
};

/// What Redis sent, one message after the other. Boost.Redis' own generic response cannot hold an
/// error followed by another reply, as a pipeline has them.
struct replies {
    std::vector<reply_node> nodes;
};

/// The interface of Boost.Redis' adapters, of today (the first two) and of later releases.
class reply_adapter {
public:
    explicit reply_adapter(replies& to) noexcept : to_(&to) {}

    std::size_t get_supported_response_size() const noexcept {
        return std::numeric_limits<std::size_t>::max();
    }
    template <class String>
    void operator()(std::size_t, boost::redis::resp3::basic_node<String> const& node,
                    error_code& ec) {
        on_node(node, ec);
    }
    void on_init() noexcept {}
    void on_done() noexcept {}
    template <class String>
    void on_node(boost::redis::resp3::basic_node<String> const& node, error_code&) {
        auto const type = node.data_type;
        bool const in_pairs =
            type == boost::redis::resp3::type::map || type == boost::redis::resp3::type::attribute;
        std::size_t const children = is_aggregate(type) ? node.aggregate_size : 0;
        to_->nodes.push_back(
            {type, in_pairs ? 2 * children : children, std::string(std::string_view(node.value))});
    }

private:
    replies* to_;
};
inline reply_adapter boost_redis_adapt(replies& to) noexcept { return reply_adapter(to); }

/// The node after the message that begins at `first`; 0 if it is not complete.
inline std::size_t message_end(std::vector<reply_node> const& nodes, std::size_t first) noexcept {
    std::size_t wanted = 1;
    for (std::size_t i = first; i < nodes.size(); ++i) {
        wanted += nodes[i].children;
        if (--wanted == 0) return i + 1;
    }
    return 0;
}

using connection_pointer = std::shared_ptr<boost::redis::connection>;

/// One request, with what came of it. It lives until Redis has answered, or the connection was
/// lost, also when nobody waits any more: Boost.Redis reads the request and writes the replies.
struct call {
    boost::redis::request request;
    std::function<bool()> may_be_sent; // asked just before, where the connection runs; none: yes
    replies answer;
    error_code failed = boost::asio::error::connection_aborted; // unless it is told otherwise

    call() { request.get_config().cancel_if_not_connected = true; }
};

/// Starts the request where the connection runs, and drops `ended` when it is over.
template <class Ended>
void start(connection_pointer connection, std::shared_ptr<call> what, Ended ended) {
    auto const executor = connection->get_executor();
    auto send = [connection = std::move(connection), what = std::move(what),
                 ended = std::move(ended)]() mutable {
        auto& to = *connection;
        auto& sent = *what;
        if (sent.may_be_sent && !sent.may_be_sent()) {
            sent.failed = boost::redis::error::not_connected;
            return;
        }
        auto finish = [connection = std::move(connection), what = std::move(what),
                       ended = std::move(ended)](error_code ec, std::size_t) {
            // So does Boost.Redis report a connection that was lost, which nobody cancelled.
            bool const lost = ec == boost::asio::error::operation_aborted;
            what->failed = lost ? error_code(boost::asio::error::connection_aborted) : ec;
        };
        to.async_exec(sent.request, boost::redis::any_adapter(sent.answer), std::move(finish));
    };
    boost::asio::dispatch(executor, std::move(send));
}

/// Whether it was answered, and otherwise why not: as Boost.Redis says, or `deadline_exceeded`, or
/// `operation_aborted` when the caller was cancelled. In the last two cases the request goes on
/// alone: cancelling it would close the connection under everybody else's.
inline boost::asio::awaitable<error_code>
exec_until(connection_pointer connection, std::shared_ptr<call> what,
           std::chrono::steady_clock::time_point deadline) {
    auto const executor = co_await boost::asio::this_coro::executor;
    semaphore over(executor, 1);
    start(std::move(connection), what, over.try_acquire());
    auto waiting = over.async_acquire_until(deadline, boost::asio::as_tuple(boost::asio::deferred));
    auto const ended = co_await std::move(waiting);
    error_code const ec = std::get<0>(ended);
    co_return ec ? ec : what->failed;
}

/// As `exec_until`, for as long as it takes, whoever cancels.
inline boost::asio::awaitable<error_code> exec_to_the_end(connection_pointer connection,
                                                          std::shared_ptr<call> what) {
    auto const executor = co_await boost::asio::this_coro::executor;
    semaphore over(executor, 1);
    start(std::move(connection), what, over.try_acquire());
    auto waiting = over.async_acquire(boost::asio::bind_cancellation_slot(
        boost::asio::cancellation_slot(), boost::asio::as_tuple(boost::asio::deferred)));
    auto const ended = co_await std::move(waiting);
    error_code const ec = std::get<0>(ended);
    co_return ec ? ec : what->failed;
}

} // namespace redis::detail
TIDEGATE_END_NAMESPACE
