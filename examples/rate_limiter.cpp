// SPDX-License-Identifier: BSL-1.0
// Twelve requests against a limit of five a second with bursts of three: some go at once, some wait
// in line, and those that would wait too long are refused before they wait at all.
#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/rate_limiter.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>

#include <chrono>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

//! [request]
asio::awaitable<void> request(tidegate::rate_limiter& limiter, int number,
                              std::chrono::steady_clock::time_point start) {
    tidegate::error_code ec;
    co_await limiter.async_acquire_for(1s, asio::redirect_error(asio::deferred, ec));
    auto const ms = (std::chrono::steady_clock::now() - start) / 1ms;
    std::cout << "request " << number << ": " << (ec ? ec.message() : "goes") << " after " << ms
              << " ms\n";
}
//! [request]

int main() {
    asio::io_context io;
    //! [limit]
    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(5, 1s).burst(3));
    auto const start = std::chrono::steady_clock::now();
    for (int i = 1; i <= 12; ++i) asio::co_spawn(io, request(limiter, i, start), asio::detached);
    //! [limit]
    io.run();

    // A limit for each tenant, and what a refusal knows.
    //! [tenants]
    tidegate::keyed_rate_limiter<std::string> tenants(
        tidegate::keyed_rate_limiter_options<std::string>().rate(1, 1min).burst(2));
    for (std::string const tenant : {"ann", "ann", "ann", "bob"}) {
        if (auto const decision = tenants.try_acquire(tenant)) std::cout << tenant << ": welcome\n";
        else std::cout << tenant << ": come back in " << decision.retry_after() / 1s << " s\n";
    }
    //! [tenants]
}
