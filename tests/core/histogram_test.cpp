// SPDX-License-Identifier: BSL-1.0
// The histogram against a sorted vector, and against a map of buckets.
#include <tidegate/core/histogram.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

using tidegate::core::histogram;
using tidegate::core::packed_histogram;
namespace duration_grid = tidegate::core::duration_grid;

namespace {

__extension__ using wide = unsigned __int128;
using buckets = std::vector<std::pair<std::size_t, std::uint64_t>>;

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

buckets buckets_of(histogram const& h) {
    buckets all;
    h.for_each([&](std::size_t slot, std::uint64_t n) { all.emplace_back(slot, n); });
    return all;
}

wide sum_of(histogram const& h) {
    auto const [low, high] = h.exact_sum();
    return wide(high) << 64 | low;
}

// Every bucket of the whole range, with zeros and overflows as one each.
std::size_t place_of(std::uint64_t ns) {
    if (ns == 0) return 0;
    if (ns > duration_grid::longest) return duration_grid::slots + 1;
    return duration_grid::slot_of(ns) + 1;
}

// What was recorded, how often.
struct durations {
    std::map<std::uint64_t, std::uint64_t> times;

    void record(std::uint64_t ns, std::uint64_t n) {
        if (n > 0) times[ns] += n;
    }
    void merge(durations const& other) {
        for (auto const& [ns, n] : other.times) record(ns, n);
    }

    // But for the extremes.
    void require_counted(histogram const& h) const {
        std::map<std::size_t, std::uint64_t> places;
        std::uint64_t count = 0;
        wide sum = 0;
        for (auto const& [ns, n] : times) {
            places[place_of(ns)] += n;
            count += n;
            sum += wide(ns) * n;
        }
        CHECK(h.zeros() == places[0]);
        CHECK(h.overflows() == places[duration_grid::slots + 1]);
        places.erase(0);
        places.erase(duration_grid::slots + 1);
        buckets expected;
        for (auto const& [place, n] : places) expected.emplace_back(place - 1, n);
        REQUIRE((buckets_of(h) == expected));
        REQUIRE(h.count() == count);
        REQUIRE((sum_of(h) == sum));
    }
    void require_equal(histogram const& h) const {
        require_counted(h);
        REQUIRE(h.min() == (times.empty() ? 0 : times.begin()->first));
        REQUIRE(h.max() == (times.empty() ? 0 : times.rbegin()->first));
    }
    void require_left(histogram const& h) const {
        require_counted(h);
        if (times.empty()) {
            REQUIRE(h.min() == 0);
            REQUIRE(h.max() == 0);
            return;
        }
        REQUIRE(place_of(h.min()) == place_of(times.begin()->first));
        REQUIRE(place_of(h.max()) == place_of(times.rbegin()->first));
        REQUIRE(h.min() <= times.begin()->first);
        REQUIRE(h.max() >= times.rbegin()->first);
    }
};

} // namespace

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

TEST_CASE("merged, packed or taken out again, every bucket has what was recorded in it") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const schedules = test::schedules(2000);
        for (std::size_t schedule = 0; schedule < schedules; ++schedule) {
            INFO("schedule " << schedule);
            // Each with a few, of durations between two powers of two, or anything.
            auto const fill = [&](histogram& h, durations& model) {
                std::size_t const from = test::below(random, 48);
                std::size_t const upto = from + 1 + test::below(random, 64 - from);
                for (auto n = test::below(random, 12); n > 0; --n) {
                    std::uint64_t ns = random() >> test::below(random, 64);
                    if (test::below(random, 8) != 0) {
                        auto const power = from + test::below(random, upto - from);
                        ns = std::uint64_t{1} << power |
                             (random() & ((std::uint64_t{1} << power) - 1));
                    }
                    if (test::below(random, 20) == 0) ns = 0;
                    std::uint64_t times = test::below(random, 4);
                    if (test::below(random, 6) == 0) times = random() >> 5;
                    h.record(ns, times);
                    model.record(ns, times);
                }
            };
            histogram a, b;
            durations in_a, in_b;
            fill(a, in_a);
            fill(b, in_b);
            in_a.require_equal(a);
            in_b.require_equal(b);

            durations in_both = in_a;
            in_both.merge(in_b);
            histogram both = a, packed;
            both.merge(b);
            in_both.require_equal(both);
            packed_histogram(b).add_to(packed);
            in_b.require_equal(packed);
            packed_histogram(a).add_to(packed);
            in_both.require_equal(packed);

            histogram left = both;
            left.subtract(a);
            in_b.require_left(left);
            left.subtract(b);
            durations().require_left(left);
            // And it goes on as a new one would.
            left.merge(b);
            in_b.require_equal(left);
        }
    }
}

TEST_CASE("a sum carries and borrows between its halves") {
    std::pair<std::uint64_t, std::uint64_t> const one{0, 1}, none{0, 0};
    histogram h;
    h.record(most);
    h.record(1);
    CHECK((h.exact_sum() == one));
    histogram const earlier = h;
    h.record(most - 1);
    h.record(3);
    CHECK((h.exact_sum() == std::pair<std::uint64_t, std::uint64_t>{1, 2}));
    histogram since = h;
    since.subtract(earlier);
    CHECK((since.exact_sum() == std::pair<std::uint64_t, std::uint64_t>{1, 1}));
    since.record(most);
    CHECK((since.exact_sum() == std::pair<std::uint64_t, std::uint64_t>{0, 2}));
    h.subtract(h);
    CHECK((h.exact_sum() == none));

    histogram products;
    products.record(most, most);
    CHECK((products.exact_sum() == std::pair<std::uint64_t, std::uint64_t>{1, most - 1}));
    products = {};
    products.record(0x1'0000'0000, 0x1'0000'0000);
    CHECK((products.exact_sum() == one));
    products = {};
    products.record(0x1234'5678'9abc'def0, 0x0fed'cba9'8765'4321);
    CHECK((products.exact_sum() ==
           std::pair<std::uint64_t, std::uint64_t>{0x2236d88fe5618cf0, 0x121fa00ad77d742}));
}

TEST_CASE("the extremes of what is left lie in the buckets of what was recorded") {
    histogram h;
    h.record(1);
    h.record(most);
    histogram const earlier = h;
    SECTION("nothing but overflows") {
        h.record(duration_grid::longest + 1);
        h.subtract(earlier);
        CHECK(h.min() == duration_grid::longest + 1);
        CHECK(h.percentile(0) > static_cast<double>(duration_grid::longest));
    }
    SECTION("nothing but zeros") {
        h.record(0, 3);
        h.subtract(earlier);
        CHECK(h.min() == 0);
        CHECK(h.max() == 0);
        CHECK(h.percentile(1) == 0);
    }
    SECTION("short ones that count as overflows, as those do that there was no memory for") {
        h = {};
        h.add_overflows(2);
        h.add_sum(5 + duration_grid::longest, 0);
        h.add_extremes(5, duration_grid::longest);
        h.subtract(histogram());
        CHECK(h.min() == 5);
        CHECK(h.max() == duration_grid::longest);
    }
}

TEST_CASE("percentiles among zeros are 0, and among overflows the maximum") {
    histogram h;
    h.record(0, 50);
    h.record(1000, 10);
    h.record(most - 1, 39);
    h.record(most);
    CHECK(h.percentile(0.5) == 0);
    CHECK(h.percentile(0.51) > 997);
    CHECK(h.percentile(0.6) < 1003);
    CHECK(h.percentile(0.61) == static_cast<double>(most));
    CHECK(h.percentile(0.99) == static_cast<double>(most));
}

TEST_CASE("counts of others are added by octave, each slot once") {
    std::size_t const last = duration_grid::octaves;
    for (std::size_t const before : {std::size_t{0}, std::size_t{20}, last}) {
        for (std::size_t which = 0; which <= last; ++which) {
            INFO("octave " << which << ", after one of " << before);
            histogram h;
            // What is there stays.
            std::size_t const there = before * duration_grid::octave;
            h.add_slot(there, 1'000'000);
            std::vector<std::size_t> asked;
            h.add_octave(which, [&](std::size_t i) {
                asked.push_back(i);
                return i % 3 == 1 ? 0 : i + 7;
            });
            // The longest durations are alone in the last one.
            REQUIRE(asked.size() == (which == last ? 1 : duration_grid::octave));
            std::map<std::size_t, std::uint64_t> expected{{there, 1'000'000}};
            std::uint64_t count = 1'000'000;
            for (std::size_t i = 0; i < asked.size(); ++i) {
                REQUIRE(asked[i] == i);
                if (i % 3 == 1) continue;
                expected[which * duration_grid::octave + i] += i + 7;
                count += i + 7;
            }
            REQUIRE((buckets_of(h) == buckets(expected.begin(), expected.end())));
            REQUIRE(h.count() == count);
        }
    }
}

TEST_CASE("parts of others add up to a whole one") {
    histogram h, right;
    right.record(0, 2);
    right.record(700, 3);
    right.record(most, 4);
    h.add_zeros(2);
    h.add_slot(duration_grid::slot_of(700), 3);
    h.add_overflows(4);
    h.add_sum(right.exact_sum().first, right.exact_sum().second);
    h.add_extremes(700, 700);
    CHECK(h.min() == 700);
    CHECK(h.max() == 700);
    h.add_extremes(0, most);
    h.add_extremes(5, 6);
    CHECK(h.min() == 0);
    CHECK(h.max() == most);
    CHECK(h.count() == 9);
    CHECK(h.zeros() == 2);
    CHECK(h.overflows() == 4);
    CHECK((h.exact_sum() == right.exact_sum()));
    for (double p = 0; p <= 1; p += 0.01) CHECK(h.percentile(p) == right.percentile(p));
}

TEST_CASE("the longest duration that is not an overflow is the last of 45 bits") {
    auto const longest = duration_grid::longest;
    CHECK(std::bit_width(longest) == duration_grid::octaves);
    CHECK(std::bit_width(longest + 1) > duration_grid::octaves);
    CHECK(std::abs(static_cast<double>(longest) / 3.6e12 - 9.77) < 0.005);
    histogram h;
    h.record(longest);
    CHECK(h.overflows() == 0);
    h.record(longest + 1);
    CHECK(h.overflows() == 1);
    CHECK((buckets_of(h) == buckets{{duration_grid::slots - 1, 1}}));
}

TEST_CASE(
    "no calls are made up for one that took less than two intervals, however long these are") {
    histogram h;
    std::uint64_t const half = std::uint64_t{1} << 63;
    h.record_corrected(1, half);
    h.record_corrected(19, 10);
    h.record_corrected(half, half);
    h.record_corrected(half, half + 1);
    CHECK(h.count() == 4);
    h.record_corrected(20, 10);
    CHECK(h.count() == 6);
    CHECK(h.min() == 1);
}

#ifdef __GLIBC__
TEST_CASE("a histogram takes 1 KiB for each power of two, from the first to the last") {
    if (test::sanitized) return; // which have an allocator of their own
    auto const used = [] {
        auto const m = ::mallinfo2();
        return m.uordblks + m.hblkhd;
    };
    // Durations of the first and the last slot that begin with this power of two.
    auto const first = [](std::size_t power) { return duration_grid::last_of(power * 128); };
    auto const last = [](std::size_t power) { return duration_grid::last_of(power * 128 + 127); };
    // Of one that records these in turn, in KiB.
    auto const takes = [&](std::vector<std::uint64_t> const& records) {
        std::vector<histogram> many(40);
        std::size_t const before = used();
        for (auto& h : many) {
            for (std::uint64_t const ns : records) h.record(ns);
        }
        return static_cast<double>(used() - before) / 1024 / static_cast<double>(many.size());
    };
    auto const about = [](double kib, double right) { return std::abs(kib - right) < 0.4; };
    for (std::size_t const power : {10u, 20u, 44u}) {
        INFO("2^" << power);
        CHECK(about(takes({last(power)}), 1));
        CHECK(about(takes({last(power - 3), last(power)}), 4));
        CHECK(about(takes({last(power), first(power - 3), last(power - 5)}), 6));
    }
    std::vector<std::uint64_t> up;
    for (std::size_t power = 0; power < duration_grid::octaves; ++power) {
        up.push_back(std::uint64_t{1} << power);
    }
    up.push_back(duration_grid::longest);
    CHECK(about(takes(up), 45));
    CHECK(about(takes({up.rbegin(), up.rend()}), 45));
    CHECK(about(takes({1, duration_grid::longest}), 45));
    CHECK(about(takes({0, most}), 0));
}
#endif
