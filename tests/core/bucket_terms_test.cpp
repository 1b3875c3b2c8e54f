// SPDX-License-Identifier: BSL-1.0
// The terms of a token bucket, to the unit and the nanosecond, from their limits to their ends.
#include <tidegate/core/token_bucket.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

using tidegate::core::bucket_refusal;
using tidegate::core::bucket_terms;
using tidegate::core::fill_rate;
using tidegate::core::token_bucket;
using tidegate::core::wide_product;

namespace {

__extension__ using wide = unsigned __int128;

constexpr std::int64_t latest = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t day = 86'400 * second;

constexpr std::uint64_t power(unsigned n) { return std::uint64_t{1} << n; }

std::uint64_t at(std::int64_t time) { return static_cast<std::uint64_t>(time); }
std::int64_t time(std::uint64_t t) { return static_cast<std::int64_t>(t); }

wide divided_up(wide a, wide b) { return (a + b - 1) / b; }

struct quota {
    std::uint64_t permits;
    std::uint64_t period;
    std::uint64_t burst;

    bucket_terms terms(std::int64_t epoch = 0) const { return {permits, period, burst, epoch}; }
    // The first time that earns so many units.
    wide earns(bucket_terms const& terms, std::uint64_t units) const {
        return divided_up(wide(units) * period, wide(terms.units(1)) * permits);
    }
};

// A nanosecond earns a whole number of units, up to the most that may be.
std::vector<quota> const exact = {
    {1, 1, 1},
    {1, 1, power(52)},
    {1, second, 10},
    {3, 7, 5},
    {3, power(20), power(32)}, // 2^52 units in a burst
    {1, power(52), 1},
    {3, 3 * power(51), 2},
    {1'000'000, second, 1'000'000}, // in lowest terms, 1 in 1000 ns
    {1'000'003, day, 52},
    {power(24), power(24) + 1, 2}, // 2^24 units a nanosecond
};

// Too long a period for its burst, or too many permits for a nanosecond.
std::vector<quota> const inexact = {
    {3, 7, power(50)},
    {3, 7, power(52)},
    {5, 11, power(51)},
    {999'999'999, second + 7, power(52)},
    {power(24) + 1, power(24) + 3, 2},
    {power(10), power(53) + 1, 1},
    {1, power(53), 1},
    {5, power(53), 1},
    {1, power(45) + 1, 1000},
    {1, power(62) - 1, 1},
    {1, power(62), power(52)},
    {power(62) - 1, power(62), 1},
    {power(62) - 1, power(62), power(52)},
};

std::vector<quota> all() {
    std::vector<quota> both = exact;
    both.insert(both.end(), inexact.begin(), inexact.end());
    return both;
}

std::uint64_t any_up_to(test::random& random, std::uint64_t most) {
    return 1 + (random() >> test::below(random, 64)) % most;
}

quota any_quota(test::random& random) {
    std::uint64_t const period = any_up_to(random, power(62));
    return {any_up_to(random, period), period, any_up_to(random, power(52))};
}

// The last time that is covered, of epoch 0.
std::uint64_t horizon(bucket_terms const& terms) {
    std::uint64_t low = 0;
    for (std::uint64_t high = power(62) + 1; low + 1 < high;) {
        std::uint64_t const middle = low + (high - low) / 2;
        (terms.covers(time(middle)) ? low : high) = middle;
    }
    return low;
}

} // namespace

TEST_CASE("a product can be shifted by any number of bits that leaves 64") {
    test::random random(1);
    for (unsigned shift = 0; shift < 128; ++shift) {
        for (int i = 0; i < 100; ++i) {
            std::uint64_t const a = random() >> test::below(random, 64);
            std::uint64_t const b = random() >> test::below(random, 64);
            wide const expected = wide(a) * b >> shift;
            if (expected >> 64) continue;
            INFO(a << " * " << b << " >> " << shift);
            REQUIRE(wide_product::of(a, b).shifted(shift) == static_cast<std::uint64_t>(expected));
        }
    }
}

TEST_CASE("a whole number of units a nanosecond takes the time that it takes") {
    CHECK(fill_rate(1, 0).time_for(power(62) - 1) == power(62) - 1);
    CHECK(fill_rate(3, 0).time_for(0) == 0);
    CHECK(fill_rate(3, 0).time_for(1) == 1);
    CHECK(fill_rate(3, 0).time_for(9) == 3);
    CHECK(fill_rate(3, 0).time_for(10) == 4);
    CHECK(fill_rate(3, 0).earned(4) == 12);
    CHECK(fill_rate(1, 0).horizon() == power(54));
    CHECK(fill_rate(3, 0).horizon() == power(54) / 3);
    CHECK(fill_rate(power(24), 0).horizon() == power(30)); // a second and a little
}

TEST_CASE("up to the horizon, units take the shortest time that earns them") {
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (std::size_t i = 0; i < test::schedules(4000); ++i) {
        fill_rate const rate(power(61) + random() % power(62), 38 + test::below(random, 83));
        auto const last = rate.horizon();
        std::uint64_t const most = rate.earned(last);
        for (std::uint64_t const units : {most, any_up_to(random, std::max(most, power(0)))}) {
            std::uint64_t const t = rate.time_for(units);
            INFO(units << " units at " << t << " of " << last);
            if (units > most || t == fill_rate::never) continue;
            REQUIRE(t <= last);
            REQUIRE(rate.earned(t) >= units);
            if (t > 0) REQUIRE(rate.earned(t - 1) < units);
        }
    }
}

TEST_CASE("the horizon belongs to what is reached without a new epoch") {
    // 2^61 / 2^60: two units a nanosecond, counted as if that were not exact.
    fill_rate const rate(power(61), 60);
    REQUIRE(rate.horizon() == power(53));
    CHECK(rate.time_for(power(54)) == power(53));
    // Later, a new epoch may cost a fraction of a unit: half a nanosecond, and one to round up.
    CHECK(rate.time_for(power(54) + 1) >= power(53) + 1);
    CHECK(rate.time_for(power(54) + 1) <= power(53) + 3);
}

TEST_CASE("what takes longer than a rate can tell is never earned") {
    fill_rate const slow(power(61), 120); // a unit in 2^59 ns
    CHECK(slow.time_for(7) == 7 * power(59));
    CHECK(slow.time_for(8) == fill_rate::never);
    CHECK(slow.time_for(power(53)) == fill_rate::never);
    CHECK(slow.horizon() == fill_rate::never);
}

TEST_CASE("a refusal tells the time that is left, none if it is over, and the most for never") {
    CHECK(bucket_refusal().wait() == 0);
    CHECK(bucket_refusal(0).wait() == 0);
    CHECK(bucket_refusal(1).wait() == 1);
    CHECK(bucket_refusal(5 * time(day)).wait() == 5 * time(day));
    CHECK(bucket_refusal(time(power(62)) - 1).wait() == time(power(62)) - 1);
    CHECK(bucket_refusal(time(power(62))).wait() == latest);
    CHECK(bucket_refusal(latest).wait() == latest);
    fill_rate const three(3, 0);
    CHECK(bucket_refusal(three, 30, 0).wait() == 10);
    CHECK(bucket_refusal(three, 30, 4).wait() == 6);
    CHECK(bucket_refusal(three, 31, 4).wait() == 7);
    CHECK(bucket_refusal(three, 30, 10).wait() == 0);
    CHECK(bucket_refusal(three, 30, 11).wait() == 0);
    CHECK(bucket_refusal(fill_rate(power(61), 120), 8, 1000).wait() == latest);
}

TEST_CASE("units fit, whatever the quota") {
    auto const fits = [](quota const& q, std::uint64_t most_per_ns) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst << ", at most "
                       << most_per_ns << " a nanosecond");
        bucket_terms const terms(q.permits, q.period, q.burst, 0, most_per_ns);
        REQUIRE(terms.units(1) >= 1);
        REQUIRE(terms.burst() == terms.units(q.burst));
        REQUIRE(terms.burst() <= bucket_terms::max_burst);
        REQUIRE(terms.permits(terms.units(q.burst)) == q.burst);
        REQUIRE(terms.permits(terms.units(q.burst) - 1) == q.burst - 1);
        // A nanosecond is as good as another: none earns more than a unit too much.
        for (std::uint64_t const t : {1u, 2u, 1000u, 1'000'000u}) {
            REQUIRE(terms.earned(time(t)) - terms.burst() <= t * most_per_ns);
        }
        REQUIRE(terms.covers(time(power(54) / most_per_ns)));
        std::uint64_t const last = horizon(terms);
        std::uint64_t const most = terms.earned(time(last)) - terms.burst();
        // Found in floating point: a part in 2^51 more or less.
        REQUIRE(most <= power(54) + power(3));
        if (last < power(62)) REQUIRE(terms.earned(time(last + last / power(51) + 1)) >= power(54));
        // What is granted at the end, though it be the most that one may ask for.
        auto const granted = terms.take(0, terms.earned(time(last)), bucket_terms::max_burst);
        REQUIRE(granted < bucket_terms::units_limit);
    };
    for (quota const& q : all()) {
        for (std::uint64_t const most : {power(1), power(10), bucket_terms::max_units_per_ns})
            fits(q, most);
    }
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (std::size_t i = 0; i < test::schedules(2000); ++i)
        fits(any_quota(random), power(1 + static_cast<unsigned>(test::below(random, 24))));
}

TEST_CASE("a burst that is too large counts as the largest that fits") {
    for (std::uint64_t const burst : {power(52) + 1, power(53), power(62)}) {
        bucket_terms const terms(power(53), power(53), burst, 0);
        CHECK(terms.burst() == bucket_terms::max_burst);
        CHECK(terms.units(1) == 1);
        CHECK(bucket_terms(5, power(53), burst, 0).burst() == bucket_terms::max_burst);
    }
}

TEST_CASE("a nanosecond earns no more units than it may, and a burst is 2^52 where it can") {
    // 2.5 units a nanosecond, were there 2^52 in a permit.
    bucket_terms const few(5, power(53), 1, 0, 2);
    CHECK(few.earned(2) - few.burst() <= 4);
    CHECK(few.units(1) == power(51));
    CHECK(bucket_terms(5, power(53), 1, 0, 3).units(1) == power(52));
    CHECK(bucket_terms(power(10), power(53) + 1, 1, 0).units(1) == power(52));
}

TEST_CASE("the time up to the horizon is covered, and none before the epoch") {
    for (std::int64_t const epoch : {std::int64_t{0}, time(day), -time(day)}) {
        bucket_terms const terms(1, 1000, 5, epoch); // a unit a nanosecond
        CHECK(terms.epoch() == epoch);
        CHECK_FALSE(terms.covers(epoch - 1));
        CHECK(terms.covers(epoch));
        CHECK(terms.covers(epoch + time(power(54))));
        CHECK_FALSE(terms.covers(epoch + time(power(54)) + 1));
    }
}

TEST_CASE("the time behind others is told however many units they want") {
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (quota const& q : all()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        bucket_terms const terms = q.terms();
        for (int i = 0; i < 200; ++i) {
            std::uint64_t const ahead = any_up_to(random, power(63));
            std::uint64_t const granted = terms.burst() + any_up_to(random, terms.burst());
            std::uint64_t const need = any_up_to(random, terms.burst());
            std::int64_t const when = terms.when(granted, ahead, need);
            INFO(ahead << " permits ahead, " << when);
            wide const units = wide(ahead) * terms.units(1) + granted - terms.burst() + need;
            if (units < power(54)) REQUIRE(when == terms.when(granted + terms.units(ahead), need));
            // In parts: the whole does not fit either.
            wide const one = wide(terms.units(1)) * q.permits;
            wide const due =
                units / one * q.period + units % one / terms.units(1) * q.period / q.permits;
            if (when == latest) {
                REQUIRE(due >= power(62) - power(13));
                continue;
            }
            wide const error = (due >> 49) + wide(q.period) / q.permits + 4;
            REQUIRE(wide(when) + error >= due);
            REQUIRE(wide(when) <= due + error);
        }
    }
}

TEST_CASE("lasting terms cover 146 years, and tell the very nanosecond to the end") {
    for (quota const& q : all()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        auto const terms = bucket_terms::lasting(q.permits, q.period, q.burst, 0);
        CHECK(horizon(terms) == power(62));
        CHECK_FALSE(terms.covers(-1));
        for (std::uint64_t const t : {power(10), power(55), power(61), power(62) - power(20)}) {
            std::uint64_t const earned = terms.earned(time(t));
            REQUIRE(earned - terms.burst() <= 2 * t);
            std::int64_t const when = terms.when(earned, 1);
            if (when == latest) continue;
            REQUIRE(terms.earned(when) > earned);
            REQUIRE(terms.earned(when - 1) <= earned);
        }
    }
}

TEST_CASE("a bucket with a whole number of units a nanosecond is exact for ever") {
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (std::size_t schedule = 0; schedule < test::schedules(400); ++schedule) {
        quota const& q = exact[schedule % exact.size()];
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        std::int64_t now = 1'000'000;
        bool const full = random() % 2 == 0;
        token_bucket bucket(q.permits, std::chrono::nanoseconds(time(q.period)), q.burst, now,
                            full);
        // What is in it, in permits times the period.
        wide const most = wide(q.burst) * q.period;
        wide there = full ? most : 0;
        for (int i = 0; i < 50; ++i) {
            REQUIRE(bucket.available(now) == static_cast<std::uint64_t>(there / q.period));
            std::uint64_t const n = random() % 4 == 0 ? q.burst : any_up_to(random, q.burst);
            wide const need = wide(n) * q.period;
            if (need > there) {
                auto const wait = static_cast<std::uint64_t>(divided_up(need - there, q.permits));
                REQUIRE(bucket.when(n, now) == now + time(wait));
            } else {
                REQUIRE(bucket.when(n, now) == now);
            }
            REQUIRE(bucket.take(n, now) == (need <= there));
            if (need <= there) there -= need;
            // Mostly not long enough to fill it, and sometimes no time at all.
            wide const longest = std::min<wide>(most / q.permits * 5 / 4 + 2, power(30));
            std::uint64_t const step = any_up_to(random, static_cast<std::uint64_t>(longest)) - 1;
            if (now > time(power(61))) break;
            now += time(step);
            there = std::min(most, there + wide(step) * q.permits);
        }
    }
}

TEST_CASE("units are earned at the rate, less than 2^-60 of it too slow") {
    auto const judge = [](quota const& q, test::random& random) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        bucket_terms const terms = q.terms();
        std::uint64_t const last = horizon(terms);
        for (int i = 0; i < 10; ++i) {
            std::uint64_t const t = any_up_to(random, last);
            wide const due = wide(terms.units(1)) * q.permits * t / q.period;
            std::uint64_t const earned = terms.earned(time(t)) - terms.burst();
            INFO(earned << " units in " << t << " ns");
            REQUIRE(earned <= due);
            REQUIRE(earned + 1 >= due);
        }
        for (int i = 0; i < 10; ++i) {
            std::uint64_t const units = any_up_to(random, power(54));
            wide const due = q.earns(terms, units);
            if (due > last - last / power(50)) continue;
            auto const when = static_cast<std::uint64_t>(terms.when(terms.burst(), units));
            INFO(units << " units in " << when << " ns");
            if (units > terms.burst()) continue;
            REQUIRE(when >= due);
            REQUIRE(when <= due + (due >> 60) + 1);
        }
    };
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (quota const& q : all()) judge(q, random);
    for (std::size_t i = 0; i < test::schedules(2000); ++i) judge(any_quota(random), random);
    // The slowest that there are.
    for (std::size_t i = 0; i < test::schedules(400); ++i)
        judge({1, power(62) - any_up_to(random, power(60)), power(52)}, random);
}

TEST_CASE("a full bucket mints nothing by its fraction of a unit") {
    for (quota const& q : inexact) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        bucket_terms const terms = q.terms();
        for (std::int64_t t = 0; t < 50; ++t) {
            // Everything at once, and a little more as soon as it is there.
            std::uint64_t const granted = terms.take(0, terms.earned(t), terms.burst());
            REQUIRE(granted != bucket_terms::refused);
            for (std::uint64_t const n : {std::uint64_t{1}, terms.units(1)}) {
                std::int64_t const next = terms.when(granted, n);
                if (!terms.covers(next)) continue;
                INFO("all at " << t << ", " << n << " units at " << next);
                REQUIRE(terms.take(granted, terms.earned(next), n) != bucket_terms::refused);
                REQUIRE(terms.take(granted, terms.earned(next - 1), n) == bucket_terms::refused);
                REQUIRE(at(next - t) >= q.earns(terms, n));
                REQUIRE(at(next - t) <= q.earns(terms, n + 2) + 1);
            }
        }
    }
}

TEST_CASE("a bucket is full, or empty, to the unit") {
    bucket_terms const terms(3, 7, 5, 0); // 7 units a permit, 3 a nanosecond
    std::uint64_t const earned = terms.earned(100);
    REQUIRE(terms.burst() == 35);
    REQUIRE(earned == 335);
    CHECK(terms.full(0, 35));
    CHECK(terms.full(300, earned));
    CHECK_FALSE(terms.full(301, earned));
    CHECK(terms.available(0, earned) == 35);
    CHECK(terms.available(300, earned) == 35);
    CHECK(terms.available(301, earned) == 34);
    CHECK(terms.available(334, earned) == 1);
    CHECK(terms.available(335, earned) == 0);
    CHECK(terms.available(336, earned) == 0);

    CHECK(terms.take(0, earned, 7) == 307);   // what was earned before is forfeited
    CHECK(terms.take(300, earned, 7) == 307); // nothing was
    CHECK(terms.take(301, earned, 7) == 308);
    CHECK(terms.take(328, earned, 7) == 335);
    CHECK(terms.take(329, earned, 7) == bucket_terms::refused);
    // More than a burst takes a full bucket, and leaves a debt.
    CHECK(terms.take(300, earned, 70) == 370);
    CHECK(terms.take(301, earned, 70) == bucket_terms::refused);
}

TEST_CASE("a refusal and the time of a turn agree, debts and demands above a burst included") {
    bucket_terms const terms(3, 7, 5, 1000); // 7 units a permit, 3 a nanosecond
    CHECK(terms.when(0, 7) == 1000);
    CHECK(terms.when(28, 7) == 1000);
    CHECK(terms.when(29, 7) == 1001);
    CHECK(terms.when(35, 7) == 1003); // 7 / 3 ns
    CHECK(terms.when(35, 35) == 1012);
    CHECK(terms.when(35, 700) == 1012); // when it is full
    CHECK(terms.when(65, 7) == 1013);   // 30 units in debt
    CHECK(terms.refusal(35, 7, 1000).wait() == 3);
    CHECK(terms.refusal(35, 7, 1001).wait() == 2);
    CHECK(terms.refusal(35, 35, 1001).wait() == 11);
    CHECK(terms.refusal(35, 700, 1001).wait() == 11);
    CHECK(terms.refusal(65, 7, 1001).wait() == 12);
    CHECK(terms.refusal(65, 7, 1013).wait() == 0);

    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (quota const& q : all()) {
        INFO(q.permits << " per " << q.period << " ns, burst " << q.burst);
        bucket_terms const t = q.terms(1000);
        for (int i = 0; i < 100; ++i) {
            std::uint64_t const granted = t.burst() + random() % t.burst();
            std::uint64_t const need = t.units(any_up_to(random, q.burst));
            std::int64_t const turn = t.when(granted, need);
            if (!t.covers(turn)) continue;
            std::int64_t const now =
                turn - time(std::min(any_up_to(random, power(30)), at(turn) - 1000));
            if (turn > now) {
                REQUIRE(t.take(granted, t.earned(now), need) == bucket_terms::refused);
                REQUIRE(t.take(granted, t.earned(turn - 1), need) == bucket_terms::refused);
            }
            REQUIRE(t.take(granted, t.earned(turn), need) != bucket_terms::refused);
            REQUIRE(t.refusal(granted, need, now).wait() == turn - now);
        }
    }
}

TEST_CASE("a turn beyond the end of time is at the end of time") {
    std::uint64_t const a_second = second; // units a permit, one a nanosecond
    bucket_terms const late(1, second, 1, latest - 1'500'000'000);
    CHECK(late.when(a_second, a_second) == latest - 500'000'000);
    CHECK(late.when(a_second + 499'999'999, a_second) == latest - 1);
    CHECK(late.when(a_second + 500'000'000, a_second) == latest);
    CHECK(late.when(2 * a_second, a_second) == latest);
    bucket_terms const early(1, second, 1, std::numeric_limits<std::int64_t>::min());
    CHECK(early.when(a_second, a_second) ==
          std::numeric_limits<std::int64_t>::min() + time(second));
    // As long as a rate can tell is as good as never.
    bucket_terms const slow(1, power(62), 1, 0);
    CHECK(slow.when(slow.burst(), slow.units(1)) == latest);
    CHECK(slow.refusal(slow.burst(), slow.units(1), 0).wait() == latest);
    bucket_terms const faster(1, power(62) - power(20), 1, 0);
    CHECK(faster.when(faster.burst(), faster.units(1)) < time(power(62)));
}

TEST_CASE("other terms leave what is in the bucket, and debts rounded up by a unit at most") {
    auto const judge = [](quota const& from, quota const& to, test::random& random) {
        INFO(from.permits << " per " << from.period << " ns, burst " << from.burst << " to "
                          << to.permits << " per " << to.period << " ns, burst " << to.burst);
        bucket_terms const old = from.terms(-1000), now = to.terms(5);
        std::uint64_t const before = old.units(1), after = now.units(1);
        std::uint64_t const earned = old.earned(5);

        // Nothing, everything, and between.
        for (std::uint64_t const there :
             {std::uint64_t{0}, std::uint64_t{1}, before, old.burst(), earned,
              any_up_to(random, old.burst()), before * any_up_to(random, from.burst)}) {
            INFO(there << " of " << old.burst() << " units there");
            std::uint64_t const granted = now.carry_over(old, earned - there, 5, 0);
            REQUIRE(granted <= now.burst());
            wide const left = wide(std::min(there, old.burst())) * after / before;
            REQUIRE(now.burst() - granted == std::min<wide>(left, now.burst()));
        }
        for (std::uint64_t const most : {std::uint64_t{0}, std::uint64_t{1}, from.burst}) {
            for (std::uint64_t const owed :
                 {std::uint64_t{1}, before, any_up_to(random, old.burst()), old.burst()}) {
                INFO(owed << " units owed, at most " << most << " permits");
                std::uint64_t const granted =
                    now.carry_over(old, earned + owed, 5, old.units(most));
                REQUIRE(granted >= now.burst());
                std::uint64_t const owes = granted - now.burst();
                wide const due = wide(std::min(owed, old.units(most))) * after;
                if (before == after) {
                    REQUIRE(owes == due / before);
                } else if (due / before < bucket_terms::max_burst) {
                    REQUIRE(wide(owes) * before >= due);
                    REQUIRE(wide(owes) * before <= due + before);
                }
                REQUIRE(granted < bucket_terms::units_limit); // as many as one can count
            }
        }
    };
    auto const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    for (quota const& from : all()) {
        for (quota const& to : all()) judge(from, to, random);
    }
    judge({1, second, 1}, {1, 3 * power(50), 1}, random); // a permit is most of what can be owed
    judge({1, 1, power(44)}, {1, 1'000'003 * power(20), 1}, random); // and 2^64 units are none
    for (std::size_t i = 0; i < test::schedules(2000); ++i)
        judge(any_quota(random), any_quota(random), random);
}

TEST_CASE("a bucket that was idle for years leaves its burst, also to a larger one") {
    quota const small = {power(24), power(24) + 1, 2}, large = {1, second, 10};
    std::int64_t const years = 10 * 365 * time(day);
    bucket_terms const old = small.terms(), now = large.terms(years);
    for (std::uint64_t const granted : {std::uint64_t{0}, old.burst(), 2 * old.burst()}) {
        std::uint64_t const carried = now.carry_over(old, granted, years, 100);
        CHECK(now.permits(now.available(carried, now.earned(years))) == 2);
    }
    bucket_terms const other = large.terms(), less = small.terms(years);
    CHECK(less.carry_over(other, other.burst(), years, 100) == 0); // full
    bucket_terms const same = small.terms(years);
    CHECK(same.carry_over(old, old.burst(), years, 100) == 0);
}

TEST_CASE("terms can be taken apart and put together") {
    for (quota const& q : all()) {
        bucket_terms const terms = q.terms(-7);
        auto const w = terms.words();
        auto const again = bucket_terms::from_words(w[0], w[1], w[2], w[3], w[4], w[5]);
        CHECK(again.words() == w);
        CHECK(again.epoch() == -7);
        CHECK(again.burst() == terms.burst());
        CHECK(again.units(1) == terms.units(1));
        CHECK(again.earned(1'000'000) == terms.earned(1'000'000));
        CHECK(again.covers(time(power(40))) == terms.covers(time(power(40))));
    }
}

TEST_CASE("a clock that steps back by a bucket's time changes no turn, by more it does") {
    auto const start = time(day);
    std::int64_t const step = time(second);
    for (std::int64_t const more : {0, 1}) {
        token_bucket bucket(10, std::chrono::seconds(1), 10, start); // filled in a second
        REQUIRE(bucket.take(10, start + 5 * step));
        std::int64_t const back = start + 4 * step - more;
        INFO("back by a second and " << more << " ns");
        // What was earned in the time that is lived again is owed, but never more than a burst.
        std::int64_t const turn = start + 5 * step + step / 10;
        CHECK(bucket.when(1, back) == (more ? back + step / 10 : turn));
        CHECK_FALSE(bucket.take(1, back));
    }
}
