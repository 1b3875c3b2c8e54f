// SPDX-License-Identifier: BSL-1.0
// What a breaker believes while several threads report at once.
#include <tidegate/circuit_breaker.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

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

TEST_CASE("threads that race for the probes get as many as permitted, and no more", "[stress]") {
    circuit_breaker b(tidegate::circuit_breaker_options()
                          .open_duration(std::chrono::nanoseconds(1))
                          .permitted_probes(2)
                          .probe_timeout(std::chrono::hours(24)));
    b.trip();
    std::atomic<int> out{0}, most{0}, granted{0};
    auto race = [&] {
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            auto probe = b.try_acquire();
            if (!probe) continue;
            int const now_out = ++out;
            for (int seen = most; seen < now_out && !most.compare_exchange_weak(seen, now_out);) {
            }
            ++granted;
            if (i % 4 == 0) std::this_thread::yield();
            --out;
            probe.ignore(); // no evidence: it stays half open
        }
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) threads.emplace_back(race);
    for (auto& thread : threads) thread.join();
    CHECK(b.state() == breaker_state::half_open);
    CHECK(most <= 2);
    CHECK(granted > 0);
    b.try_acquire().success();
    b.try_acquire().success();
    CHECK(b.state() == breaker_state::closed);
}
