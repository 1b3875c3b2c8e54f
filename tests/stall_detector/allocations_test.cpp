// SPDX-License-Identifier: BSL-1.0
// What is watched when memory ends: less.
#include <tidegate/stall_detector.hpp>
#include <tidegate/watched_executor.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <chrono>
#include <cstddef>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace asio = boost::asio;

TEST_CASE("a thread that finds no memory to be watched with runs its handlers all the same") {
    bool refused = false, ran = false, was_watched = true;
    std::latch may_end(1);
    std::vector<std::jthread> threads; // each adds to what is kept of all of them
    while (!refused && threads.size() < 1000) {
        auto const done = std::make_shared<std::latch>(1);
        threads.emplace_back([&, done] {
            {
                asio::io_context io{1};
                ran = false;
                asio::post(tidegate::watched(io.get_executor(), "loop"), [&] {
                    was_watched = tidegate::detail::this_thread_activity != nullptr;
                    ran = true;
                });
                test::fail_allocation(1);
                io.run();
                refused = test::until_failure() == 0;
                test::fail_allocation(0);
            }
            done->count_down();
            may_end.wait();
        });
        done->wait();
        CHECK(ran);
        CHECK(was_watched == !refused);
    }
    may_end.count_down();
    CHECK(refused);
}

TEST_CASE("what cannot be read about a thread for want of memory is not known") {
    tidegate::detail::activity_slot const mine;
    for (std::size_t n = 1; n <= 3; ++n) {
        test::fail_allocation(n);
        auto const times = tidegate::detail::read_thread_times(mine);
        test::fail_allocation(0);
        CHECK(times.computing > std::chrono::nanoseconds(0));
        CHECK(times.waiting_to_run >= std::chrono::nanoseconds(0));
    }
}
