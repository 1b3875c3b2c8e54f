// SPDX-License-Identifier: BSL-1.0
// Two coroutines share a connection: when one fails the other is cancelled, and the connection is
// closed before anybody hears of it.
#include <tidegate/sleep.hpp>
#include <tidegate/task_scope.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::sleep_for;

struct connection {
    asio::awaitable<void> connect() {
        co_await sleep_for(5ms);
        std::cout << "connected\n";
    }
    asio::awaitable<void> close() {
        co_await sleep_for(5ms); // goes on although everything else was cancelled
        std::cout << "closed\n";
    }
    asio::awaitable<void> read() {
        for (int i = 1; i <= 3; ++i) {
            co_await sleep_for(20ms);
            std::cout << "read " << i << "\n";
        }
        throw std::runtime_error("the other side went away");
    }
    asio::awaitable<void> keep_alive() {
        try {
            for (;;) co_await sleep_for(1h);
        } catch (boost::system::system_error const&) {
            std::cout << "keep-alive cancelled\n";
            throw;
        }
    }
};

//! [scope]
asio::awaitable<void> run() {
    connection c;
    auto const talk = [&c](tidegate::task_scope& scope) -> asio::awaitable<void> {
        co_await c.connect();
        scope.on_exit([&c] { return c.close(); });
        scope.spawn([&c] { return c.read(); });
        scope.spawn([&c] { return c.keep_alive(); });
    };
    try {
        co_await tidegate::with_scope(talk);
    } catch (std::exception const& e) {
        std::cout << "over: " << e.what() << "\n";
    }
}
//! [scope]

int main() {
    asio::io_context io;
    asio::co_spawn(io, run(), asio::detached);
    io.run();
}
