// SPDX-License-Identifier: BSL-1.0
// The histogram against a sorted vector.
#include <tidegate/core/histogram.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using tidegate::core::histogram;

TEST_CASE("an empty histogram is all zeros") {
    histogram const h;
    CHECK(h.count() == 0);
    CHECK(h.mean() == 0);
    CHECK(h.min() == 0);
    CHECK(h.max() == 0);
    CHECK(h.percentile(0.5) == 0);
}

TEST_CASE("percentiles are within the promised error of the exact ones") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::lognormal_distribution<double> durations(12, 3);
        histogram h;
        std::vector<std::uint64_t> exact;
        for (int i = 0; i < 20000; ++i) {
            auto const value = static_cast<std::uint64_t>(durations(random));
            h.record(value);
            exact.push_back(value);
        }
        std::sort(exact.begin(), exact.end());
        CHECK(h.count() == exact.size());
        CHECK(h.min() == exact.front());
        CHECK(h.max() == exact.back());
        std::uint64_t last = 0;
        for (double const p : {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
            auto const rank = std::max(1.0, std::ceil(p * static_cast<double>(exact.size())));
            auto const right = static_cast<double>(exact[static_cast<std::size_t>(rank) - 1]);
            std::uint64_t const got = h.percentile(p);
            CHECK(std::abs(static_cast<double>(got) - right) <= right / 128);
            CHECK(got >= last);
            CHECK(got >= h.min());
            CHECK(got <= h.max());
            last = got;
        }
    }
}

TEST_CASE("small values are exact and the largest one fits") {
    histogram h;
    for (std::uint64_t v = 0; v < 128; ++v) h.record(v);
    CHECK(h.percentile(0.5) == 63);
    CHECK(h.mean() == 63.5);
    h.record(std::numeric_limits<std::uint64_t>::max());
    CHECK(h.percentile(1) == std::numeric_limits<std::uint64_t>::max());
    CHECK(h.percentile(0) == 0);
}

TEST_CASE("merged histograms equal one that saw everything") {
    histogram a, b, both;
    for (std::uint64_t v = 1; v < 100000; v = v * 5 / 4 + 1) {
        (v % 2 ? a : b).record(v);
        both.record(v);
    }
    a.merge(b);
    CHECK(a.count() == both.count());
    CHECK(a.sum() == both.sum());
    CHECK(a.min() == both.min());
    CHECK(a.max() == both.max());
    for (double p = 0; p <= 1; p += 0.01) CHECK(a.percentile(p) == both.percentile(p));
    histogram empty;
    empty.merge(both);
    CHECK(empty.percentile(0.5) == both.percentile(0.5));
}
