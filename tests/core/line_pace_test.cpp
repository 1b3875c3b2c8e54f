// SPDX-License-Identifier: BSL-1.0
// What is foretold of a line, and when nothing is.
#include <tidegate/core/line_pace.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>

using namespace std::chrono_literals;
using time_point = std::chrono::steady_clock::time_point;
using line_pace = tidegate::core::line_pace<time_point>;

namespace {

// A line of whom `each` at a time have their turn, every `step`.
struct line {
    line_pace pace;
    time_point now{1h};
    std::size_t servers = 1;

    line() { pace.begin(now); }
    void serve(int times, std::chrono::nanoseconds step, std::size_t each = 1) {
        for (int i = 0; i < times; ++i) {
            now += step;
            pace.served(each, servers, now);
        }
    }
};

} // namespace

TEST_CASE("a line takes as many turns as there are waiters") {
    line l;
    l.serve(20, 10ms);
    CHECK_FALSE(l.pace.takes_longer(5, 50ms));
    CHECK(l.pace.takes_longer(5, 50ms - 1ns));
    CHECK(l.pace.takes_longer(6, 50ms));
    CHECK_FALSE(l.pace.takes_longer(6, time_point::duration::max()));
}

TEST_CASE("nothing is foretold of a line before 16 have had their turn") {
    line l;
    CHECK_FALSE(l.pace.takes_longer(1000, 1ns));
    l.serve(15, 10ms);
    CHECK_FALSE(l.pace.takes_longer(1000, 1ns));
    l.serve(1, 10ms);
    CHECK(l.pace.takes_longer(1000, 1ns));
    l.pace.begin(l.now); // a new line
    l.serve(15, 10ms);
    CHECK_FALSE(l.pace.takes_longer(1000, 1ns));
}

TEST_CASE("servers that work in step are one round, not one fast turn after the other") {
    line l;
    l.servers = 100;
    l.serve(1, 1s); // the first of a hundred
    CHECK_FALSE(l.pace.takes_longer(1000, 1ns));
    l.serve(99, 0s);
    l.serve(1, 1s);
    l.serve(99, 0s);
    CHECK_FALSE(l.pace.takes_longer(100, 1s));
    CHECK(l.pace.takes_longer(100, 900ms));
    for (int round = 0; round < 10; ++round) {
        l.serve(1, 1s);
        for (int i = 0; i < 99; ++i) {
            CHECK_FALSE(l.pace.takes_longer(100, 2s));
            CHECK(l.pace.takes_longer(100, 500ms));
            l.serve(1, 0s);
        }
    }
    l.serve(20, 1s, 100); // the same, told together
    CHECK_FALSE(l.pace.takes_longer(100, 1001ms));
    CHECK(l.pace.takes_longer(100, 999ms));
}

TEST_CASE("a line that becomes faster is soon known to, and one that becomes slower") {
    line l;
    l.serve(100, 1s);
    l.serve(1, 1h); // held up
    CHECK(l.pace.takes_longer(10, 30min));
    l.serve(300, 1ms);
    CHECK_FALSE(l.pace.takes_longer(10, 20ms));
    l.serve(50, 1s);
    CHECK(l.pace.takes_longer(10, 9s));
}
