// SPDX-License-Identifier: BSL-1.0
// Real connections to a server of metrics.
#include <tidegate/http/metrics_server.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <exception>
#include <string>
#include <thread>

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A server on a thread of its own.
class server {
public:
    explicit server(tidegate::http::metrics_server_options settings = {}) {
        registry.counter("requests", "Requests").increment(7);
        tcp::acceptor acceptor(context_, {asio::ip::address_v4::loopback(), 0});
        endpoint = acceptor.local_endpoint();
        asio::co_spawn(context_,
                       tidegate::http::serve_metrics(std::move(acceptor), registry, settings),
                       asio::bind_cancellation_slot(signal_.slot(),
                                                    [this](std::exception_ptr e) { ended = e; }));
        thread_ = std::thread([this] { context_.run(); });
    }
    ~server() { stop(); }

    /// Returns when every connection has ended.
    void stop() {
        if (!thread_.joinable()) return;
        asio::post(context_, [this] { signal_.emit(asio::cancellation_type::all); });
        thread_.join();
    }

    tidegate::metrics_registry registry;
    tcp::endpoint endpoint;
    std::exception_ptr ended;

private:
    asio::io_context context_{1};
    asio::cancellation_signal signal_;
    std::thread thread_;
};

struct client {
    asio::io_context context;
    tcp::socket socket{context};
    beast::flat_buffer buffer;

    explicit client(server const& to) { socket.connect(to.endpoint); }

    beast::http::response<beast::http::string_body>
    ask(beast::http::verb method, std::string const& target, std::string const& accept = "") {
        beast::http::request<beast::http::empty_body> request{method, target, 11};
        request.set(beast::http::field::host, "localhost");
        if (!accept.empty()) request.set(beast::http::field::accept, accept);
        beast::http::write(socket, request);
        beast::http::response_parser<beast::http::string_body> parser;
        parser.skip(method == beast::http::verb::head);
        beast::http::read(socket, buffer, parser);
        return parser.release();
    }

    /// Whether the other side hangs up.
    bool is_hung_up() {
        boost::system::error_code ec;
        char byte;
        asio::read(socket, asio::buffer(&byte, 1), ec);
        return ec == asio::error::eof || ec == asio::error::connection_reset;
    }
};

using beast::http::field;
using beast::http::verb;

} // namespace

TEST_CASE("metrics are served in the format that is asked for, on one connection") {
    server s;
    client c(s);
    auto const text = c.ask(verb::get, "/metrics");
    CHECK(text.result_int() == 200);
    CHECK(text[field::content_type] == "text/plain; version=0.0.4; charset=utf-8");
    CHECK_THAT(text.body(), ContainsSubstring("requests_total 7\n"));
    CHECK_THAT(text.body(), !ContainsSubstring("# EOF"));
    auto const open =
        c.ask(verb::get, "/metrics?x=1", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    CHECK(open[field::content_type] ==
          "application/openmetrics-text; version=1.0.0; charset=utf-8");
    CHECK(open.body().ends_with("# EOF\n"));
    auto const head = c.ask(verb::head, "/metrics");
    CHECK(head.result_int() == 200);
    CHECK(head.body().empty());
    CHECK(std::stoul(std::string(head[field::content_length])) == text.body().size());
    CHECK(c.ask(verb::get, "/").result_int() == 404);
    CHECK(c.ask(verb::post, "/metrics").result_int() == 405);
}

TEST_CASE("metrics may be at another path, and then are at no other") {
    server s(tidegate::http::metrics_server_options().path("/internal/metrics"));
    client c(s);
    CHECK_THAT(c.ask(verb::get, "/internal/metrics").body(), ContainsSubstring("requests_total 7"));
    CHECK(c.ask(verb::get, "/metrics").result_int() == 404);
}

TEST_CASE("who sends nothing in time, nonsense or too much is hung up on") {
    server s(tidegate::http::metrics_server_options().time_limit(50ms));
    client silent(s), noisy(s), large(s);
    asio::write(noisy.socket, asio::buffer(std::string("this is not HTTP\r\n\r\n")));
    boost::system::error_code ec; // it may hang up before all is sent
    asio::write(large.socket,
                asio::buffer("GET /metrics HTTP/1.1\r\nx: " + std::string(100'000, 'x')), ec);
    CHECK(silent.is_hung_up());
    CHECK(noisy.is_hung_up());
    CHECK(large.is_hung_up());
    // Others are served, unless the machine holds them up for as long.
    auto const is_served = [&] {
        try {
            return client(s).ask(verb::get, "/metrics").result_int() == 200;
        } catch (boost::system::system_error const&) {
            return false;
        }
    };
    while (!is_served()) {
    }
}

TEST_CASE("more connections than allowed wait for their turn") {
    server s(tidegate::http::metrics_server_options().max_connections(1));
    auto first = std::make_unique<client>(s);
    CHECK(first->ask(verb::get, "/metrics").result_int() == 200);
    client second(s);
    std::thread leaves([&] { first.reset(); });
    CHECK(second.ask(verb::get, "/metrics").result_int() == 200);
    leaves.join();
}

TEST_CASE("cancelled, it closes its connections and ends") {
    server s;
    client idle(s);
    CHECK(idle.ask(verb::get, "/metrics").result_int() == 200);
    s.stop();
    CHECK(idle.is_hung_up());
    REQUIRE(s.ended);
    CHECK_THROWS_AS(std::rethrow_exception(s.ended), boost::system::system_error);
}

TEST_CASE("options out of range are refused") {
    using tidegate::http::metrics_server_options;
    CHECK_THROWS_AS(metrics_server_options().max_connections(0), std::invalid_argument);
    CHECK_THROWS_AS(metrics_server_options().time_limit(0ms), std::invalid_argument);
}
