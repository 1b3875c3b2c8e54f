// SPDX-License-Identifier: BSL-1.0
// A fast producer and a slow consumer: the channel makes the producer wait.
#include <tidegate/channel.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

//! [channel]
asio::awaitable<void> produce(tidegate::channel<std::string>& lines) {
    for (int i = 0; i < 8; ++i) {
        co_await lines.send("line " + std::to_string(i));
        std::cout << "sent " << i << ", " << lines.size() << " in the buffer\n";
    }
    lines.close(); // what is in the buffer is still received
}
//! [channel]

asio::awaitable<void> consume(tidegate::channel<std::string>& lines) {
    asio::steady_timer pause(co_await asio::this_coro::executor);
    while (auto line = co_await lines.receive()) {
        std::cout << "  got " << *line << "\n";
        pause.expires_after(20ms);
        co_await pause.async_wait(asio::deferred);
    }
}

int main() {
    asio::io_context io;
    tidegate::channel<std::string> lines(io, 2);
    asio::co_spawn(io, produce(lines), asio::detached);
    asio::co_spawn(io, consume(lines), asio::detached);
    io.run();
}
