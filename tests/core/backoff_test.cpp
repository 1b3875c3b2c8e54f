// SPDX-License-Identifier: BSL-1.0
// Pauses: how they grow, how they are spread, and that they stay in range.
#include <tidegate/core/backoff.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

using tidegate::core::backoff;
using tidegate::core::jitter;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t samples = 100'000;

std::vector<double> draw(backoff const& schedule, std::uint32_t retry, std::mt19937_64& random) {
    std::vector<double> pauses(samples);
    for (double& p : pauses) p = static_cast<double>(schedule.pause(retry, 0ns, random).count());
    return pauses;
}

// The Kolmogorov-Smirnov distance from an even spread between two ends.
double distance_from_even(std::vector<double> values, double low, double high) {
    std::sort(values.begin(), values.end());
    double worst = 0;
    auto const n = static_cast<double>(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        double const expected = (values[i] - low) / (high - low);
        worst = std::max({worst, std::abs(expected - static_cast<double>(i) / n),
                          std::abs(expected - static_cast<double>(i + 1) / n)});
    }
    return worst;
}

// Exceeded by one even sample in a thousand.
double const critical = 1.95 / std::sqrt(static_cast<double>(samples));

} // namespace

TEST_CASE("pauses double up to the cap") {
    backoff const schedule(100ms, 2, 1s, jitter::none);
    std::mt19937_64 random(1);
    std::vector<std::chrono::nanoseconds> const expected = {100ms, 200ms, 400ms, 800ms, 1s, 1s};
    for (std::uint32_t n = 1; n <= expected.size(); ++n) {
        CHECK(schedule.pause(n, 0ns, random) == expected[n - 1]);
    }
}

TEST_CASE("two thousand million retries later the pause is still the cap") {
    std::mt19937_64 random(1);
    for (double const multiplier : {1.0, 1.5, 2.0, 1000.0}) {
        auto const longest = std::chrono::nanoseconds::max();
        for (auto const cap : {std::chrono::nanoseconds(1h), longest}) {
            backoff const schedule(1ns, multiplier, cap, jitter::none);
            auto const pause = schedule.pause(std::uint32_t{1} << 31, 0ns, random);
            if (multiplier == 1.0) CHECK(pause == 1ns);
            else
                CHECK(pause >=
                      std::min<std::chrono::nanoseconds>(cap, 9'000'000'000'000'000'000ns));
            CHECK(pause <= cap);
            for (auto const kind : {jitter::full, jitter::equal, jitter::decorrelated}) {
                backoff const jittered(1ns, multiplier, cap, kind);
                auto const any = jittered.pause(std::uint32_t{1} << 31, longest, random);
                CHECK(any >= 0ns);
                CHECK(any <= cap);
            }
        }
    }
}

TEST_CASE("jitter is spread evenly, at the cap too") {
    std::mt19937_64 random(20261121);
    for (std::uint32_t const retry : {1u, 3u, 50u}) {
        backoff const full(100ms, 2, 1s, jitter::full);
        double const whole = static_cast<double>(full.nominal(retry).count());
        CHECK(distance_from_even(draw(full, retry, random), 0, whole) < critical);
        backoff const equal(100ms, 2, 1s, jitter::equal);
        CHECK(distance_from_even(draw(equal, retry, random), whole / 2, whole) < critical);
    }
    backoff const decorrelated(100ms, 2, 1s, jitter::decorrelated);
    CHECK(distance_from_even(draw(decorrelated, 1, random), 1e8, 3e8) < critical);
}

TEST_CASE("no pause heaps up at the cap, however long it goes on") {
    std::mt19937_64 random(5);
    for (auto const kind : {jitter::full, jitter::equal, jitter::decorrelated}) {
        backoff const schedule(10ms, 3, 1s, kind);
        std::map<std::int64_t, std::size_t> in_milliseconds;
        auto previous = 0ns;
        for (std::size_t i = 0; i < samples; ++i) {
            previous = schedule.pause(40, previous, random);
            ++in_milliseconds[previous / 1ms];
        }
        for (auto const& [ms, count] : in_milliseconds) REQUIRE(count < samples / 50);
    }
}

TEST_CASE("callers with generators of their own do not keep in step") {
    backoff const schedule(100ms, 2, 1s, jitter::full);
    std::mt19937_64 one(1), two(2);
    auto const a = draw(schedule, 5, one);
    auto const b = draw(schedule, 5, two);
    double sum = 0;
    for (std::size_t i = 0; i < samples; ++i) sum += (a[i] / 1e9 - 0.5) * (b[i] / 1e9 - 0.5);
    double const correlation = sum / static_cast<double>(samples) * 12;
    CHECK(std::abs(correlation) < 0.02);
}
