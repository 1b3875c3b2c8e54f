// SPDX-License-Identifier: BSL-1.0
// Windows beside a list of everything that was recorded.
#include <tidegate/core/sliding_windows.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <deque>

using tidegate::core::histogram;
using tidegate::core::sliding_windows;

namespace {
constexpr auto second = sliding_windows::second;
}

TEST_CASE("what was recorded stays for the length of a window, and not much longer") {
    test::random random(test::seeds().back());
    sliding_windows windows;
    histogram all;
    struct sample {
        std::int64_t seen;
        std::uint64_t ns;
    };
    std::deque<sample> samples;
    std::int64_t now = 12345;
    for (int i = 0; i < 3000; ++i) {
        // Mostly a second, sometimes none or many.
        now += test::below(random, 20)
                   ? second / 2 + static_cast<std::int64_t>(test::below(random, second))
                   : static_cast<std::int64_t>(test::below(random, 100 * second));
        for (auto n = test::below(random, 5); n > 0; --n) {
            samples.push_back({now, 1 + test::below(random, 1'000'000'000)});
            all.record(samples.back().ns);
        }
        windows.advance(now, all);
        while (!samples.empty() && samples.front().seen < now - 500 * second) samples.pop_front();
        std::pair<std::int64_t, std::int64_t> const lengths[] = {
            {10 * second, second}, {60 * second, 10 * second}, {300 * second, 60 * second}};
        for (auto const& [length, step] : lengths) {
            std::uint64_t at_least = 0, at_most = 0;
            for (auto const& one : samples) {
                at_least += one.seen > now - length;
                at_most += one.seen > now - length - step;
            }
            auto const got = windows.last(length).count();
            REQUIRE(got >= at_least);
            REQUIRE(got <= at_most);
        }
        CHECK(windows.differences() <= 26);
    }
}

TEST_CASE("a window's percentiles are those of what is in it") {
    sliding_windows windows;
    histogram all;
    for (int i = 0; i < 1000; ++i) all.record(1'000'000'000);
    windows.advance(0, all);
    for (std::uint64_t i = 1; i <= 100; ++i) all.record(i * 1'000'000);
    windows.advance(11 * second, all);
    auto const ten = windows.last(10 * second);
    CHECK(ten.count() == 100);
    CHECK(ten.sum() == 5050e6);
    CHECK(std::abs(ten.percentile(0.5) / 50e6 - 1) < 0.003);
    CHECK(ten.max() <= 100'600'000);
    CHECK(windows.last(60 * second).count() == 1100);
    windows.advance(400 * second, all);
    CHECK(windows.last(300 * second).count() == 0);
    CHECK(windows.differences() == 0);
}

TEST_CASE("a clock that steps back loses nothing") {
    sliding_windows windows;
    histogram all;
    all.record(1);
    windows.advance(100 * second, all);
    all.record(1);
    windows.advance(50 * second, all);
    CHECK(windows.last(10 * second).count() == 2);
}

TEST_CASE("who tells how it stood before changes nothing") {
    // Once in a power of two that there is already, once in another.
    for (std::uint64_t const ns : {1'000u, 1'000'000u}) {
        INFO(ns << " ns");
        sliding_windows windows;
        histogram older;
        older.record(1'000);
        histogram newer = older;
        newer.record(ns);
        windows.advance(second, newer);
        windows.advance(second, older);
        REQUIRE(windows.last(10 * second).count() == 2);
        newer.record(ns);
        windows.advance(second, newer);
        REQUIRE(windows.last(10 * second).count() == 3);
    }
}

TEST_CASE("who tells every second finds ten seconds in ten, and no difference more than it takes") {
    sliding_windows windows;
    histogram all;
    for (int i = 1; i <= 1000; ++i) {
        all.record(1);
        windows.advance(i * second, all);
        INFO("after " << i);
        REQUIRE(windows.last(10 * second).count() == std::min<std::uint64_t>(10, all.count()));
        REQUIRE(windows.last(second).count() == 1);
        // Ten of a second, five or six of ten, four or five of sixty.
        REQUIRE(windows.differences() <= 10 + 6 + 5);
        REQUIRE((i < 300 || windows.differences() >= 10 + 5 + 4));
    }
}

TEST_CASE("what a window has no more is not kept") {
    for (std::int64_t const length : {10 * second, 60 * second, 300 * second}) {
        INFO(length / second << " s");
        sliding_windows windows;
        histogram all;
        all.record(1);
        windows.advance(1000 * second, all);
        windows.advance(1000 * second + length - 1, all);
        CHECK(windows.last(length).count() == 1);
        windows.advance(1000 * second + length, all);
        CHECK(windows.last(length).count() == 0);
        CHECK(windows.differences() == (length < sliding_windows::longest));
    }
}
