// SPDX-License-Identifier: BSL-1.0
// The program of README.md and the front page: a backend that is slow and fails, behind a policy.
#include <tidegate/tidegate.hpp>

#include <boost/asio.hpp>
#include <iostream>
#include <ranges>

namespace asio = boost::asio;
using namespace std::chrono_literals;

//! [serve]
asio::awaitable<void> serve(asio::io_context& io) {
    int calls = 0;
    auto backend = [&]() -> asio::awaitable<std::string> { // slow, and every third call fails
        co_await tidegate::sleep_for(20ms);
        if (++calls % 3 == 0) throw boost::system::system_error(asio::error::connection_reset);
        co_return "a user";
    };
    tidegate::semaphore connections(io, 4); // what the backend bears
    auto retries = tidegate::retry_options().max_attempts(10).base(5ms).idempotent(true);
    tidegate::policy guarded{tidegate::timeout{2s}, tidegate::retry{retries}, connections};
    tidegate::cache<int, std::string> users(
        io, tidegate::cache_options<int, std::string>().max_entries(1000).time_to_live(5min));

    auto load = [&](int) { return guarded(backend); };
    auto request = [&](int n) -> asio::awaitable<void> {
        co_await users.get_or_load(n % 50, load);
    };
    co_await tidegate::parallel_for_each(std::views::iota(0, 10'000), 100, request);
    std::cout << "10000 requests, no failure, " << calls << " calls of the backend\n";
}
//! [serve]

int main() {
    asio::io_context io{1};
    asio::co_spawn(io, serve(io), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
}
