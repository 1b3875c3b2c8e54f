// SPDX-License-Identifier: BSL-1.0
// Step 1 of the quickstart: twelve calls of a slow service, three at a time.
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

asio::awaitable<std::string> price_of(int item) { // stands for a call over the network
    co_await tidegate::sleep_for(50ms);
    co_return std::to_string(item * 10) + " EUR";
}

asio::awaitable<void> show(tidegate::semaphore& places, int item) {
    auto place = co_await places.acquire(); // waits in line while three others are out
    auto price = co_await price_of(item);
    std::cout << item << ": " << price << ", " << places.waiting() << " in line\n";
} // the place is free again

int main() {
    asio::io_context io{1};
    tidegate::semaphore places(io, 3);
    for (int item = 1; item <= 12; ++item) asio::co_spawn(io, show(places, item), asio::detached);
    io.run();
}
