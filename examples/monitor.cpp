// SPDX-License-Identifier: BSL-1.0
// Where does the time go? Timers that live across co_await, and their percentiles.
#include <tidegate/monitor.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

asio::awaitable<void> request(tidegate::monitor& monitor, int number) {
    auto const whole = monitor.measure("request");
    asio::steady_timer timer(co_await asio::this_coro::executor);
    {
        auto const query = monitor.measure("query");
        timer.expires_after(number % 10 == 0 ? 20ms : 2ms);
        co_await timer.async_wait(asio::deferred);
    }
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::deferred);
}

int main() {
    asio::io_context io;
    tidegate::monitor monitor;
    for (int i = 0; i < 100; ++i) asio::co_spawn(io, request(monitor, i), asio::detached);
    io.run();
    for (auto const& s : monitor.summary()) {
        std::cout << s.name << ": " << s.count << " times, p50 " << s.p50.count() / 1000
                  << " us, p99 " << s.p99.count() / 1000 << " us\n";
    }
}
