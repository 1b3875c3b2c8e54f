// SPDX-License-Identifier: BSL-1.0
// What a breaker believes while several threads report at once.
#include <tidegate/circuit_breaker.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <thread>

using tidegate::breaker_state;
using tidegate::circuit_breaker;

TEST_CASE("the first failures after many successes do not trip it, whoever reports them") {
    int tripped = 0;
    for (int round = 0; round < 200; ++round) {
        circuit_breaker b(
            tidegate::circuit_breaker_options().count_window(20'000).minimum_calls(1).failure_rate(
                0.1));
        for (int i = 0; i < 20'000; ++i) b.try_acquire().success();
        std::atomic<int> ready{0};
        auto fail = [&] {
            ++ready;
            while (ready < 2) {
            }
            for (int i = 0; i < 3; ++i) b.try_acquire().failure();
        };
        std::thread other(fail);
        fail();
        other.join();
        tripped += b.state() != breaker_state::closed; // 6 of 20,000 are 0.03 per cent
        CHECK(b.counts().failures == 6);
    }
    CHECK(tripped == 0);
}
