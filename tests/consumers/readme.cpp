// SPDX-License-Identifier: BSL-1.0
// Six requests to a service that must not see more than two at once.
#include <tidegate/semaphore.hpp>

#include <boost/asio.hpp>
#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

// A request to a service that must not see more than two at once.
asio::awaitable<void> request(tidegate::semaphore& places, int id) {
    auto place = co_await places.acquire(); // waits in line while two others are out
    asio::steady_timer service(places.get_executor(), 10ms);
    co_await service.async_wait(asio::deferred);
    std::cout << "request " << id << " done, " << places.waiting() << " in line\n";
} // the place is free again, whatever happened above

int main() {
    asio::io_context io;
    tidegate::semaphore places(io, 2);
    for (int id = 1; id <= 6; ++id) asio::co_spawn(io, request(places, id), asio::detached);
    io.run();
}
