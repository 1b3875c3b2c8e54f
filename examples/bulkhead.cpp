// SPDX-License-Identifier: BSL-1.0
// A slow service behind a bulkhead: twice as many requests come as it can serve, half of them are
// turned away early, and the others are served soon.
#include <tidegate/semaphore.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <iostream>
#include <map>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

// How often each ending came about.
using endings = std::map<std::string, int>;

asio::awaitable<void> request(tidegate::semaphore& slots, endings& ended) {
    tidegate::error_code ec;
    auto permit = co_await slots.acquire(ec);
    if (ec) {
        ++ended[ec.message()];
        co_return;
    }
    asio::steady_timer work(co_await asio::this_coro::executor, 10ms);
    co_await work.async_wait(asio::deferred);
    ++ended["served"];
} // the permit goes back

asio::awaitable<void> offer(int requests, tidegate::semaphore& slots, endings& ended) {
    asio::steady_timer pace(co_await asio::this_coro::executor, std::chrono::steady_clock::now());
    for (int i = 0; i < requests; ++i) {
        asio::co_spawn(pace.get_executor(), request(slots, ended), asio::detached);
        pace.expires_at(pace.expiry() + 1250us);
        co_await pace.async_wait(asio::deferred);
    }
    slots.resize(8); // a second server: what still waits is served twice as fast
}

int main() {
    asio::io_context io;
    //! [bulkhead]
    auto const options =
        tidegate::semaphore_options().capacity(4).max_waiters(100).max_wait(50ms).order(
            tidegate::queue_order::newest_first_under_overload);
    tidegate::semaphore slots(io, options);
    //! [bulkhead]
    endings ended;
    asio::co_spawn(io, offer(800, slots, ended), asio::detached);
    io.run();

    for (auto const& [ending, times] : ended) std::cout << ending << ": " << times << "\n";
    auto const told = slots.statistics();
    auto const waited = static_cast<long>(told.granted_after_waiting);
    if (waited == 0) return 0;
    std::cout << waited << " waited for their slot, "
              << std::chrono::duration<double, std::milli>(told.total_wait).count() /
                     static_cast<double>(waited)
              << " ms in the mean; at most " << told.peak_waiting << " at once\n";
}
