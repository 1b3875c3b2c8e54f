// SPDX-License-Identifier: BSL-1.0
// Ten downloads, at most three at a time, none waiting for longer than a second.
#include <tidegate/semaphore.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

//! [download]
asio::awaitable<void> download(tidegate::semaphore& slots, int number) {
    tidegate::error_code ec;
    auto permit = co_await slots.async_acquire_for(1s, asio::redirect_error(asio::deferred, ec));
    if (ec) {
        std::cout << number << ": " << ec.message() << "\n";
        co_return;
    }
    std::cout << number << " starts, " << slots.waiting() << " wait\n";
    asio::steady_timer work(co_await asio::this_coro::executor, 50ms);
    co_await work.async_wait(asio::deferred);
} // the permit goes back
//! [download]

int main() {
    asio::io_context io;
    tidegate::semaphore slots(io, 3);
    for (int i = 0; i < 10; ++i) asio::co_spawn(io, download(slots, i), asio::detached);
    io.run();
}
