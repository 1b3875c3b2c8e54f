// SPDX-License-Identifier: BSL-1.0
// What deadlines allocate.
#include <tidegate/semaphore.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>

namespace asio = boost::asio;
using namespace std::chrono_literals;

TEST_CASE("a timer that is set again while its last wait ends allocates nothing") {
    asio::io_context io;
    tidegate::semaphore s(io, 1);
    int granted = 0;
    auto const wait_and_get = [&] {
        auto one = s.try_acquire();
        s.async_acquire_for(
            1h, [&](tidegate::error_code ec, tidegate::semaphore::permit) { granted += !ec; });
        one.release();
        // The handler, behind which the idle timer is cancelled, and no more.
        int const before = granted;
        while (granted == before) io.run_one();
    };
    for (int i = 0; i < 1000; ++i) wait_and_get(); // what is kept for all has its size now
    auto const before = test::allocated();
    for (int i = 0; i < 100; ++i) wait_and_get();
    CHECK(test::allocated() == before);
    CHECK(granted == 1100);
}
