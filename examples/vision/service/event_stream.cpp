// SPDX-License-Identifier: BSL-1.0
#include "event_stream.hpp"

#include "until_stopped.hpp"

#include <tidegate/error.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <charconv>

namespace vision::service {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using namespace asio::experimental::awaitable_operators;

namespace {

constexpr auto quiet_time = std::chrono::seconds(15); // after which the client hears that we live
constexpr auto patience = std::chrono::seconds(10);   // with a client that takes nothing

std::string_view name_of(job_event::kind what) {
    switch (what) {
    case job_event::kind::snapshot: return "snapshot";
    case job_event::kind::progress: return "progress";
    case job_event::kind::end: return "end";
    }
    return "unknown";
}

// What comes next for a watcher.
struct next_event {
    enum class kind { event, silence, over, draining };
    kind what = kind::over;
    job_event event;
};

asio::awaitable<next_event> wait_for_event(job_watch& watch) {
    auto receiving = watch.async_receive_for(quiet_time, asio::as_tuple(asio::deferred));
    auto result = co_await std::move(receiving);
    auto& [ec, event] = result;
    if (!ec) co_return next_event{next_event::kind::event, std::move(event)};
    if (ec == tidegate::error::deadline_exceeded)
        co_return next_event{next_event::kind::silence, {}};
    co_return next_event{next_event::kind::over, {}};
}

asio::awaitable<next_event> next(job_watch& watch, std::stop_token draining) {
    auto waiting = wait_for_event(watch);
    auto stoppable = until_stopped(draining, std::move(waiting));
    try {
        co_return co_await std::move(stoppable);
    } catch (const boost::system::system_error&) {
        if (!draining.stop_requested()) throw;
        co_return next_event{next_event::kind::draining, {}};
    }
}

// The id that a client saw last, if it comes back.
std::uint64_t last_seen(const http_exchange& exchange) {
    auto const text = exchange.request()["Last-Event-ID"];
    std::uint64_t id = 0;
    auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), id);
    return ec == std::errc() && end == text.data() + text.size() ? id : 0;
}

std::string as_server_sent(const job_event& event) {
    return fmt::format("id: {}\nevent: {}\ndata: {}\n\n", event.state.version, name_of(event.what),
                       serialize(to_json(event.state)));
}

std::string as_message(const job_event& event) {
    boost::json::object const all{
        {"id", event.state.version}, {"event", name_of(event.what)}, {"job", to_json(event.state)}};
    return serialize(all);
}

} // namespace

asio::awaitable<void> send_server_sent_events(http_exchange& exchange,
                                              std::shared_ptr<job_watch> watch,
                                              std::stop_token draining) {
    exchange.close_after_this();
    auto beginning = exchange.begin(http::status::ok, "text/event-stream", std::nullopt,
                                    {{"Cache-Control", "no-store"}});
    co_await std::move(beginning);
    std::uint64_t const seen = last_seen(exchange);
    for (;;) {
        auto waiting = next(*watch, draining);
        next_event const now = co_await std::move(waiting);
        std::string text;
        if (now.what == next_event::kind::over) break;
        if (now.what == next_event::kind::draining) text = "event: draining\ndata: {}\n\n";
        else if (now.what == next_event::kind::silence) text = ": here\n\n";
        else if (now.event.state.version > seen || is_final(now.event.state.state))
            text = as_server_sent(now.event);
        auto sending = exchange.send(text);
        co_await std::move(sending);
        if (now.what == next_event::kind::draining) break;
    }
    auto ending = exchange.end();
    co_await std::move(ending);
}

namespace {

using socket = websocket::stream<beast::tcp_stream&>;

asio::awaitable<void> write_events(socket& client, job_watch& watch, std::stop_token draining) {
    for (;;) {
        auto waiting = next(watch, draining);
        next_event const now = co_await std::move(waiting);
        if (now.what == next_event::kind::over) break;
        if (now.what == next_event::kind::silence) continue; // WebSocket has pings of its own
        std::string const text = now.what == next_event::kind::draining ? R"({"event":"draining"})"
                                                                        : as_message(now.event);
        auto writing = client.async_write(asio::buffer(text), asio::deferred);
        co_await std::move(writing);
        if (now.what == next_event::kind::draining) break;
    }
    auto closing = client.async_close(websocket::close_code::normal, asio::deferred);
    co_await std::move(closing);
}

// Nothing is expected, but a close or a pong must be taken.
asio::awaitable<void> read_until_closed(socket& client) {
    beast::flat_buffer ignored;
    for (;;) {
        auto reading = client.async_read(ignored, asio::as_tuple(asio::deferred));
        auto const result = co_await std::move(reading);
        auto const& [ec, n] = result;
        if (ec) co_return;
        ignored.consume(ignored.size());
    }
}

} // namespace

asio::awaitable<void> send_over_websocket(http_exchange& exchange, std::shared_ptr<job_watch> watch,
                                          std::stop_token draining) {
    exchange.give_away();
    exchange.stream().expires_never(); // the WebSocket keeps its own time
    socket client(exchange.stream());
    websocket::stream_base::timeout const times{patience, quiet_time, true};
    client.set_option(times);
    client.read_message_max(std::size_t{64} * 1024);
    auto accepting = client.async_accept(exchange.request(), asio::deferred);
    co_await std::move(accepting);
    auto writing = write_events(client, *watch, draining);
    auto reading = read_until_closed(client);
    co_await (std::move(writing) || std::move(reading));
}

} // namespace vision::service
