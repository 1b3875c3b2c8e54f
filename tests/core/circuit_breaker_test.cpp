// SPDX-License-Identifier: BSL-1.0
// Windows, probes, ramps and open times, against models that are obviously right.
#include <tidegate/core/circuit_breaker.hpp>
#include <tidegate/detail/call_window.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace core = tidegate::core;
using tidegate::detail::call_window;

TEST_CASE("a count window holds the last calls exactly") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        for (int schedule = 0; schedule < 500; ++schedule) {
            std::size_t const length = 1 + test::below(random, 40);
            call_window window(length);
            std::uint64_t era = 1 + test::below(random, 5);
            window.begin(era);
            std::deque<std::pair<bool, bool>> oracle;
            for (int i = 0; i < 200; ++i) {
                if (test::below(random, 50) == 0) {
                    window.begin(++era);
                    oracle.clear();
                }
                bool const failed = test::below(random, 3) == 0;
                bool const slow = test::below(random, 4) == 0;
                if (test::below(random, 10) == 0) { // from before the last trip
                    CHECK_FALSE(window.record(era - 1, true, true));
                    continue;
                }
                oracle.emplace_back(failed, slow);
                if (oracle.size() > length) oracle.pop_front();
                core::call_counts expected{oracle.size(), 0, 0};
                for (auto const& [f, s] : oracle) {
                    expected.failures += f;
                    expected.slow += s;
                }
                bool const something = window.record(era, failed, slow);
                REQUIRE(window.counts() == expected);
                REQUIRE(something == (expected.failures + expected.slow > 0));
            }
        }
    }
}

TEST_CASE("a count window starts anew when eras are counted from one again") {
    std::uint64_t constexpr cycle = (std::uint64_t{1} << 24) - 1;
    for (std::uint64_t const later : {cycle, cycle + 1, cycle + 2, 2 * cycle}) {
        for (bool const failed : {false, true}) {
            call_window window(2);
            window.begin(cycle - 1); // marked with the largest number
            for (int i = 0; i < 3; ++i) window.record(cycle - 1, failed, false);
            window.begin(later);
            CHECK(window.counts() == core::call_counts{});
            window.record(later, false, false);
            CHECK(window.counts() == core::call_counts{1, 0, 0});
            window.record(later, true, false);
            CHECK(window.counts() == core::call_counts{2, 1, 0});
        }
    }
}

TEST_CASE("a count window that threads fill at the same time ends up exact") {
    for (std::size_t const length : {1u, 2u, 7u, 1000u}) {
        call_window window(length);
        window.begin(3);
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&window, t] {
                test::random random(static_cast<std::uint64_t>(t));
                for (int i = 0; i < 20000; ++i) window.record(3, random() % 2, random() % 3 == 0);
            });
        }
        for (auto& thread : threads) thread.join();
        // Overwritten with successes, nothing may be left over.
        for (std::size_t i = 0; i < length; ++i) window.record(3, false, false);
        CHECK(window.counts() == core::call_counts{length, 0, 0});
    }
}

TEST_CASE("a time window holds the calls of its time, to within a slice") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        for (int schedule = 0; schedule < 500; ++schedule) {
            std::size_t const slices = 1 + test::below(random, 12);
            auto const slice = static_cast<std::int64_t>(1 + test::below(random, 100));
            std::int64_t const length = slice * static_cast<std::int64_t>(slices);
            core::time_window window(length, slices);
            struct call {
                std::int64_t at;
                bool failed, slow;
            };
            std::vector<call> all;
            std::int64_t now = 1'000'000;
            for (int i = 0; i < 200; ++i) {
                now += static_cast<std::int64_t>(
                    test::below(random, static_cast<std::size_t>(i % 20 ? slice : 3 * length)));
                call const c{now, random() % 2 == 0, random() % 3 == 0};
                window.record(c.at, c.failed, c.slow);
                all.push_back(c);
                // Whole slices: from the start of the oldest one that is still in.
                std::int64_t const from =
                    (now / slice - static_cast<std::int64_t>(slices) + 1) * slice;
                core::call_counts expected;
                for (call const& past : all) {
                    if (past.at < from) continue;
                    ++expected.calls;
                    expected.failures += past.failed;
                    expected.slow += past.slow;
                }
                REQUIRE(window.counts(now) == expected);
            }
        }
    }
}

TEST_CASE("a rule trips at its share and not below the minimum of calls") {
    core::trip_rule const rule{50, 101, 10};
    CHECK_FALSE(rule.trips({9, 9, 0}));
    CHECK_FALSE(rule.trips({10, 4, 10}));
    CHECK(rule.trips({10, 5, 0}));
    core::trip_rule const slow{101, 80, 1};
    CHECK_FALSE(slow.trips({5, 5, 3}));
    CHECK(slow.trips({5, 0, 4}));
}

TEST_CASE("probes are leases: never more than permitted, and each counts once") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        for (std::size_t schedule = 0; schedule < test::schedules(); ++schedule) {
            std::size_t const permitted = 1 + test::below(random, 4);
            core::probes probes(permitted, 100);
            struct out {
                core::probes::id id;
                std::int64_t expires;
            };
            std::vector<out> outstanding;
            std::uint64_t reported = 0;
            std::int64_t now = 0;
            for (int i = 0; i < 30; ++i) {
                now += static_cast<std::int64_t>(test::below(random, 60));
                std::size_t const live = static_cast<std::size_t>(
                    std::count_if(outstanding.begin(), outstanding.end(),
                                  [&](out const& o) { return o.expires > now; }));
                REQUIRE(probes.out(now) == live);
                if (random() % 2 || outstanding.empty()) {
                    auto const id = probes.start(now);
                    REQUIRE((id != 0) == (live + reported < permitted));
                    if (!id) continue;
                    std::erase_if(outstanding, [&](out const& o) { return o.expires <= now; });
                    outstanding.push_back({id, now + 100});
                } else {
                    std::size_t const which = test::below(random, outstanding.size());
                    auto const id = outstanding[which].id;
                    if (random() % 3 == 0) {
                        probes.take_back(id);
                    } else if (probes.report(id, now, false, false)) {
                        REQUIRE(outstanding[which].expires > now);
                        ++reported;
                    }
                    CHECK_FALSE(probes.report(id, now, true, true)); // only once
                    outstanding.erase(outstanding.begin() + static_cast<std::ptrdiff_t>(which));
                }
                REQUIRE(reported <= permitted);
            }
        }
    }
}

TEST_CASE("probes decide when the outstanding ones cannot change it") {
    using verdict = core::probes::verdict;
    core::trip_rule const half{50, 101, 1};
    core::probes probes(4, 1000);
    std::vector<core::probes::id> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(probes.start(0));
    CHECK(probes.start(0) == 0);
    probes.report(ids[0], 0, true, false);
    CHECK(probes.decide(half) == verdict::undecided);
    probes.report(ids[1], 0, false, false);
    CHECK(probes.decide(half) == verdict::undecided);
    probes.report(ids[2], 0, false, false);
    CHECK(probes.decide(half) == verdict::undecided);
    SECTION("to healthy") {
        probes.report(ids[3], 0, false, false);
        CHECK(probes.decide(half) == verdict::healthy);
    }
    SECTION("to sick") {
        probes.report(ids[3], 0, true, false);
        CHECK(probes.decide(half) == verdict::sick);
    }
    SECTION("not by a probe that is taken back") {
        probes.take_back(ids[3]);
        CHECK(probes.decide(half) == verdict::undecided);
        CHECK(probes.start(0) != 0);
    }
}

TEST_CASE("a verdict is told from every end that probes can still come to") {
    using verdict = core::probes::verdict;
    auto const ends_sick = [](std::size_t failures, std::size_t slow, std::size_t all,
                              core::trip_rule const& rule) {
        return 100.0 * static_cast<double>(failures) >=
                   rule.failure_rate * static_cast<double>(all) ||
               100.0 * static_cast<double>(slow) >= rule.slow_call_rate * static_cast<double>(all);
    };
    for (std::size_t permitted = 1; permitted <= 4; ++permitted) {
        for (double const failure_rate : {1., 25., 50., 67., 100., 101.}) {
            for (double const slow_rate : {1., 25., 50., 67., 100., 101.}) {
                core::trip_rule const rule{failure_rate, slow_rate, 1};
                // Each probe that reports is one of four: two bits of `outcomes`.
                for (std::size_t outcomes = 0; outcomes < std::size_t{1} << (2 * permitted);
                     ++outcomes) {
                    core::probes probes(permitted, 1000);
                    std::size_t failures = 0, slow = 0;
                    for (std::size_t reported = 0; reported <= permitted; ++reported) {
                        std::size_t const open = permitted - reported;
                        std::size_t sick = 0, healthy = 0;
                        for (std::size_t f = 0; f <= open; ++f) {
                            for (std::size_t s = 0; s <= open; ++s)
                                ++(ends_sick(failures + f, slow + s, permitted, rule) ? sick
                                                                                      : healthy);
                        }
                        verdict const expected = !healthy ? verdict::sick
                                                 : !sick  ? verdict::healthy
                                                          : verdict::undecided;
                        if (probes.decide(rule) != expected) {
                            FAIL(reported << " of " << permitted << " probes: " << failures
                                          << " failed, " << slow << " slow; " << failure_rate
                                          << " %, " << slow_rate << " %");
                        }
                        if (open == 0) break;
                        bool const fails = outcomes >> (2 * reported) & 1;
                        bool const drags = outcomes >> (2 * reported + 1) & 1;
                        probes.report(probes.start(0), 0, fails, drags);
                        failures += fails;
                        slow += drags;
                    }
                }
            }
        }
    }
}

TEST_CASE("a lease that would end after the last moment ends with it") {
    constexpr auto latest = std::numeric_limits<std::int64_t>::max();
    for (auto const& [start, end] : {std::pair{latest - 101, latest - 1},
                                     {latest - 100, latest},
                                     {latest - 99, latest},
                                     {latest - 1, latest}}) {
        core::probes probes(1, 100);
        auto const id = probes.start(start);
        CHECK(probes.next_expiry(start) == end);
        CHECK(probes.out(end - 1) == 1);
        CHECK(probes.out(end) == 0);
        CHECK(probes.report(id, end - 1, false, false));
    }
}

TEST_CASE("probes that are out keep their places under other rules") {
    core::probes probes(3, 100);
    auto const first = probes.start(0);
    auto const second = probes.start(10);
    CHECK(probes.report(second, 20, true, false));
    auto const third = probes.start(20);
    probes.restart(1, 50);
    CHECK(probes.counts() == core::call_counts{});
    CHECK(probes.out(20) == 2);
    CHECK(probes.start(20) == 0);
    probes.take_back(first);
    CHECK(probes.start(20) == 0); // the third is still out
    CHECK(probes.next_expiry(20) == 120);
    SECTION("and count") {
        CHECK(probes.report(third, 30, false, false));
        CHECK(probes.decide({50, 101, 1}) == core::probes::verdict::healthy);
    }
    SECTION("until their leases run out") {
        CHECK(probes.start(119) == 0);
        CHECK(probes.start(120) != 0);
        CHECK(probes.start(120) == 0);
        CHECK(probes.next_expiry(120) == 170);
        CHECK_FALSE(probes.report(third, 120, false, false));
    }
    SECTION("beside more of them") {
        probes.restart(3, 50);
        CHECK(probes.start(20) != 0);
        CHECK(probes.start(20) != 0);
        CHECK(probes.start(20) == 0);
        CHECK(probes.out(20) == 3);
    }
}

TEST_CASE("a ramp never admits more than a call above its share") {
    core::ramp ramp({0.05, 0.25, 0.5}, 1000, 0);
    for (double const share : {0.05, 0.25, 0.5}) {
        int admitted = 0;
        auto const step = static_cast<std::int64_t>(share == 0.05 ? 0 : share == 0.25 ? 1 : 2);
        for (int i = 1; i <= 1000; ++i) {
            admitted += ramp.admit(step * 1000 + i - 1);
            REQUIRE(admitted <= share * i + 1);
            REQUIRE(admitted >= share * i - 1);
        }
    }
    CHECK(ramp.end() == 3000);
    CHECK(ramp.over(3000));
    CHECK(ramp.admit(3000));
    CHECK(core::ramp({}, 0, 0).over(0));
}

TEST_CASE("open times grow to their cap, with jitter on either side") {
    using namespace std::chrono_literals;
    std::mt19937_64 random(1);
    core::open_schedule const plain{1s, 2, 10s, 0};
    CHECK(plain.duration(1, random) == 1s);
    CHECK(plain.duration(3, random) == 4s);
    CHECK(plain.duration(5, random) == 10s);
    CHECK(plain.duration(4'000'000'000u, random) == 10s);
    CHECK(random == std::mt19937_64(1)); // without jitter nothing is drawn
    core::open_schedule const beyond{1h, 2, 5min, 0};
    CHECK(beyond.duration(1, random) == 1h);
    CHECK(beyond.duration(3, random) == 1h);
    core::open_schedule const jittered{1s, 1, 10s, 0.2};
    auto low = 2s + 0ns, high = 0ns;
    for (int i = 0; i < 10000; ++i) {
        auto const time = jittered.duration(1, random);
        low = std::min(low, time);
        high = std::max(high, time);
    }
    CHECK(low >= 800ms);
    CHECK(low < 802ms);
    CHECK(high <= 1200ms);
    CHECK(high > 1198ms);
}

TEST_CASE("a ramp of one half lets every second call through, from the second on") {
    core::ramp ramp({0.5}, 1000, 0);
    for (int i = 0; i < 10; ++i) {
        CHECK_FALSE(ramp.admit(i));
        CHECK(ramp.admit(i));
    }
}

TEST_CASE("a ramp that would end after the last moment ends with it") {
    constexpr auto latest = std::numeric_limits<std::int64_t>::max();
    CHECK(core::ramp({0.5, 0.5}, 10, latest - 19).end() == latest);
    CHECK(core::ramp({0.5, 0.5}, 10, latest - 20).end() == latest);
    CHECK(core::ramp({0.5, 0.5}, 10, latest - 21).end() == latest - 1);
    CHECK(core::ramp({0.5, 0.5}, 10, -100).end() == -80);
}

TEST_CASE("a ramp begins at its start, and takes what comes before for its first step") {
    core::ramp ramp({0.5, 0.25}, 10, 1000);
    CHECK(ramp.end() == 1020);
    for (std::int64_t const now : {0, 999, 1000, 1009}) {
        CHECK_FALSE(ramp.over(now));
        CHECK_FALSE(ramp.admit(now));
        CHECK(ramp.admit(now));
    }
    for (int i = 0; i < 3; ++i) CHECK_FALSE(ramp.admit(1010));
    CHECK(ramp.admit(1019));
    CHECK_FALSE(ramp.over(1019));
    CHECK(ramp.over(1020));
    for (int i = 0; i < 3; ++i) CHECK(ramp.admit(1020));
}

TEST_CASE("a ramp without shares or with steps of no time is over at once") {
    for (core::ramp ramp : {core::ramp({}, 10, 1000), core::ramp({0.5}, 0, 1000)}) {
        CHECK(ramp.end() == 1000);
        for (std::int64_t const now : {0, 1000, 1001}) {
            CHECK(ramp.over(now));
            CHECK(ramp.admit(now));
        }
    }
}

TEST_CASE("a time window takes times that go back for the latest") {
    core::time_window window(100, 10);
    window.record(1000, true, false);
    window.record(995, false, true);
    window.record(0, false, false);
    CHECK(window.counts(0) == core::call_counts{3, 1, 1});
    CHECK(window.counts(1099) == core::call_counts{3, 1, 1});
    CHECK(window.counts(1100) == core::call_counts{});
}

TEST_CASE("a time window knows its shape, which rounds to whole slices and is never none") {
    core::time_window const window(1000, 10);
    CHECK(window.has_shape(1000, 10));
    CHECK(window.has_shape(1009, 10));
    CHECK_FALSE(window.has_shape(2000, 10));
    CHECK_FALSE(window.has_shape(1000, 9));
    CHECK(core::time_window(3, 10).has_shape(3, 10));
}

TEST_CASE("slow probes count as slow") {
    core::probes probes(2, 100);
    auto const first = probes.start(0);
    auto const second = probes.start(0);
    REQUIRE(probes.report(first, 1, false, true));
    REQUIRE(probes.report(second, 1, true, false));
    CHECK(probes.counts() == core::call_counts{2, 1, 1});
}
