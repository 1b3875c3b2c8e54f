// SPDX-License-Identifier: BSL-1.0
// The rules of a concurrency limit, window by window. (tests/adaptive_limiter simulates services.)
#include <tidegate/core/concurrency_limit.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>

using tidegate::concurrency_limit_options;
using tidegate::limit_algorithm;
using tidegate::core::concurrency_limit;
using tidegate::core::latency_baseline;
using tidegate::core::limit_window;

namespace {

// A window of 100 calls that used the limit.
limit_window window(double latency, double in_flight, std::uint32_t drops = 0,
                    std::uint64_t refused = 10) {
    limit_window w;
    w.latency = latency;
    w.samples = 100;
    w.drops = drops;
    w.max_in_flight = static_cast<std::uint32_t>(in_flight);
    w.refused = refused;
    return w;
}

concurrency_limit make(limit_algorithm algorithm, std::uint32_t initial) {
    return concurrency_limit(concurrency_limit_options().algorithm(algorithm).initial(initial));
}

constexpr auto both = {limit_algorithm::gradient, limit_algorithm::vegas};
constexpr auto all = {limit_algorithm::gradient, limit_algorithm::vegas, limit_algorithm::aimd};

} // namespace

TEST_CASE("without a queue a limit that is used grows, and faster the longer there is none") {
    for (auto const algorithm : both) {
        auto limit = make(algorithm, 20);
        limit.update(window(1000, 20, 0, 0)); // the first estimate
        double last = limit.limit();
        CHECK(last > 20);
        limit.update(window(1400, last, 0, 0)); // a queue
        CHECK(limit.limit() < last);
        last = limit.limit();
        double growth = 0;
        for (int i = 0; i < 3; ++i) {
            double const next = limit.update(window(1000, last, 0, 0));
            CHECK(next - last > growth);
            growth = next - last;
            last = next;
        }
    }
}

TEST_CASE("a limit never grows beyond twice the calls that were in flight") {
    for (auto const algorithm : all) {
        auto limit = make(algorithm, 20);
        for (int i = 0; i < 50; ++i) limit.update(window(1000, 8, 0, 0));
        CHECK(limit.limit() == 20);
        for (int i = 0; i < 50; ++i) limit.update(window(1000, 13, 0, 0));
        CHECK(limit.limit() == 26);
    }
}

TEST_CASE("more drops than tolerated shrink a limit, fewer do not") {
    for (auto const algorithm : all) {
        auto limit = make(algorithm, 20);
        limit.update(window(1000, 5, 1, 0));
        CHECK(limit.limit() == 20);
        limit.update(window(1000, 5, 2, 0));
        CHECK(limit.limit() == 18);
        limit_window only_drops = window(0, 5, 100, 0);
        limit.update(only_drops);
        CHECK(std::abs(limit.limit() - 16.2) < 1e-9);
    }
}

TEST_CASE("a limit that kept nobody out does not shrink for a small rise of the latency") {
    for (auto const algorithm : both) {
        auto limit = make(algorithm, 20);
        limit.update(window(1000, 5, 0, 0));
        limit.update(window(1200, 15, 0, 0));
        CHECK(limit.limit() == 20);
        limit.update(window(2000, 15, 0, 0));
        CHECK(limit.limit() < 20);
    }
}

TEST_CASE("a baseline rises when fewer calls do not make it faster") {
    latency_baseline baseline;
    baseline.observe(window(1000, 50));
    baseline.observe(window(5000, 50));
    CHECK(baseline.latency() == 1000);
    baseline.observe(window(5000, 28));
    CHECK(baseline.latency() == 5000);
}

TEST_CASE("a baseline stays when fewer calls make it faster: that was a queue") {
    latency_baseline baseline;
    baseline.observe(window(1000, 50));
    baseline.observe(window(5000, 250));
    baseline.observe(window(2800, 140));
    baseline.observe(window(1400, 70));
    CHECK(baseline.latency() == 1000);
}

TEST_CASE("a baseline follows a much lower latency at once") {
    latency_baseline baseline;
    baseline.observe(window(5000, 50));
    baseline.observe(window(1000, 50));
    CHECK(baseline.latency() == 1000);
}

TEST_CASE("a probe goes on while the latency falls with it, and finds a baseline in a queue") {
    latency_baseline baseline;
    double const best = 50;
    auto const at = [&](double limit) { return window(1000 * std::max(1.0, limit / best), limit); };
    baseline.observe(at(200)); // 4000: made in a queue
    baseline.observe(at(200));
    double limit = baseline.start_probe(at(200), 200);
    REQUIRE(limit == 140);
    int dips = 0;
    while (baseline.probing()) {
        limit = baseline.end_probe(at(limit));
        ++dips;
    }
    CHECK(dips == 5); // 140, 98, 68.6, 48.02 and one that shows no more
    CHECK(baseline.latency() == 1000);
    CHECK(std::abs(limit / best - 1) < 0.2);
}

TEST_CASE("nothing is probed while nobody is refused, and seldom once the baseline is sure") {
    latency_baseline baseline;
    for (int i = 0; i < 100; ++i) {
        baseline.observe(window(1000, 50, 0, 0));
        CHECK(baseline.start_probe(window(1000, 50, 0, 0), 50) == 0);
    }
    int probes = 0;
    for (int i = 0; i < 1000; ++i) {
        baseline.observe(window(1000, 50));
        if (baseline.start_probe(window(1000, 50), 50) == 0) continue;
        ++probes;
        CHECK(baseline.end_probe(window(1000, 35)) == 50);
        CHECK_FALSE(baseline.probing());
    }
    CHECK(probes <= 1000 / 32 + 5);
    CHECK(probes >= 1000 / 32);
}

TEST_CASE("aimd adds one and multiplies") {
    concurrency_limit limit(concurrency_limit_options()
                                .algorithm(limit_algorithm::aimd)
                                .initial(20)
                                .drop_factor(0.5)
                                .latency_threshold(std::chrono::microseconds(2)));
    CHECK(limit.update(window(1000, 20)) == 21);
    CHECK(limit.update(window(2001, 21)) == 10.5);
    CHECK(limit.update(window(1000, 10, 50)) == 5.25);
}

TEST_CASE("whatever a window says, the limit stays within its range") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (auto const algorithm : all) {
            concurrency_limit limit(
                concurrency_limit_options().algorithm(algorithm).initial(1000).smallest(3).largest(
                    500));
            CHECK(limit.limit() == 500);
            double const extremes[] = {0, 1e-300, 1, 1e3, 1e9, 1e300};
            for (int i = 0; i < 20000; ++i) {
                limit_window w;
                w.latency = extremes[test::below(random, 6)];
                w.samples = static_cast<std::uint32_t>(test::below(random, 3) * 2147483647u);
                w.drops = static_cast<std::uint32_t>(test::below(random, 3));
                w.max_in_flight = static_cast<std::uint32_t>(test::below(random, 1000));
                w.refused = test::below(random, 2);
                double const next = limit.update(w);
                if (!(next >= 3 && next <= 500)) FAIL("limit " << next);
            }
        }
    }
}

TEST_CASE("bad concurrency limit options are refused") {
    concurrency_limit_options options;
    double const nan = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(options.initial(0), std::invalid_argument);
    CHECK_THROWS_AS(options.smallest(0), std::invalid_argument);
    CHECK_THROWS_AS(options.largest(1'000'001), std::invalid_argument);
    CHECK_THROWS_AS(options.drop_factor(1), std::invalid_argument);
    CHECK_THROWS_AS(options.drop_tolerance(nan), std::invalid_argument);
    CHECK_THROWS_AS(options.latency_threshold(std::chrono::nanoseconds(-1)), std::invalid_argument);
}
