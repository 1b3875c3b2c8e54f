// SPDX-License-Identifier: BSL-1.0
// A real HTTP server on the loopback interface that takes its time.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <map>
#include <string>
#include <thread>

namespace bench {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

/// Answers `GET /slow` after `delay`, and `GET /jobs/<name>` at once: "pending", or "done" once
/// `delay` has passed since it was first asked for that job. Has a thread of its own.
class slow_server {
public:
    explicit slow_server(std::chrono::nanoseconds delay)
        : delay_(delay), acceptor_(context_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
        asio::co_spawn(context_, listen(), asio::detached);
        thread_ = std::thread([this] { context_.run(); });
    }
    ~slow_server() {
        context_.stop();
        thread_.join();
    }

    tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }

private:
    using clock = std::chrono::steady_clock;

    asio::awaitable<void> listen() {
        for (;;) {
            auto [ec, socket] = co_await acceptor_.async_accept(asio::as_tuple(asio::deferred));
            if (ec) co_return;
            socket.set_option(tcp::no_delay(true));
            asio::co_spawn(context_, serve(std::move(socket)), asio::detached);
        }
    }

    asio::awaitable<void> serve(tcp::socket socket) {
        boost::beast::flat_buffer buffer;
        for (;;) {
            http::request<http::empty_body> request;
            auto reading =
                http::async_read(socket, buffer, request, asio::as_tuple(asio::deferred));
            auto [ec, bytes] = co_await std::move(reading);
            if (ec) co_return;
            http::response<http::string_body> response{http::status::ok, 11};
            if (request.target() == "/slow") {
                asio::steady_timer nap(context_, delay_);
                co_await nap.async_wait(asio::deferred);
            } else {
                response.body() = state_of(std::string(request.target()));
            }
            response.keep_alive(true);
            response.prepare_payload();
            co_await http::async_write(socket, response, asio::deferred);
        }
    }

    std::string state_of(std::string const& job) {
        auto const now = clock::now();
        auto const begun = jobs_.emplace(job, now).first->second;
        return now - begun >= delay_ ? "done" : "pending";
    }

    std::chrono::nanoseconds delay_;
    asio::io_context context_{1};
    tcp::acceptor acceptor_;
    std::map<std::string, clock::time_point> jobs_;
    std::thread thread_;
};

/// A connection to it, for blocking code and for coroutines.
class connection {
public:
    connection(asio::io_context& context, tcp::endpoint server) : socket_(context) {
        socket_.connect(server);
        socket_.set_option(tcp::no_delay(true));
    }

    std::string get(std::string const& target) {
        http::write(socket_, request(target));
        http::response<http::string_body> response;
        http::read(socket_, buffer_, response);
        return std::move(response.body());
    }

    asio::awaitable<std::string> async_get(std::string target) {
        auto const asked = request(target);
        co_await http::async_write(socket_, asked, asio::deferred);
        http::response<http::string_body> response;
        co_await http::async_read(socket_, buffer_, response, asio::deferred);
        co_return std::move(response.body());
    }

private:
    static http::request<http::empty_body> request(std::string const& target) {
        return {http::verb::get, target, 11};
    }

    tcp::socket socket_;
    boost::beast::flat_buffer buffer_;
};

} // namespace bench
