// SPDX-License-Identifier: BSL-1.0
// A channel read as a stream, with the newest values kept when the reader is slow.
#include <tidegate/as_generator.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

asio::awaitable<void> measure(tidegate::channel<int>& values) {
    for (int i = 1; i <= 20; ++i) {
        co_await values.send(i); // never waits: the oldest value makes room
        co_await tidegate::sleep_for(2ms);
    }
    values.close();
}

//! [generator]
asio::awaitable<void> show(tidegate::channel<int>& values) {
    auto stream = tidegate::as_generator(values);
    while (auto value = co_await stream.async_resume(asio::deferred)) {
        std::cout << *value << " ";
        co_await tidegate::sleep_for(7ms);
    }
    std::cout << "- " << values.dropped() << " were dropped\n";
}
//! [generator]

int main() {
    asio::io_context io{1};
    //! [newest]
    auto const newest =
        tidegate::channel_options<int>().capacity(2).mode(tidegate::channel_mode::drop_oldest);
    tidegate::channel<int> values(io, newest);
    //! [newest]
    asio::co_spawn(io, measure(values), asio::detached);
    asio::co_spawn(io, show(values), asio::detached);
    io.run();
}
