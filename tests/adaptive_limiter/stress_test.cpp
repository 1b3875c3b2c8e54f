// SPDX-License-Identifier: BSL-1.0
// Many threads on one adaptive limiter: never above the limit, nothing lost.
#include <tidegate/adaptive_limiter.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using tidegate::adaptive_limiter;
using tidegate::adaptive_limiter_options;
using tidegate::concurrency_limit_options;
using tidegate::limit_algorithm;
using tidegate::priority;
using permit = adaptive_limiter::permit;

namespace {

constexpr std::uint32_t largest = 24;

adaptive_limiter_options options(limit_algorithm algorithm) {
    return adaptive_limiter_options()
        .limit(concurrency_limit_options().algorithm(algorithm).initial(8).largest(largest))
        .window_samples(10);
}

void give(permit& p, std::size_t verdict, adaptive_limiter::time_point start) {
    switch (verdict) {
    case 0: p.dropped(); break;
    case 1: p.ignore(); break;
    default: p.success(start + std::chrono::microseconds(verdict % 50));
    }
}

} // namespace

TEST_CASE("racing callers are never above the largest limit, and every permit comes back",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        for (auto const algorithm :
             {limit_algorithm::gradient, limit_algorithm::vegas, limit_algorithm::aimd}) {
            adaptive_limiter l(options(algorithm));
            std::atomic<std::uint32_t> inside{0}, most{0};
            std::atomic<std::uint64_t> refused{0};
            auto const body = [&](std::uint64_t own_seed) {
                test::random random(own_seed);
                std::vector<permit> held;
                std::size_t const steps = test::schedules() / 2;
                for (std::size_t i = 0; i < steps; ++i) {
                    auto const now =
                        std::chrono::steady_clock::time_point(std::chrono::microseconds(i));
                    if (test::below(random, 2) == 0 || held.empty()) {
                        auto const p = static_cast<priority>(test::below(random, 3));
                        if (permit got = l.try_acquire(p, now)) {
                            std::uint32_t const in = ++inside;
                            std::uint32_t seen = most;
                            while (seen < in && !most.compare_exchange_weak(seen, in)) {
                            }
                            held.push_back(std::move(got));
                        } else {
                            ++refused;
                        }
                    } else {
                        --inside;
                        give(held.back(), test::below(random, 300), now);
                        held.pop_back();
                    }
                }
                inside -= static_cast<std::uint32_t>(held.size());
            };
            std::vector<std::thread> threads;
            for (std::uint64_t t = 0; t < 6; ++t) threads.emplace_back(body, seed + t);
            for (auto& t : threads) t.join();
            CHECK(l.in_flight() == 0);
            CHECK(most <= largest);
            CHECK(l.limit() >= 1);
            CHECK(l.limit() <= largest);
            CHECK(l.statistics().refused == refused);
            CHECK(l.statistics().windows > 0);
        }
    }
}

TEST_CASE("permits that race with the limiter's end keep its state") {
    for (int round = 0; round < 300; ++round) {
        auto l = std::make_unique<adaptive_limiter>(options(limit_algorithm::gradient));
        std::vector<permit> taken;
        for (int i = 0; i < 4; ++i) taken.push_back(l->try_acquire(priority::high));
        std::vector<std::thread> threads;
        for (permit& p : taken)
            threads.emplace_back([mine = std::move(p)]() mutable { mine.success(); });
        l.reset();
        for (auto& t : threads) t.join();
    }
}
