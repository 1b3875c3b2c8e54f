// SPDX-License-Identifier: BSL-1.0
// Serves metrics over HTTP, for Prometheus to scrape. Needs Boost.Beast; not in tidegate.hpp.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/task_scope.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace http {

/// How metrics are served, with the defaults.
class metrics_server_options {
public:
    /// The path that they are at; anything else is 404. Default: `/metrics`.
    metrics_server_options& path(std::string path) {
        path_ = std::move(path);
        return *this;
    }
    /// Connections at a time, 1 to 10,000; default 16. Further ones wait to be accepted.
    metrics_server_options& max_connections(std::size_t n) {
        tidegate::detail::check_option<std::size_t>("metrics_server max_connections", n, 1, 10'000);
        max_connections_ = n;
        return *this;
    }
    /// How long a client may take to send a request, or to take the answer, 1 ms to 1 h; default
    /// 10 s.
    metrics_server_options& time_limit(std::chrono::milliseconds time) {
        tidegate::detail::check_option<std::int64_t>("metrics_server time_limit in ms",
                                                     time.count(), 1, 3'600'000);
        time_limit_ = time;
        return *this;
    }

    std::string const& path() const noexcept { return path_; }
    std::size_t max_connections() const noexcept { return max_connections_; }
    std::chrono::milliseconds time_limit() const noexcept { return time_limit_; }

private:
    std::string path_ = "/metrics";
    std::size_t max_connections_ = 16;
    std::chrono::milliseconds time_limit_ = std::chrono::seconds(10);
};

/// The answer to a request for metrics: OpenMetrics where the client asks for it, else Prometheus'
/// text; 404 for another path, 405 for methods other than GET and HEAD. For servers of one's own.
template <class Body>
boost::beast::http::response<boost::beast::http::string_body>
answer_metrics(boost::beast::http::request<Body> const& request, metrics_registry const& registry,
               std::string_view path = "/metrics") {
    namespace beast = boost::beast::http;
    beast::response<beast::string_body> response{beast::status::ok, request.version()};
    response.keep_alive(request.keep_alive());
    std::string_view const target(request.target().data(), request.target().size());
    auto const refuse = [&](beast::status status, char const* why) {
        response.result(status);
        response.set(beast::field::content_type, "text/plain; charset=utf-8");
        response.body() = why;
    };
    if (target.substr(0, target.find('?')) != path) {
        refuse(beast::status::not_found, "not found\n");
    } else if (request.method() != beast::verb::get && request.method() != beast::verb::head) {
        refuse(beast::status::method_not_allowed, "GET or HEAD only\n");
        response.set(beast::field::allow, "GET, HEAD");
    } else {
        auto const accept = request[beast::field::accept];
        bool const open =
            std::string_view(accept.data(), accept.size()).find("application/openmetrics-text") !=
            std::string_view::npos;
        auto const type = open ? open_metrics_type : prometheus_text_type;
        response.set(beast::field::content_type, {type.data(), type.size()});
        auto const families = registry.collect();
        response.body() = open ? to_open_metrics(families) : to_prometheus_text(families);
    }
    response.prepare_payload();
    if (request.method() == beast::verb::head) response.body().clear();
    return response;
}

namespace detail {

struct metrics_session {
    boost::beast::tcp_stream stream;
    metrics_registry const& registry;
    metrics_server_options const& settings;
    basic_permit<std::chrono::steady_clock, boost::asio::any_io_executor, std::mutex> place;

    static boost::asio::awaitable<void> run(std::shared_ptr<metrics_session> self) {
        namespace beast = boost::beast::http;
        constexpr auto token = boost::asio::as_tuple(boost::asio::deferred);
        boost::beast::flat_buffer buffer(std::size_t{16} * 1024); // a longer header is refused
        for (bool more = true; more;) {
            beast::request<beast::empty_body> request;
            self->stream.expires_after(self->settings.time_limit());
            auto reading = beast::async_read(self->stream, buffer, request, token);
            auto const arrived = co_await std::move(reading);
            if (std::get<0>(arrived)) break;
            auto const response = answer_metrics(request, self->registry, self->settings.path());
            more = response.keep_alive();
            self->stream.expires_after(self->settings.time_limit());
            auto writing = beast::async_write(self->stream, response, token);
            auto const sent = co_await std::move(writing);
            if (std::get<0>(sent)) break;
        }
        boost::system::error_code ec; // the client may be gone
        ec = self->stream.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_both, ec);
    }
};

inline boost::asio::awaitable<void> accept_metrics_clients(task_scope& scope,
                                                           boost::asio::ip::tcp::acceptor& acceptor,
                                                           semaphore& places,
                                                           metrics_registry const& registry,
                                                           metrics_server_options const& settings) {
    for (;;) {
        auto place = co_await places.acquire();
        auto accepting = acceptor.async_accept(boost::asio::deferred);
        boost::beast::tcp_stream stream(co_await std::move(accepting));
        auto session = std::make_shared<metrics_session>(
            metrics_session{std::move(stream), registry, settings, std::move(place)});
        scope.spawn([session] { return metrics_session::run(session); });
    }
}

} // namespace detail

/// Answers HTTP requests on `acceptor` until it is cancelled, or the acceptor fails, which it
/// throws. By then all connections are closed.
///
///     tcp::acceptor acceptor(context, {tcp::v4(), 9100});
///     co_spawn(context, tidegate::http::serve_metrics(std::move(acceptor), registry), detached);
///
/// Runs on the acceptor's executor, where metrics are collected too: some microseconds for each
/// histogram and thread. The registry has to outlive it. Clients that send what is no request, or
/// nothing in time, are hung up on.
inline boost::asio::awaitable<void> serve_metrics(boost::asio::ip::tcp::acceptor acceptor,
                                                  metrics_registry const& registry,
                                                  metrics_server_options settings = {}) {
    semaphore places(acceptor.get_executor(), settings.max_connections());
    auto accept = [&](task_scope& scope) {
        return detail::accept_metrics_clients(scope, acceptor, places, registry, settings);
    };
    co_await with_scope(std::ref(accept));
}

} // namespace http
TIDEGATE_END_NAMESPACE
