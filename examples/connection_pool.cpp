// SPDX-License-Identifier: BSL-1.0
// Twenty requests over three keep-alive connections to a server that hangs up now and then.
#include <tidegate/connection_pool.hpp>
#include <tidegate/task_scope.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <iostream>
#include <string>
#include <utility>

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using sessions = tidegate::connection_pool<tcp::socket>;

// The server: five answers for each connection, then it hangs up.
asio::awaitable<void> serve(tcp::socket socket) {
    boost::beast::flat_buffer buffer;
    for (int answers = 0; answers < 5; ++answers) {
        http::request<http::empty_body> request;
        auto [failed, bytes] =
            co_await http::async_read(socket, buffer, request, asio::as_tuple(asio::deferred));
        if (failed) co_return;
        http::response<http::string_body> response{http::status::ok, request.version()};
        response.keep_alive(true);
        response.body() = "answer to " + std::string(request.target());
        response.prepare_payload();
        co_await http::async_write(socket, response, asio::deferred);
    }
}

asio::awaitable<void> listen(tcp::acceptor& acceptor, int& accepted) {
    for (;;) {
        auto result = co_await acceptor.async_accept(asio::as_tuple(asio::deferred));
        auto& [failed, socket] = result;
        if (failed) co_return;
        ++accepted;
        asio::co_spawn(acceptor.get_executor(), serve(std::move(socket)), asio::detached);
    }
}

asio::awaitable<bool> exchange(tcp::socket& socket, std::string const& target, std::string& body) {
    http::request<http::empty_body> request{http::verb::get, target, 11};
    request.keep_alive(true);
    boost::beast::flat_buffer buffer;
    http::response<http::string_body> response;
    auto [not_sent, sent] =
        co_await http::async_write(socket, request, asio::as_tuple(asio::deferred));
    if (not_sent) co_return false;
    auto [not_read, read] =
        co_await http::async_read(socket, buffer, response, asio::as_tuple(asio::deferred));
    body = response.body();
    co_return !not_read;
}

//! [fetch]
// A connection that the server has closed meanwhile is discarded, and the request made on another.
asio::awaitable<void> fetch(sessions& all, std::string target) {
    std::string body;
    for (int attempt = 0; attempt < 4; ++attempt) {
        auto connection = co_await all.acquire();
        bool const answered = co_await exchange(*connection, target, body);
        if (answered) break;
        connection.discard();
    }
    std::cout << body << "\n";
}
//! [fetch]

asio::awaitable<void> run(sessions& all, tcp::acceptor& acceptor) {
    auto everything = [&](tidegate::task_scope& scope) -> asio::awaitable<void> {
        for (int i = 0; i < 20; ++i) {
            scope.spawn([&all, i] { return fetch(all, "/" + std::to_string(i)); });
        }
        co_return;
    };
    co_await tidegate::with_scope(everything);
    auto const counted = all.statistics();
    std::cout << counted.connected << " connections opened, " << counted.discarded << " discarded, "
              << counted.open << " open\n";
    all.close();
    acceptor.close();
}

int main() {
    asio::io_context io{1};
    tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
    //! [pool]
    auto connect = [&]() -> asio::awaitable<tcp::socket> {
        tcp::socket socket(io);
        co_await socket.async_connect(acceptor.local_endpoint(), asio::deferred);
        co_return socket;
    };
    auto check = [](tcp::socket& socket) -> asio::awaitable<bool> { co_return socket.is_open(); };
    sessions all(io, tidegate::connection_pool_options{}.max_size(3), connect, check);
    //! [pool]
    int accepted = 0;
    asio::co_spawn(io, listen(acceptor, accepted), asio::detached);
    asio::co_spawn(io, run(all, acceptor), asio::detached);
    io.run();
}
