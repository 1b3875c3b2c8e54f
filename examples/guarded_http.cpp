// SPDX-License-Identifier: BSL-1.0
// An HTTP client against a server that misbehaves: slow, overloaded, or gone in the middle of an
// answer. Every layer says what it does about it.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/instrument.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

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
#include <cstdio>
#include <map>
#include <optional>
#include <string>

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using namespace std::chrono_literals;

// The server
// ---------------------------------------------------------------------------------------

asio::awaitable<void> serve(tcp::socket socket, int number) {
    boost::beast::flat_buffer buffer;
    http::request<http::empty_body> request;
    co_await http::async_read(socket, buffer, request, asio::deferred);
    http::response<http::string_body> response{http::status::ok, request.version()};
    response.body() = "answer " + std::to_string(number);
    switch (number % 7) {
    case 2: { // slower than anybody waits
        asio::steady_timer nap(socket.get_executor(), 2s);
        co_await nap.async_wait(asio::deferred);
        break;
    }
    case 4:
        response.result(http::status::service_unavailable);
        response.set(http::field::retry_after, "0.05");
        break;
    case 5: co_return; // hangs up
    default: break;
    }
    response.prepare_payload();
    co_await http::async_write(socket, response, asio::deferred);
}

asio::awaitable<void> listen(tcp::acceptor& acceptor) {
    for (int number = 1;; ++number) {
        auto result = co_await acceptor.async_accept(asio::as_tuple(asio::deferred));
        auto& [ec, socket] = result;
        if (ec) co_return;
        asio::co_spawn(acceptor.get_executor(), serve(std::move(socket), number), asio::detached);
    }
}

// The client
// ---------------------------------------------------------------------------------------

/// The server says that it has too much to do, and when to come back.
struct server_busy : std::runtime_error {
    explicit server_busy(std::chrono::nanoseconds when)
        : std::runtime_error("503 service unavailable"), retry_after(when) {}
    std::chrono::nanoseconds retry_after;
};

asio::awaitable<std::string> get(tcp::endpoint server) {
    tcp::socket socket(co_await asio::this_coro::executor);
    co_await socket.async_connect(server, asio::deferred);
    http::request<http::empty_body> request{http::verb::get, "/", 11};
    co_await http::async_write(socket, request, asio::deferred);
    boost::beast::flat_buffer buffer;
    http::response<http::string_body> response;
    co_await http::async_read(socket, buffer, response, asio::deferred);
    if (response.result() == http::status::service_unavailable) {
        double const seconds = std::stod(std::string(response[http::field::retry_after]));
        throw server_busy(std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9)));
    }
    co_return std::move(response.body());
}

//! [asked_to_wait]
std::optional<std::chrono::nanoseconds> asked_to_wait(tidegate::failure const& why) {
    try {
        if (why.exception()) std::rethrow_exception(why.exception());
    } catch (server_busy const& busy) {
        return busy.retry_after;
    } catch (std::exception const&) {
        return std::nullopt; // any other failure asks for nothing
    }
    return std::nullopt;
}
//! [asked_to_wait]

std::string what(tidegate::failure const& why) {
    if (why.code()) return why.code().message();
    try {
        why.rethrow();
    } catch (std::exception const& e) {
        return e.what();
    }
}

int main() {
    asio::io_context io;
    tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
    asio::co_spawn(io, listen(acceptor), asio::detached);

    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(500, 1s).burst(10));
    tidegate::semaphore connections(io, 4);
    tidegate::circuit_breaker breaker(
        tidegate::circuit_breaker_options().count_window(20).minimum_calls(10).failure_rate(60));
    std::map<std::string, int> happened;

    //! [fallback]
    auto stale = [&](tidegate::failure const& why) {
        ++happened["fallback: an old answer instead of: " + what(why)];
        return std::string("an old answer");
    };
    //! [fallback]
    //! [policy]
    auto retries = tidegate::retry_options()
                       .max_attempts(4)
                       .base(10ms)
                       .idempotent(true) // a GET
                       .attempt_timeout(100ms)
                       .delay_from(&asked_to_wait)
                       .budget(std::make_shared<tidegate::retry_budget>(0.5, 10))
                       .on_retry([&](tidegate::retry_event const& e) {
                           ++happened["retry: again after: " + what(e.why)];
                       });
    //! [instrument]
    auto per_attempt = [&](tidegate::call_event const& e) {
        ++happened[e.why ? "attempt failed" : "attempt succeeded"];
    };
    //! [instrument]
    tidegate::policy const guarded = tidegate::policy{tidegate::fallback{stale},
                                                      tidegate::timeout{1s},
                                                      tidegate::retry{retries},
                                                      tidegate::instrument{per_attempt},
                                                      breaker,
                                                      limiter,
                                                      connections};
    //! [policy]
    std::printf("%s\n", guarded.describe().c_str());
    for (std::string const& suspicion : guarded.diagnose())
        std::printf("! %s\n", suspicion.c_str());

    int answered = 0;
    int left = 40;
    auto client = [&]() -> asio::awaitable<void> {
        auto call = [&] { return get(acceptor.local_endpoint()); };
        auto const answer = co_await guarded(call);
        if (answer.starts_with("answer")) ++answered;
        if (--left == 0) acceptor.close();
    };
    for (int i = 0; i < 40; ++i) asio::co_spawn(io, client(), asio::detached);
    auto const start = std::chrono::steady_clock::now();
    io.run_until(start + 10s);

    std::printf("\n%d of 40 calls got a fresh answer, all within %lld ms\n", answered,
                static_cast<long long>((std::chrono::steady_clock::now() - start) / 1ms));
    for (auto const& [line, count] : happened) std::printf("%5d  %s\n", count, line.c_str());
    std::printf("breaker is %s\n", std::string(to_string(breaker.state())).c_str());
}
