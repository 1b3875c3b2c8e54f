// SPDX-License-Identifier: BSL-1.0
// Who an adaptive limiter lets in, and which verdicts count.
#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <limits>
#include <optional>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using clock_type = tidegate::testing::manual_clock;
using limiter = tidegate::basic_adaptive_limiter<clock_type>;
using permit = limiter::permit;
using tidegate::adaptive_limiter_options;
using tidegate::concurrency_limit_options;
using tidegate::limit_algorithm;
using tidegate::priority;

namespace {

adaptive_limiter_options starting_at(std::uint32_t limit) {
    return adaptive_limiter_options()
        .limit(concurrency_limit_options().algorithm(limit_algorithm::aimd).initial(limit))
        .window_samples(10);
}

std::vector<permit> take_all(limiter& l, priority p) {
    std::vector<permit> taken;
    while (permit one = l.try_acquire(p)) taken.push_back(std::move(one));
    return taken;
}

} // namespace

TEST_CASE("calls are let in up to the limit") {
    limiter l(starting_at(3));
    auto taken = take_all(l, priority::high);
    CHECK(taken.size() == 3);
    CHECK(l.in_flight() == 3);
    CHECK(l.statistics().refused == 1);
    taken.pop_back();
    CHECK(l.in_flight() == 2);
    CHECK(l.try_acquire(priority::high));
    CHECK(l.limit() == 3);
}

TEST_CASE("low priority is refused first, then normal, then high") {
    limiter l(starting_at(20));
    auto const low = take_all(l, priority::low);
    CHECK(low.size() == 15);
    auto const normal = take_all(l, priority::normal);
    CHECK(normal.size() == 3);
    auto const high = take_all(l, priority::high);
    CHECK(high.size() == 2);
    CHECK_FALSE(l.try_acquire());
}

TEST_CASE("one call of any priority is let in at a limit of one") {
    for (auto const p : {priority::low, priority::normal, priority::high}) {
        limiter l(starting_at(1));
        CHECK(take_all(l, p).size() == 1);
    }
}

TEST_CASE("a permit is given back once, by a verdict or by its end") {
    limiter l(starting_at(10));
    permit a = l.try_acquire();
    a.success();
    CHECK_FALSE(a);
    a.dropped();
    a.ignore();
    CHECK(l.in_flight() == 0);
    permit b = l.try_acquire();
    permit c = l.try_acquire();
    b = std::move(c);
    CHECK(l.in_flight() == 1);
    permit d = std::move(b);
    CHECK(d);
    CHECK_FALSE(b); // NOLINT(bugprone-use-after-move): it is empty then
    d.ignore();
    CHECK(l.in_flight() == 0);
}

TEST_CASE("a permit may outlive its limiter") {
    std::optional<limiter> l(starting_at(10));
    permit a = l->try_acquire();
    permit b = l->try_acquire();
    l.reset();
    a.success();
    b.dropped();
    limiter first(starting_at(2));
    permit c = first.try_acquire();
    first = limiter(starting_at(3));
    CHECK(first.limit() == 3);
}

TEST_CASE("drops shrink the limit, successes let it grow, what is ignored does neither") {
    limiter l(starting_at(10));
    auto const window = [&](auto verdict) {
        for (int round = 0; round < 8; ++round)
            for (permit& p : take_all(l, priority::high)) verdict(p);
    };
    window([](permit& p) { p.ignore(); });
    CHECK(l.statistics().windows == 0);
    CHECK(l.limit() == 10);
    window([](permit& p) { p.success(); });
    CHECK(l.statistics().windows == 2); // 40 calls each, since ten are in at once
    CHECK(l.limit() == 11 + 1);
    limiter other(starting_at(10));
    for (int i = 0; i < 10; ++i) other.try_acquire().dropped();
    CHECK(other.limit() == 9);
}

TEST_CASE("a call that began under another limit does not count") {
    limiter l(starting_at(10));
    std::vector<permit> old;
    for (int i = 0; i < 9; ++i) old.push_back(l.try_acquire());
    std::vector<permit> fresh;
    for (int i = 0; i < 40; ++i) l.try_acquire(priority::high).success();
    REQUIRE(l.statistics().windows == 1);
    REQUIRE(l.limit() == 11);
    for (permit& p : old) p.dropped();
    for (int i = 0; i < 40; ++i) l.try_acquire().success();
    REQUIRE(l.statistics().windows == 2);
    CHECK(l.limit() == 12); // nine drops would have shrunk it
}

TEST_CASE("the latency of a window is the mean of its fastest calls") {
    limiter l(starting_at(100));
    for (int i = 0; i < 10; ++i) {
        permit p = l.try_acquire();
        clock_type::advance(10ms);
        p.success();
    }
    auto const latency = l.statistics().latency;
    CHECK(latency > 9800us);
    CHECK(latency < 10200us);
    for (auto const extreme : {-1h, 0h, 100'000h}) {
        for (int i = 0; i < 10; ++i) {
            permit p = l.try_acquire(priority::high, clock_type::time_point(1h));
            p.success(clock_type::time_point(1h + extreme));
        }
    }
    CHECK(l.statistics().windows == 4);
    CHECK(l.statistics().latency > 17min);
    CHECK(l.statistics().latency < 19min);
}

TEST_CASE("bad adaptive limiter options are refused") {
    adaptive_limiter_options options;
    CHECK_THROWS_AS(options.window_samples(9), std::invalid_argument);
    CHECK_THROWS_AS(options.share(priority::low, 0), std::invalid_argument);
    CHECK_THROWS_AS(options.share(priority::low, 1.01), std::invalid_argument);
    CHECK_THROWS_AS(options.share(priority::high, std::numeric_limits<double>::quiet_NaN()),
                    std::invalid_argument);
}

TEST_CASE("shares are kept in thousandths, and the priorities have shares of their own") {
    auto const o =
        adaptive_limiter_options().share(priority::low, 0.5).share(priority::normal, 0.7126);
    CHECK(o.share(priority::low) == 0.5);
    CHECK(o.share(priority::normal) == 0.713);
    CHECK(o.share(priority::high) == 1);
}
