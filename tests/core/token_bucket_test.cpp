// SPDX-License-Identifier: BSL-1.0
// The token bucket against exact rational arithmetic.
#include <tidegate/core/token_bucket.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

#include <cmath>
#include <deque>
#include <random>

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using tidegate::core::bucket_terms;
using tidegate::core::token_bucket;
using tidegate::core::wide_product;

namespace {

__extension__ using wide = __int128;

constexpr std::int64_t start = 3'600'000'000'000;
constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t day = 86'400 * second;
constexpr std::int64_t year = 365 * day;

struct quota {
    std::uint64_t permits;
    std::int64_t period;
    std::uint64_t burst;

    // Whether `admitted` permits are allowed in a window of `elapsed` nanoseconds.
    bool allows(std::uint64_t admitted, std::int64_t elapsed) const {
        if (admitted <= burst) return true;
        return wide(admitted - burst) * period <= wide(elapsed) * permits;
    }
};

// Rates from 1e-3 to 1e9 a second, among them the awkward ones.
std::vector<quota> quotas() {
    std::vector<quota> all = {{1, 1000 * second, 1},
                              {1, second, 1},
                              {3, second, 5},
                              {7, second, 1},
                              {60, 60 * second, 60},
                              {1000, day, 1000},
                              {1'000'003, day, 100},
                              {1'000'003, day, 1'000'003},
                              {750, second, 750},
                              {8000, second, 10},
                              {30'000'000, second, 100},
                              {600'000'000, second, 1000},
                              {999'999'999, second, 64},
                              {1'000'000'000, second, 1}};
    std::mt19937_64 random(7);
    while (all.size() < 64) {
        double const rate = std::pow(10.0, std::uniform_real_distribution<>(-3, 8.9)(random));
        auto const period = static_cast<std::int64_t>(
            std::pow(10.0, std::uniform_real_distribution<>(std::max(0.5, 9 - std::log10(rate)),
                                                            14)(random)));
        auto const permits =
            static_cast<std::uint64_t>(rate * static_cast<double>(period) / 1e9 + 1);
        if (permits > static_cast<std::uint64_t>(period)) continue;
        all.push_back({permits, period, 1 + random() % 1000});
    }
    return all;
}

token_bucket bucket_of(quota const& q, std::int64_t now = start, bool full = true) {
    return token_bucket(q.permits, nanoseconds(q.period), q.burst, now, full);
}

} // namespace

TEST_CASE("wide products and quotients are exact") {
    std::mt19937_64 random(1);
    for (int i = 0; i < 20000; ++i) {
        std::uint64_t const a = random() >> (random() % 64);
        std::uint64_t const b = random() >> (random() % 64);
        __extension__ using unsigned_wide = unsigned __int128;
        unsigned_wide const product = unsigned_wide(a) * b;
        auto const p = wide_product::of(a, b);
        REQUIRE(p.low == static_cast<std::uint64_t>(product));
        REQUIRE(p.high == static_cast<std::uint64_t>(product >> 64));
        std::uint64_t const divisor = (random() >> (random() % 64)) | 1;
        if (product / divisor <= ~std::uint64_t{0}) {
            REQUIRE(wide_product::divided(a, b, divisor) ==
                    static_cast<std::uint64_t>(product / divisor));
        }
    }
}

TEST_CASE("a full bucket gives a burst at once and no more") {
    for (quota const& q : quotas()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto bucket = bucket_of(q);
        CHECK(bucket.available(start) == q.burst);
        CHECK(bucket.take(q.burst, start));
        CHECK_FALSE(bucket.take(1, start));
        CHECK(bucket.available(start) == 0);
    }
}

TEST_CASE("the time told for a refused request is the first at which it is admitted") {
    std::mt19937_64 random(2);
    for (quota const& q : quotas()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto bucket = bucket_of(q, start, false);
        std::int64_t now = start;
        for (int i = 0; i < 200; ++i) {
            std::uint64_t const n = 1 + random() % q.burst;
            std::int64_t const at = bucket.when(n, now);
            // Terms that are not exact may be two nanoseconds late across a change of epoch.
            std::int64_t const early = at - (std::uint64_t(q.period) % q.permits == 0 ? 1 : 3);
            if (early > now) REQUIRE_FALSE(bucket.take(n, early));
            REQUIRE(bucket.take(n, at));
            now = at;
        }
    }
}

TEST_CASE("no window of a simulated year admits more than burst and rate allow, nor much less") {
    std::mt19937_64 random(3);
    for (quota const& q : quotas()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto bucket = bucket_of(q);
        std::int64_t now = start;
        std::uint64_t admitted = 0;
        // Always demanding: what is admitted follows the rate from the first grant on.
        std::int64_t const step = year / 50'000;
        std::uint64_t lost_to_the_cap = 0;
        for (int i = 0; i < 50'000; ++i) {
            std::uint64_t const there = bucket.available(now);
            if (there == q.burst) ++lost_to_the_cap;
            if (there > 0) {
                REQUIRE(bucket.take(there, now));
                admitted += there;
            }
            REQUIRE(q.allows(admitted, now - start));
            now += step / 2 +
                   static_cast<std::int64_t>(random() % static_cast<unsigned>(1 << 30)) % step;
        }
        CHECK(lost_to_the_cap > 0);
    }
}

TEST_CASE("continuous demand gets the rate within a millionth") {
    for (quota const& q : quotas()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto bucket = bucket_of(q, start, false);
        std::int64_t now = start;
        std::uint64_t admitted = 0;
        for (int i = 0; i < 100'000 && now < 100 * year; ++i) {
            now = bucket.when(q.burst, now);
            REQUIRE(bucket.take(q.burst, now));
            admitted += q.burst;
            REQUIRE(wide(admitted) * q.period <= wide(now - start) * q.permits + q.period);
        }
        // In 1e5 bursts the clock may be ahead of the exact time by its own resolution only.
        wide const exact = wide(admitted) * q.period / q.permits;
        double const error = static_cast<double>(wide(now - start) - exact);
        double const allowed = 1e-6 * static_cast<double>(exact) + 100'000.0; // 1 ns a burst
        CHECK(error >= -1);
        CHECK(error <= allowed);
    }
}

TEST_CASE("random schedules never beat the bound in any window") {
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (std::size_t schedule = 0; schedule < test::schedules(2000); ++schedule) {
        auto const all = quotas();
        quota const& q = all[test::below(random, all.size())];
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto bucket = bucket_of(q, start, random() % 2 == 0);
        struct grant {
            std::int64_t at;
            std::uint64_t n;
        };
        std::vector<grant> grants;
        std::int64_t now = start;
        auto const each = static_cast<std::uint64_t>(q.period) / q.permits + 1;
        for (int i = 0; i < 50; ++i) {
            now += static_cast<std::int64_t>(random() % (4 * each));
            std::uint64_t const n = 1 + random() % q.burst;
            if (bucket.take(n, now)) grants.push_back({now, n});
        }
        for (std::size_t first = 0; first < grants.size(); ++first) {
            std::uint64_t sum = 0;
            for (std::size_t last = first; last < grants.size(); ++last) {
                sum += grants[last].n;
                REQUIRE(q.allows(sum, grants[last].at - grants[first].at));
            }
        }
    }
}

TEST_CASE("after ten idle years there is a burst, exactly") {
    for (quota const& q : quotas()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto bucket = bucket_of(q, start, false);
        std::int64_t const later = start + 10 * year;
        CHECK(bucket.available(later) ==
              (wide(10 * year) * q.permits >= wide(q.burst) * q.period ? q.burst : 0));
        if (bucket.take(q.burst, later)) CHECK_FALSE(bucket.take(1, later));
    }
}

TEST_CASE("refunded permits can be taken again, never more than a burst at once") {
    token_bucket bucket(10, 1s, 10, start);
    REQUIRE(bucket.take(10, start));
    bucket.refund(4);
    CHECK(bucket.available(start) == 4);
    bucket.refund(100);
    CHECK(bucket.available(start) == 10);
    // Later grants do not change what a refund is worth.
    REQUIRE(bucket.take(6, start));
    REQUIRE(bucket.take(4, start));
    bucket.refund(6);
    CHECK(bucket.available(start) == 6);
}

TEST_CASE("a clock that steps back holds up for a bucket's time at most and grants nothing extra") {
    for (std::int64_t const back : {second, 60 * second, day, 10 * year}) {
        token_bucket bucket(10, 1s, 10, start + 20 * year);
        std::int64_t now = start + 20 * year;
        REQUIRE(bucket.take(10, now));
        now += 100 * day;
        REQUIRE(bucket.take(10, now));
        now -= back;
        std::uint64_t admitted = 0;
        std::int64_t first = 0;
        for (int i = 0; i < 100; ++i) {
            now += second / 10;
            while (bucket.take(1, now)) {
                if (first == 0) first = i + 1;
                ++admitted;
            }
        }
        INFO("back by " << back);
        CHECK(first <= 11);
        CHECK(admitted <= 100);
        CHECK(admitted >= 89);
    }
}

TEST_CASE("a new rate keeps what is in the bucket and what is owed") {
    token_bucket bucket(10, 1s, 10, start);
    REQUIRE(bucket.take(4, start));
    bucket.set_rate(1000, 1s, 100, start);
    CHECK(bucket.available(start) == 6);
    bucket.set_rate(3, 7s, 5, start + 1);
    CHECK(bucket.available(start + 1) == 5);
    REQUIRE(bucket.take(5, start + 1));
    bucket.set_rate(1'000'003, nanoseconds(day), 1'000'003, start + 2);
    CHECK(bucket.available(start + 2) == 0);
}

TEST_CASE("changing the rate a million times mints nothing") {
    token_bucket bucket(1, 1s, 10, start);
    REQUIRE(bucket.take(10, start));
    std::int64_t now = start;
    for (int i = 0; i < 1'000'000; ++i) {
        now += 10;
        bucket.set_rate(static_cast<std::uint64_t>(1 + i % 7), 1s, 10, now);
    }
    CHECK(bucket.available(now) == 0); // 10 ms at up to 7 a second
}
