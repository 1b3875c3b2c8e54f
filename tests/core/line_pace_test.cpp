// SPDX-License-Identifier: BSL-1.0
// What is foretold of a line, and when nothing is: by hand, and of random lines.
#include <tidegate/core/line_pace.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>

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

namespace {

// So many turns have to be seen, and about as many are remembered.
std::size_t remembered(line const& l) { return std::max<std::size_t>(16, 2 * l.servers); }

line random_line(test::random& random) {
    line l;
    l.servers = 1 + test::below(random, 60);
    return l;
}

std::chrono::nanoseconds random_step(test::random& random) {
    return std::chrono::nanoseconds(1 + (random() >> (34 + test::below(random, 30))));
}

std::chrono::nanoseconds rounded(double n) {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(n));
}

// Whether the last of `waiters` is foretold at most, or at least, this, but for rounding.
bool at_most(line const& l, std::size_t waiters, double wait) {
    return !l.pace.takes_longer(waiters, rounded(wait * (1 + 1e-9) + 2));
}
bool at_least(line const& l, std::size_t waiters, double wait) {
    return l.pace.takes_longer(waiters, rounded(wait * (1 - 1e-9) - 2));
}

} // namespace

TEST_CASE("a line's average is foretold from 16 turns and two rounds on, and nothing before") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules() / 40; ++round) {
            line l = random_line(random);
            time_point const began = l.now;
            std::size_t turns = 0;
            while (turns < remembered(l)) {
                INFO(turns << " turns, " << l.servers << " servers");
                for (auto const left : {-1s, 0s, 1s})
                    REQUIRE_FALSE(l.pace.takes_longer(1000000, left));
                std::size_t const each = 1 + test::below(random, l.servers);
                l.serve(1, random_step(random), each);
                turns += each;
            }
            INFO(turns << " turns, " << l.servers << " servers");
            std::size_t const waiters = 1 + test::below(random, 1000);
            auto const all = static_cast<double>((l.now - began).count());
            double const wait = static_cast<double>(waiters) * all / static_cast<double>(turns);
            REQUIRE(at_most(l, waiters, wait));
            REQUIRE(at_least(l, waiters, wait));
        }
    }
}

TEST_CASE("at a constant pace a wait is the waiters' turns, however long the line has been there") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            line l = random_line(random);
            auto const step = random_step(random);
            std::size_t const each = 1 + test::below(random, l.servers);
            INFO(l.servers << " servers, " << each << " every " << step.count() << " ns");
            l.serve(static_cast<int>(remembered(l) / each + 1), step, each);
            double const turn = static_cast<double>(step.count()) / static_cast<double>(each);
            for (int i = 0; i < 50; ++i) {
                std::size_t const waiters = 1 + test::below(random, 1000);
                REQUIRE(at_most(l, waiters, static_cast<double>(waiters) * turn));
                REQUIRE(at_least(l, waiters, static_cast<double>(waiters) * turn));
                l.serve(1 + static_cast<int>(test::below(random, 3)), step, each);
            }
        }
    }
}

TEST_CASE("a turn is foretold to take what the quickest took at least and the slowest at most") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            line l = random_line(random);
            auto const base = random_step(random);
            double quickest = 1e300, slowest = 0;
            std::size_t turns = 0;
            for (int i = 0; i < 100; ++i) {
                auto const step = base * std::int64_t(100 + test::below(random, 100)) / 100;
                std::size_t const each = 1 + test::below(random, l.servers);
                l.serve(1, step, each);
                turns += each;
                double const turn = static_cast<double>(step.count()) / static_cast<double>(each);
                quickest = std::min(quickest, turn);
                slowest = std::max(slowest, turn);
                if (turns < remembered(l)) continue;
                INFO("step " << i << ", " << l.servers << " servers");
                REQUIRE(at_most(l, 1000, 1000 * slowest));
                REQUIRE(at_least(l, 1000, 1000 * quickest));
            }
        }
    }
}

TEST_CASE("a new pace prevails after as many turns as are remembered, not after a quarter") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            line l = random_line(random);
            std::size_t const each = 1 + test::below(random, l.servers);
            auto const fast = random_step(random);
            auto const slow = fast * std::int64_t(2 + test::below(random, 100));
            bool const slower = test::below(random, 2) == 0;
            auto const before = slower ? fast : slow, after = slower ? slow : fast;
            INFO(l.servers << " servers, " << each << " every " << before.count() << " ns, then "
                           << after.count() << " ns");
            auto const between = 1000 * (fast + slow) / 2; // for so many times `each`
            std::size_t const waiters = 1000 * each;
            int const rounds = static_cast<int>(remembered(l) / each + 1);
            int const quarter = static_cast<int>(remembered(l) / 4 / each);
            l.serve(3 * rounds, before, each);
            REQUIRE(l.pace.takes_longer(waiters, between) != slower);
            l.serve(quarter, after, each);
            REQUIRE(l.pace.takes_longer(waiters, between) != slower);
            l.serve(rounds - quarter, after, each);
            REQUIRE(l.pace.takes_longer(waiters, between) == slower);
        }
    }
}

TEST_CASE("who has more in front, or less time, is never foretold the shorter wait") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t longer = 0;
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            line l = random_line(random);
            auto const any = [&] { return random() >> (1 + test::below(random, 63)); };
            for (int i = 0; i < 60; ++i) {
                l.serve(1, random_step(random), 1 + test::below(random, l.servers));
                auto const [few, many] = std::minmax({std::size_t(any()), std::size_t(any())});
                auto const [little, much] = std::minmax(
                    {static_cast<std::int64_t>(any()), static_cast<std::int64_t>(any())});
                time_point::duration const soon(little), late(much);
                INFO("step " << i << ": " << few << " and " << many << " waiters, " << little
                             << " and " << much << " ns");
                if (!l.pace.takes_longer(few, late)) continue;
                ++longer;
                REQUIRE(l.pace.takes_longer(many, late));
                REQUIRE(l.pace.takes_longer(few, soon));
            }
        }
        CHECK(longer > 100);
    }
}

TEST_CASE("of a line that begins anew all is foretold as if it were the first") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t longer = 0;
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            line used = random_line(random), fresh;
            for (std::size_t i = test::below(random, 60); i > 0; --i)
                used.serve(1, random_step(random), 1 + test::below(random, used.servers));
            fresh.servers = used.servers = 1 + test::below(random, 60);
            fresh.now = used.now += random_step(random);
            used.pace.begin(used.now);
            fresh.pace.begin(fresh.now);
            for (int i = 0; i < 60; ++i) {
                auto const left = random_step(random);
                std::size_t const waiters = 1 + test::below(random, 100);
                bool const told = used.pace.takes_longer(waiters, left);
                REQUIRE(told == fresh.pace.takes_longer(waiters, left));
                longer += told;
                auto const step = random_step(random);
                std::size_t const each = 1 + test::below(random, used.servers);
                used.serve(1, step, each);
                fresh.serve(1, step, each);
            }
        }
        CHECK(longer > 100);
    }
}
