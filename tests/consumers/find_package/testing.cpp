// SPDX-License-Identifier: BSL-1.0
// A program that tests a service: it moves the time itself.
#include <tidegate/rate_limiter.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

int main() {
    boost::asio::io_context io;
    tidegate::basic_rate_limiter<tidegate::testing::manual_clock> limiter(
        io, tidegate::rate_limiter_options().rate(1, 1h));
    int granted = 0;
    for (int i = 0; i < 3; ++i) {
        limiter.async_acquire([&](tidegate::error_code ec) { granted += ec ? 0 : 1; });
    }
    io.poll();
    int const at_once = granted;
    tidegate::testing::manual_clock::advance(1h);
    io.poll();
    std::printf("%d at once, %d after an hour that took no time\n", at_once, granted - at_once);
    return at_once == 1 && granted == 2 ? 0 : 1;
}
