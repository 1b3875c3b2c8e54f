// SPDX-License-Identifier: BSL-1.0
// Step 2 of the quickstart: the service fails now and then, and is down for a while.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
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

namespace asio = boost::asio;
using namespace std::chrono_literals;

int calls = 0;

asio::awaitable<std::string> price_of(int item) {
    int const call = ++calls;
    co_await tidegate::sleep_for(call % 5 == 0 ? 10s : 20ms); // every fifth answer never comes
    if (call > 10 && call < 18) throw boost::system::system_error(asio::error::connection_refused);
    co_return std::to_string(item * 10) + " EUR";
}

asio::awaitable<void> shop(asio::io_context& io) {
    tidegate::semaphore places(io, 3);
    tidegate::circuit_breaker breaker(tidegate::circuit_breaker_options()
                                          .consecutive_failures(4)
                                          .open_duration(200ms)
                                          .permitted_probes(2));
    auto sorry = [](tidegate::failure const& why) { return "ask later: " + why.code().message(); };
    auto retries = tidegate::retry_options().max_attempts(3).base(10ms).idempotent(true);
    retries.attempt_timeout(100ms);

    tidegate::policy guarded{tidegate::fallback{sorry}, tidegate::timeout{1s},
                             tidegate::retry{retries}, breaker, places};
    std::cout << guarded.describe() << "\n";
    for (int item = 1; item <= 20; ++item) {
        auto ask = [item] { return price_of(item); };
        auto answer = co_await guarded(ask);
        std::cout << item << ": " << answer << " (breaker " << to_string(breaker.state()) << ")\n";
    }
}

int main() {
    asio::io_context io{1};
    asio::co_spawn(io, shop(io), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
    std::cout << calls << " calls\n";
}
