// SPDX-License-Identifier: BSL-1.0
// What is written otherwise elsewhere; for docs/migration.md.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/parallel.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/timeout.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

asio::awaitable<std::string> fetch() {
    co_await tidegate::sleep_for(1ms);
    co_return "fetched";
}

asio::awaitable<std::string> pipeline(asio::io_context& io) {
    //! [pipeline]
    tidegate::circuit_breaker breaker(
        tidegate::circuit_breaker_options().failure_rate(50).time_window(30s).minimum_calls(20));
    tidegate::semaphore bulkhead(io, tidegate::semaphore_options().capacity(25).max_waiters(100));
    auto retries = tidegate::retry_options().max_attempts(3).base(200ms);
    tidegate::policy guarded{tidegate::timeout{5s}, tidegate::retry{retries}, breaker, bulkhead};
    auto reply = co_await guarded(fetch);
    //! [pipeline]
    co_return reply;
}

asio::awaitable<std::size_t> gather(std::vector<std::string> const& urls) {
    auto get = [](std::string const& url) -> asio::awaitable<std::size_t> {
        co_await tidegate::sleep_for(1ms);
        co_return url.size();
    };
    //! [gather]
    auto sizes = co_await tidegate::parallel_map(urls, 8, get); // at most eight at a time
    //! [gather]
    co_return sizes.size();
}

//! [mutex]
// Others wait in line, and the loop goes on.
asio::awaitable<void> one_at_a_time(tidegate::semaphore& mutex, std::vector<int>& shared) {
    auto lock = co_await mutex.acquire();
    shared.push_back(1);
    co_await tidegate::sleep_for(1ms);
    shared.push_back(2); // nothing came between
}
//! [mutex]

asio::awaitable<void> all(asio::io_context& io) {
    std::cout << co_await pipeline(io) << "\n";
    std::vector<std::string> const urls{"a", "b", "c"};
    std::cout << co_await gather(urls) << " sizes\n";

    tidegate::semaphore mutex(io, 1);
    std::vector<int> shared;
    auto work = [&](int) { return one_at_a_time(mutex, shared); };
    std::vector<int> const two{1, 2};
    co_await tidegate::parallel_for_each(two, 2, work);
    if (shared != std::vector{1, 2, 1, 2}) throw std::runtime_error("two at a time");
}

} // namespace

int main() {
    asio::io_context io{1};
    asio::co_spawn(io, all(io), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
}
