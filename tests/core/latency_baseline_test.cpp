// SPDX-License-Identifier: BSL-1.0
// The estimate of the latency without a queue, window by window, by hand.
#include <tidegate/core/latency_baseline.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <utility>

using tidegate::core::latency_baseline;
using tidegate::core::limit_window;

namespace {

// A window of 100 calls, whose limit was the bottleneck unless it is said to have refused nobody.
limit_window window(double latency, double in_flight, std::uint64_t refused = 10) {
    limit_window w;
    w.latency = latency;
    w.samples = 100;
    w.max_in_flight = static_cast<std::uint32_t>(in_flight);
    w.refused = refused;
    return w;
}

bool near(double a, double b) { return std::abs(a - b) <= 1e-9 * std::abs(b); }

// Shows it windows until it dips from `limit`; returns how many.
int windows_to_probe(latency_baseline& baseline, double latency, double limit = 100) {
    for (int n = 1; n < 1000; ++n) {
        baseline.observe(window(latency, limit));
        if (baseline.start_probe(window(latency, limit), limit) > 0) return n;
    }
    return 0;
}

// One with an estimate that a probe has found right, of 1000.
latency_baseline sure_of_1000() {
    latency_baseline baseline;
    windows_to_probe(baseline, 1000);
    baseline.end_probe(window(1000, 70));
    return baseline;
}

} // namespace

TEST_CASE("a limit that refused one call in 20 was the bottleneck") {
    CHECK_FALSE(limit_window().limited()); // nothing happened
    CHECK_FALSE(window(1000, 50, 0).limited());
    CHECK_FALSE(window(1000, 50, 4).limited());
    CHECK(window(1000, 50, 6).limited());
    CHECK(window(1000, 50, 1000).limited());
}

TEST_CASE("the first window is the first estimate") {
    latency_baseline baseline;
    CHECK(baseline.latency() == 0);
    CHECK_FALSE(baseline.probing());
    baseline.observe(window(1234, 50));
    CHECK(baseline.latency() == 1234);
}

TEST_CASE("a baseline follows small changes slowly while hardly anybody is refused") {
    for (double const to : {1100., 900.}) {
        latency_baseline baseline;
        baseline.observe(window(1000, 50, 0));
        baseline.observe(window(to, 50, 0));
        double const first_step = (baseline.latency() - 1000) / (to - 1000);
        CHECK(first_step > 0);
        CHECK(first_step < 0.1); // one window may be chance
        for (int i = 0; i < 100; ++i) baseline.observe(window(to, 50, 0));
        CHECK(std::abs(baseline.latency() - to) < 1);
    }
}

TEST_CASE("a baseline does not follow a latency that rose more, or with a limit that is used") {
    for (std::uint64_t const refused : {0u, 10u}) {
        latency_baseline baseline;
        baseline.observe(window(1000, 50, refused));
        for (int i = 0; i < 100; ++i) baseline.observe(window(1200, 50, refused));
        CHECK(baseline.latency() == 1000);
    }
    latency_baseline baseline;
    baseline.observe(window(1000, 50));
    for (int i = 0; i < 100; ++i) baseline.observe(window(1100, 50));
    CHECK(baseline.latency() == 1000);
}

TEST_CASE("a baseline follows a lower latency of a limit that is used, and more slowly") {
    latency_baseline used, unused;
    used.observe(window(1000, 50));
    unused.observe(window(1000, 50));
    used.observe(window(900, 50));
    unused.observe(window(900, 50, 0));
    CHECK(used.latency() < 1000);
    CHECK(used.latency() > unused.latency());
    for (int i = 0; i < 300; ++i) used.observe(window(900, 50));
    CHECK(std::abs(used.latency() - 900) < 1);
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
        baseline.observe(window(1000, 50, 0));
        CHECK(baseline.start_probe(window(1000, 50, 0), 50) == 0);
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

TEST_CASE("calls in flight that went down by 40 % are fewer") {
    for (double const fewer : {60., 61.}) {
        latency_baseline baseline;
        baseline.observe(window(1000, 100));
        baseline.observe(window(5000, 100));
        baseline.observe(window(4900, fewer));
        CHECK(baseline.latency() == (fewer == 60 ? 4900 : 1000));
    }
}

TEST_CASE("fewer calls are compared with the latest latency of the most calls") {
    latency_baseline baseline;
    baseline.observe(window(1000, 100));
    baseline.observe(window(5000, 100));
    baseline.observe(window(2000, 100));
    baseline.observe(window(1900, 80)); // not the most
    baseline.observe(window(2000, 50));
    CHECK(baseline.latency() == 2000);
}

TEST_CASE("calls from before the latency was back at the estimate do not count as more") {
    latency_baseline baseline;
    baseline.observe(window(1000, 100));
    baseline.observe(window(5000, 100));
    baseline.observe(window(1000, 100));
    baseline.observe(window(5000, 50));
    CHECK(baseline.latency() == 1000);
    baseline.observe(window(5000, 30));
    CHECK(baseline.latency() == 5000);
}

TEST_CASE("calls from before a queue was found do not count as more") {
    latency_baseline baseline;
    baseline.observe(window(1000, 100));
    baseline.observe(window(5000, 100));
    baseline.observe(window(3000, 60)); // a queue
    baseline.observe(window(2900, 55)); // compared from here on
    baseline.observe(window(2900, 34));
    CHECK(baseline.latency() == 1000);
    baseline.observe(window(2900, 33));
    CHECK(baseline.latency() == 2900);
}

TEST_CASE("calls from before a probe do not count as more") {
    latency_baseline baseline;
    baseline.observe(window(1000, 100));
    baseline.observe(window(1100, 100));
    REQUIRE(baseline.start_probe(window(1100, 100), 100) > 0);
    baseline.end_probe(window(1000, 60));
    baseline.observe(window(1100, 60));
    CHECK(baseline.latency() == 1000);
}

TEST_CASE("a probe dips to 70 % of the estimated capacity, and of 70 % of the limit at least") {
    for (auto const& [latency, dip] : {std::pair{1000., 70.}, {1250., 56.}, {1e6, 49.}}) {
        latency_baseline baseline;
        baseline.observe(window(1000, 50));
        CHECK(baseline.start_probe(window(latency, 50), 100) == 0);
        CHECK_FALSE(baseline.probing());
        baseline.observe(window(1000, 50));
        CHECK(baseline.start_probe(window(latency, 50, 0), 100) == 0); // nobody was refused
        CHECK_FALSE(baseline.probing());
        CHECK(near(baseline.start_probe(window(latency, 50), 100), dip));
        CHECK(baseline.probing());
    }
}

TEST_CASE("probes that find nothing become rare, from 4 windows to 32") {
    latency_baseline baseline;
    for (int const windows : {2, 4, 8, 16, 32, 32}) { // a first estimate is checked sooner
        CHECK(windows_to_probe(baseline, 1000) == windows);
        CHECK(baseline.end_probe(window(1000, 70)) == 100);
    }
    CHECK(baseline.latency() == 1000);
    SECTION("until one finds something") {
        windows_to_probe(baseline, 1000);
        baseline.end_probe(window(1300, 70));
        CHECK(windows_to_probe(baseline, baseline.latency()) == 4);
    }
    SECTION("until one finds a queue, though no more of it at last") {
        windows_to_probe(baseline, 1000);
        baseline.end_probe(window(700, 70));
        REQUIRE(baseline.probing());
        baseline.end_probe(window(700, 49));
        REQUIRE_FALSE(baseline.probing());
        CHECK(windows_to_probe(baseline, 700) == 4);
    }
    SECTION("until the latency is another") { CHECK(windows_to_probe(baseline, 500) == 2); }
    SECTION("and windows that refuse nobody do not count") {
        for (int i = 0; i < 100; ++i) baseline.observe(window(1000, 100, 0));
        CHECK(windows_to_probe(baseline, 1000) == 32);
    }
}

TEST_CASE("the first probe of an estimate replaces it, later ones go half of the way") {
    latency_baseline baseline;
    windows_to_probe(baseline, 1000);
    baseline.end_probe(window(1200, 70));
    CHECK(near(baseline.latency(), 1200));
    windows_to_probe(baseline, 1200);
    baseline.end_probe(window(1320, 70));
    CHECK(near(baseline.latency(), 1260));
    windows_to_probe(baseline, 1260);
    baseline.end_probe(window(1160, 70));
    CHECK(near(baseline.latency(), 1210));
    SECTION("but all of it where that is far") {
        windows_to_probe(baseline, 1210);
        baseline.end_probe(window(2420, 70));
        CHECK(near(baseline.latency(), 2420));
    }
    SECTION("and all of it in a queue") {
        windows_to_probe(baseline, 1210);
        baseline.end_probe(window(900, 70));
        baseline.end_probe(window(800, 49));
        CHECK_FALSE(baseline.probing());
        CHECK(near(baseline.latency(), 800));
    }
    SECTION("and all of it after a jump, which is a first estimate") {
        windows_to_probe(baseline, 400);
        baseline.end_probe(window(440, 70));
        CHECK(near(baseline.latency(), 440));
    }
}

TEST_CASE("a probe that finds no queue gives back the limit, one that does gives back less") {
    latency_baseline plain = sure_of_1000();
    windows_to_probe(plain, 1000);
    CHECK(plain.end_probe(window(1000, 70)) == 100);
    latency_baseline queue = sure_of_1000();
    windows_to_probe(queue, 1000);
    CHECK(near(queue.end_probe(window(700, 70)), 49)); // 30 % less again
    CHECK(queue.probing());
    CHECK(near(queue.end_probe(window(700, 49)), 49 / 0.6));
    CHECK_FALSE(queue.probing());
}

TEST_CASE("a probe of a single call goes no lower") {
    latency_baseline baseline;
    baseline.observe(window(1000, 1));
    baseline.observe(window(1000, 1));
    REQUIRE(baseline.start_probe(window(1000, 1), 10.0 / 7) == 1);
    CHECK(baseline.end_probe(window(500, 1)) == 10.0 / 7);
    CHECK_FALSE(baseline.probing());
    CHECK(baseline.latency() == 500);
}

TEST_CASE("a probe that is given up changes nothing, and the next one is due in its time") {
    latency_baseline baseline = sure_of_1000();
    windows_to_probe(baseline, 1000);
    baseline.give_up_probe();
    CHECK_FALSE(baseline.probing());
    CHECK(baseline.latency() == 1000);
    CHECK(windows_to_probe(baseline, 1000) == 4);
}

TEST_CASE("an estimate is never outside of what was measured") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (int schedule = 0; schedule < 200; ++schedule) {
            latency_baseline baseline;
            double lowest = 1e18, highest = 0;
            double const spread = static_cast<double>(1 + test::below(random, 5));
            for (int i = 0; i < 200; ++i) {
                double const latency =
                    std::pow(1 + spread, static_cast<double>(test::below(random, 1000)) / 1000);
                lowest = std::min(lowest, latency);
                highest = std::max(highest, latency);
                auto const w = window(latency, static_cast<double>(1 + test::below(random, 100)),
                                      random() % 20);
                if (baseline.probing()) {
                    double const next = baseline.end_probe(w);
                    if (next > 100) FAIL("limit " << next);
                } else {
                    baseline.observe(w);
                    baseline.start_probe(w, 100);
                }
                double const estimate = baseline.latency();
                if (estimate < lowest * (1 - 1e-9) || estimate > highest * (1 + 1e-9))
                    FAIL(estimate << " after latencies from " << lowest << " to " << highest);
            }
        }
    }
}
