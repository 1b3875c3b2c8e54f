// SPDX-License-Identifier: BSL-1.0
// A program compiled with the tracking header: every handler is watched, whatever its executor.
#include <tidegate/stall_detector.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <functional>
#include <stdexcept>

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;

namespace {

/// A stall that lasts until it is reported.
struct watch {
    std::atomic<bool> found{false};
    tidegate::stall_detector detector{
        tidegate::stall_detector_options().threshold(5ms).on_stall([this](tidegate::stall const&) {
            found = true;
            found.notify_all();
        })};

    void stall() { found.wait(false); }
};

} // namespace

TEST_CASE("handlers of every kind are watched") {
    watch w;
    asio::io_context io{1};
    SECTION("posted") {
        asio::post(io, [&] { w.stall(); });
    }
    SECTION("a timer's") {
        asio::steady_timer timer(io, 1ms);
        timer.async_wait([&](boost::system::error_code) { w.stall(); });
        io.run();
    }
    SECTION("a socket's") {
        tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
        tcp::socket client(io), server(io);
        acceptor.async_accept(server, [&](boost::system::error_code) { w.stall(); });
        client.async_connect(acceptor.local_endpoint(), [](boost::system::error_code) {});
        io.run();
    }
    SECTION("a coroutine's") {
        auto body = [&]() -> asio::awaitable<void> {
            asio::steady_timer timer(co_await asio::this_coro::executor, 1ms);
            co_await timer.async_wait(asio::deferred);
            w.stall();
        };
        asio::co_spawn(io, body(), asio::detached);
        io.run();
    }
    SECTION("a thread pool's") {
        asio::thread_pool pool(2);
        asio::post(pool, [&] { w.stall(); });
        pool.join();
    }
    io.run();
    CHECK(w.found);
}

TEST_CASE("a handler that throws has ended") {
    watch w;
    asio::io_context io{1};
    asio::post(io, [] { throw std::domain_error("x"); });
    CHECK_THROWS_AS(io.run(), std::domain_error);
    CHECK((tidegate::detail::this_thread_activity->sequence & 1) == 0);
}
