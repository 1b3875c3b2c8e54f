// SPDX-License-Identifier: BSL-1.0
// The rules of a concurrency limit, window by window. (tests/adaptive_limiter simulates services.)
#include <tidegate/core/concurrency_limit.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

using tidegate::concurrency_limit_options;
using tidegate::limit_algorithm;
using tidegate::core::concurrency_limit;
using tidegate::core::gradient_rule;
using tidegate::core::limit_window;
using tidegate::core::vegas_rule;

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

bool near(double a, double b) { return std::abs(a - b) <= 1e-9 * std::abs(b); }

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

TEST_CASE("a limit says what it was made with") {
    CHECK(make(limit_algorithm::vegas, 20).options().initial() == 20);
    CHECK(make(limit_algorithm::vegas, 20).options().algorithm() == limit_algorithm::vegas);
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

TEST_CASE("aimd adds one and multiplies") {
    concurrency_limit limit(concurrency_limit_options()
                                .algorithm(limit_algorithm::aimd)
                                .initial(20)
                                .drop_factor(0.5)
                                .latency_threshold(std::chrono::microseconds(2)));
    CHECK(limit.update(window(1000, 20)) == 21);
    CHECK(limit.update(window(2001, 21)) == 10.5);
    CHECK(limit.update(window(1000, 10, 50)) == 5.25);
    CHECK(limit.update(window(2000, 5)) == 6.25); // not above the threshold
    CHECK(limit.baseline() == 0);
}

TEST_CASE("without a threshold no latency stops aimd") {
    auto limit = make(limit_algorithm::aimd, 20);
    for (int i = 1; i <= 5; ++i) CHECK(limit.update(window(1000. * i, 20 + i)) == 20 + i);
    CHECK(limit.update(window(0, 25)) == 26);
    CHECK(limit.update(window(1e18, 26)) == 27);
}

TEST_CASE("a limit grows by 5 % after a queue, and twice as much each time, up to 40 %") {
    for (auto const algorithm : both) {
        auto limit = make(algorithm, 100);
        CHECK(near(limit.update(window(1000, 100, 0, 0)), 140)); // no queue is known of yet
        for (int queues = 0; queues < 2; ++queues) {
            double last = limit.limit();
            limit.update(window(1500, last, 0, 0));
            REQUIRE(limit.limit() < last);
            for (double const growth : {1.05, 1.1, 1.2, 1.4, 1.4}) {
                last = limit.limit();
                CHECK(near(limit.update(window(1000, last, 0, 0)), growth * last));
            }
        }
    }
}

TEST_CASE("after drops a limit grows slowly again, also when nothing else ended") {
    for (auto const algorithm : both) {
        for (double const latency : {1000., 0.}) {
            auto limit = make(algorithm, 100);
            limit.update(window(1000, 50, 0, 0));
            CHECK(limit.update(window(latency, 100, 100, 0)) == 90);
            CHECK(near(limit.update(window(1000, 90, 0, 0)), 94.5));
        }
    }
}

TEST_CASE("gradient does not mind 3 % of latency") {
    CHECK_FALSE(gradient_rule::queue_seen(window(1000, 100), 1000));
    CHECK_FALSE(gradient_rule::queue_seen(window(1030, 100), 1000));
    CHECK(gradient_rule::queue_seen(window(1031, 100), 1000));
}

TEST_CASE("gradient shrinks in proportion to the latency, by half of that if it is little") {
    auto const shrunk = [](double latency) {
        return gradient_rule::shrink(window(latency, 100), 1000, 100);
    };
    // What the latency leaves of the limit, less the 3 % that do not count, and 4 % above it.
    CHECK(near(shrunk(1030 / 0.7), 74));
    CHECK(near(shrunk(1030 / 0.6), 64));
    CHECK(near(shrunk(1030 / 0.5), 54));
    CHECK(near(shrunk(1030 / 0.1), 54)); // a window alone does not take more than about a half
    CHECK(near(shrunk(1030 / 0.9), 97)); // half of the way to 94
    CHECK(near(shrunk(1030 / 0.8), 92));
}

TEST_CASE("vegas sees a queue when more than 3 % of the calls in flight are in it") {
    CHECK_FALSE(vegas_rule::queue_seen(window(1000, 100), 1000));
    CHECK_FALSE(vegas_rule::queue_seen(window(1000 / 0.971, 100), 1000));
    CHECK(vegas_rule::queue_seen(window(1000 / 0.969, 100), 1000));
    CHECK_FALSE(vegas_rule::queue_seen(window(2000, 0), 1000)); // there are none to be in it
}

TEST_CASE("vegas shrinks by half of the queue above 8 %, by a step at least, and else not") {
    auto const shrunk = [](double latency, double in_flight = 100) {
        return vegas_rule::shrink(window(latency, in_flight), 1000, 100);
    };
    CHECK(shrunk(1000 / 0.95) == 100);    // 5 calls queue
    CHECK(shrunk(2000, 0) == 100);        // none
    CHECK(near(shrunk(1000 / 0.91), 98)); // 9: a step
    CHECK(near(shrunk(1000 / 0.8), 94));  // 20, 12 of them too many
    CHECK(near(shrunk(1000 / 0.5), 79));  // 50
    CHECK(near(shrunk(1000 / 0.5, 50), 89.5));
}

TEST_CASE("a limit shrinks by the rule of its algorithm") {
    auto gradient = make(limit_algorithm::gradient, 100);
    auto vegas = make(limit_algorithm::vegas, 100);
    for (concurrency_limit* limit : {&gradient, &vegas})
        CHECK(limit->update(window(1000, 50, 0, 0)) == 100); // the baseline
    CHECK(near(gradient.update(window(2060, 100)), 54));
    CHECK(near(vegas.update(window(2000, 100)), 79));
}

TEST_CASE("a latency that gradient does not mind lets it grow") {
    auto limit = make(limit_algorithm::gradient, 100);
    limit.update(window(1000, 50, 0, 0));
    CHECK(limit.update(window(1030, 100)) > 101.5); // more than the rule for queues has to give
    CHECK(limit.baseline() == 1000);
}

TEST_CASE("a limit that stays where it is is probed if it keeps calls out") {
    auto limit = make(limit_algorithm::vegas, 100);
    limit.update(window(1000, 50, 0, 0));
    SECTION("after two windows, from above the capacity that is known") {
        CHECK(limit.update(window(1040, 100)) == 100);
        CHECK_FALSE(limit.probing());
        CHECK(near(limit.update(window(1040, 100)), 70 / 1.04));
        CHECK(limit.probing());
        CHECK(limit.update(window(1000, 67)) == 100);
        CHECK_FALSE(limit.probing());
    }
    SECTION("and else not") {
        for (int i = 0; i < 100; ++i) {
            limit.update(window(1040, 50, 0, 0));
            CHECK_FALSE(limit.probing());
        }
    }
}

TEST_CASE("a window in which no call succeeded says nothing about latencies") {
    for (auto const algorithm : both) {
        auto limit = make(algorithm, 100);
        limit.update(window(0, 100, 0, 10));
        CHECK(limit.limit() == 100);
        CHECK(limit.baseline() == 0);
        limit.update(window(1000, 50, 0, 0));
        CHECK(limit.update(window(0, 100)) == 100);
        CHECK(limit.baseline() == 1000);
        CHECK(limit.update(window(0, 100, 100)) == 90);
        CHECK(limit.baseline() == 1000);
        while (!limit.probing()) limit.update(window(1100, limit.limit()));
        double const dip = limit.limit();
        CHECK(limit.update(window(0, dip)) == dip);
        CHECK(limit.probing()); // for a window that says something
        CHECK(limit.update(window(1000, dip)) > dip);
        CHECK_FALSE(limit.probing());
    }
}

TEST_CASE("drops during a probe end it, and its dip stays") {
    for (auto const algorithm : both) {
        for (double const latency : {1000., 0.}) {
            auto limit = make(algorithm, 100);
            limit.update(window(1000, 50, 0, 0));
            while (!limit.probing()) limit.update(window(1100, limit.limit()));
            double const dip = limit.limit();
            REQUIRE(dip < 70);
            CHECK(near(limit.update(window(latency, dip, 50)), 0.9 * dip));
            CHECK_FALSE(limit.probing());
            CHECK(limit.baseline() == 1000);
            CHECK(near(limit.update(window(1000, 0.9 * dip, 0, 0)), 1.05 * 0.9 * dip));
        }
    }
}

TEST_CASE("whatever it is shown, a limit shrinks after drops and grows to twice what was used") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (auto const algorithm : all) {
            concurrency_limit limit(
                concurrency_limit_options().algorithm(algorithm).drop_factor(0.8));
            std::size_t probes = 0;
            for (int i = 0; i < 20000; ++i) {
                double const before = limit.limit();
                auto const places = static_cast<std::size_t>(before);
                bool const probing = limit.probing(), full = test::below(random, 4) != 0;
                probes += probing;
                limit_window w;
                w.samples = 100;
                w.latency = 1000 + 10 * static_cast<double>(test::below(random, 60));
                w.max_in_flight =
                    static_cast<std::uint32_t>(full ? places : test::below(random, places + 1));
                w.refused = full ? test::below(random, 30) : 0;
                w.drops = test::below(random, 20) == 0 ? 1 + (random() % 2) : 0;
                if (w.drops == 2 && random() % 4 == 0) w.latency = 0;
                double const after = limit.update(w);
                INFO("window " << i << ": " << before << " to " << after);
                if (w.drops > 1) REQUIRE(near(after, std::max(1.0, 0.8 * before)));
                else if (!probing && after > before)
                    REQUIRE(static_cast<std::uint32_t>(after) <= 2 * w.max_in_flight);
            }
            CHECK((probes > 0) == (algorithm != limit_algorithm::aimd));
        }
    }
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
