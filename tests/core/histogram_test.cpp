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
namespace duration_grid = tidegate::core::duration_grid;

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
        double last = 0;
        for (double const p : {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
            auto const rank = std::max(1.0, std::ceil(p * static_cast<double>(exact.size())));
            auto const right = static_cast<double>(exact[static_cast<std::size_t>(rank) - 1]);
            double const got = h.percentile(p);
            CHECK(std::abs(got - right) <= right * 0.0028);
            CHECK(got >= last);
            CHECK(got >= static_cast<double>(h.min()));
            CHECK(got <= static_cast<double>(h.max()));
            last = got;
        }
    }
}

TEST_CASE("small values are exact and the largest ones are counted apart") {
    histogram h;
    for (std::uint64_t v = 0; v < 128; ++v) h.record(v);
    CHECK(h.percentile(0.5) == 63);
    CHECK(h.mean() == 63.5);
    CHECK(h.zeros() == 1);
    auto const most = std::numeric_limits<std::uint64_t>::max();
    h.record(most);
    h.record(duration_grid::longest);
    CHECK(h.overflows() == 1);
    CHECK(h.max() == most);
    CHECK(h.percentile(1) == static_cast<double>(most));
    CHECK(h.percentile(0) == 0);
}

TEST_CASE("slots are those of the grid, at every bound") {
    for (std::size_t s = 0; s + 1 < duration_grid::slots; ++s) {
        auto const last = duration_grid::last_of(s);
        if (last == 0) continue;
        auto const bound = 1e9L * std::exp2((static_cast<long double>(s) - 3826) / 128);
        INFO(s);
        CHECK(last == static_cast<std::uint64_t>(std::floor(bound * (1 + 1e-18L))));
        CHECK(duration_grid::slot_of(last) <= s);
        CHECK(duration_grid::slot_of(last + 1) > s);
    }
    CHECK(duration_grid::slot_of(1) == 0);
    CHECK(duration_grid::slot_of(duration_grid::longest) == duration_grid::slots - 1);
    // A second ends bucket 0, whatever the schema.
    for (unsigned schema = 0; schema <= 7; ++schema) {
        CHECK(duration_grid::bucket_of(duration_grid::slot_of(1'000'000'000), schema) == 0);
        CHECK(duration_grid::bucket_of(duration_grid::slot_of(1'000'000'001), schema) == 1);
    }
    CHECK(duration_grid::bucket_of(duration_grid::slot_of(2'000'000'000), 0) == 1);
    CHECK(duration_grid::bucket_of(duration_grid::slot_of(4'000'000'000), 1) == 4);
    CHECK(duration_grid::bucket_of(duration_grid::slot_of(500'000'000), 0) == -1);
    CHECK(duration_grid::bucket_of(duration_grid::slot_of(500'000'001), 0) == 0);
}

TEST_CASE("slots are those of the formula for a million random durations") {
    test::random random(test::seeds().back());
    int wrong = 0;
    for (int i = 0; i < 1'000'000; ++i) {
        auto const ns = std::max<std::uint64_t>(1, random() >> (19 + test::below(random, 45)));
        auto const bucket =
            std::ceil(128 * std::log2(static_cast<long double>(ns) / 1e9L) - 1e-12L);
        auto const slot = static_cast<long double>(duration_grid::slot_of(ns));
        wrong += slot + duration_grid::first_bucket != bucket;
    }
    CHECK(wrong == 0);
}

TEST_CASE("sums are exact where 64 bits do not hold them") {
    histogram h;
    std::uint64_t const hour = 3'600'000'000'000;
    h.record(hour, 1'000'000'000'000);
    h.record(1);
    CHECK(h.count() == 1'000'000'000'001);
    CHECK(h.sum() == 3.6e24);
    CHECK(std::abs(h.mean() / 3.6e12 - 1) < 1e-9);
    histogram big;
    big.record(std::numeric_limits<std::uint64_t>::max(),
               std::numeric_limits<std::uint64_t>::max());
    CHECK(big.sum() == std::ldexp(1.0, 128));
}

TEST_CASE("what is left after subtracting an earlier state is what came since") {
    test::random random(test::seeds().back());
    std::lognormal_distribution<double> durations(14, 4);
    histogram all, later;
    auto const draw = [&] { return static_cast<std::uint64_t>(durations(random)); };
    for (int i = 0; i < 5000; ++i) all.record(draw());
    histogram const earlier = all;
    for (int i = 0; i < 5000; ++i) {
        auto const ns = draw();
        all.record(ns);
        later.record(ns);
    }
    all.subtract(earlier);
    CHECK(all.count() == later.count());
    CHECK(all.sum() == later.sum());
    for (double p = 0.01; p < 1; p += 0.01) CHECK(all.percentile(p) == later.percentile(p));
    CHECK(static_cast<double>(all.min()) <= static_cast<double>(later.min()));
    CHECK(static_cast<double>(all.max()) >= static_cast<double>(later.max()));
    CHECK(static_cast<double>(all.max()) <= static_cast<double>(later.max()) * 1.006 + 1);
    later.subtract(later);
    CHECK(later.count() == 0);
    CHECK(later.max() == 0);
    CHECK(later.percentile(0.5) == 0);
}

TEST_CASE("a freeze counts for all the calls that could not be made") {
    histogram seen, right;
    std::uint64_t const ms = 1'000'000;
    for (int i = 0; i < 9000; ++i) seen.record_corrected(1 * ms, 10 * ms);
    seen.record_corrected(10'000 * ms, 10 * ms);
    for (int i = 0; i < 9000; ++i) right.record(1 * ms);
    for (std::uint64_t i = 0; i < 1000; ++i) right.record((10'000 - 10 * i) * ms);
    CHECK(seen.count() == right.count());
    CHECK(seen.percentile(0.99) == right.percentile(0.99));
    histogram plain;
    plain.record_corrected(5, 0);
    CHECK(plain.count() == 1);
    plain.record_corrected(1'000'000'000, 1);
    CHECK(plain.count() == 100'002);
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
