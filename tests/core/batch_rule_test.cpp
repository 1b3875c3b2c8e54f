// SPDX-License-Identifier: BSL-1.0
// When a batch is closed, and why: by hand, and for random queues.
#include <tidegate/core/batch_rule.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>

using namespace std::chrono_literals;
using time_point = std::chrono::steady_clock::time_point;
using rule = tidegate::core::batch_rule<time_point>;
using tidegate::core::batch_reason;

TEST_CASE("without a delay whatever is there goes at once") {
    rule const r(4, 0ns);
    time_point const now{10s};
    CHECK_FALSE(r.close(0, now, now, false));
    CHECK(r.close(1, now, now, false) == batch_reason::idle);
    CHECK(r.close(3, now, now, true) == batch_reason::flush);
    CHECK(r.close(4, now, now, false) == batch_reason::full);
    CHECK(r.close(9, now, now, true) == batch_reason::full);
}

TEST_CASE("with a delay an incomplete batch waits for its oldest item's time") {
    rule const r(4, 5ms);
    time_point const oldest{10s};
    CHECK_FALSE(r.close(3, oldest, oldest, false));
    CHECK_FALSE(r.close(3, oldest, oldest + 5ms - 1ns, false));
    CHECK(r.close(3, oldest, oldest + 5ms, false) == batch_reason::delay);
    CHECK(r.close(4, oldest, oldest, false) == batch_reason::full);
    CHECK(r.close(1, oldest, oldest, true) == batch_reason::flush);
    CHECK_FALSE(r.close(0, oldest, oldest + 1h, true));
    CHECK(r.due(oldest) == oldest + 5ms);
    CHECK(r.due(time_point::max() - 1ns) == time_point::max());
}

namespace {

constexpr time_point start{1h};

// Of any magnitude, up to the largest.
std::chrono::nanoseconds any(test::random& random) {
    std::uint64_t const largest = random() >> 1;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(largest >> test::below(random, 63)));
}

// Near the beginning of time, or near its end.
time_point any_time(test::random& random) {
    return test::below(random, 2) == 0 ? time_point{} + any(random)
                                       : time_point::max() - any(random);
}

// Twice the largest time is still less than this type's.
std::uint64_t count(time_point t) {
    return static_cast<std::uint64_t>(t.time_since_epoch().count());
}
std::uint64_t count(std::chrono::nanoseconds d) { return static_cast<std::uint64_t>(d.count()); }

} // namespace

TEST_CASE("a batch is closed for a reason that holds, and waits only if none does") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::array<std::size_t, tidegate::core::batch_reasons> told{};
        std::size_t waited = 0;
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            std::size_t const size = 1 + test::below(random, 8);
            std::size_t const queued = test::below(random, 2 * size + 1);
            auto const delay = test::below(random, 4) == 0 ? 0ns : any(random);
            bool const flushing = test::below(random, 4) == 0;
            time_point const oldest = any_time(random);
            auto const left = time_point::max() - oldest;
            auto const age = test::below(random, 2) == 0
                                 ? any(random)
                                 : delay + (test::below(random, 2) == 0 ? 0ns : -1ns);
            time_point const now = oldest + std::clamp(age, 0ns, left);

            bool const some = queued > 0, late = count(now) >= count(oldest) + count(delay);
            bool const full = queued >= size;
            auto const reason = rule(size, delay).close(queued, oldest, now, flushing);
            INFO(queued << " of " << size << ", oldest " << count(oldest) << ", delay "
                        << count(delay) << ", now " << count(now) << ", flushing " << flushing);
            if (!reason) {
                ++waited;
                REQUIRE_FALSE((some && (full || flushing || late)));
                continue;
            }
            ++told[static_cast<std::size_t>(*reason)];
            REQUIRE(some);
            REQUIRE((*reason == batch_reason::full) == full);
            if (*reason == batch_reason::flush) REQUIRE(flushing);
            if (*reason == batch_reason::idle) REQUIRE(delay == 0ns);
            if (*reason == batch_reason::delay) REQUIRE((delay > 0ns && late));
        }
        for (std::size_t const times : told) CHECK(times > test::schedules() / 100);
        CHECK(waited > test::schedules() / 100);
    }
}

TEST_CASE("an incomplete batch waits until it is due, and then no longer") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t never = 0;
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            std::size_t const size = 2 + test::below(random, 8);
            auto const delay = std::max(any(random), 1ns);
            time_point const oldest = any_time(random);
            rule const r(size, delay);
            auto const close = [&](time_point now) {
                return r.close(1 + test::below(random, size - 1), oldest, now, false);
            };
            INFO("oldest " << count(oldest) << ", delay " << count(delay));
            time_point const due = r.due(oldest);
            REQUIRE(count(due) == std::min(count(oldest) + count(delay), count(time_point::max())));
            if (due > oldest) {
                REQUIRE_FALSE(close(due - 1ns));
                REQUIRE_FALSE(close(oldest + any(random) % (due - oldest)));
            }
            if (due == time_point::max() && delay > due - oldest) { // time ends before
                ++never;
                REQUIRE_FALSE(close(due));
                continue;
            }
            REQUIRE(close(due) == batch_reason::delay);
            auto const later = std::min(any(random), time_point::max() - due);
            REQUIRE(close(due + later) == batch_reason::delay);
        }
        CHECK(never > test::schedules() / 100);
    }
}

TEST_CASE("asked when an item comes and when one is due, no item waits longer than the delay") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t full = 0, late = 0;
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            std::size_t const size = 1 + test::below(random, 6);
            auto const delay = std::chrono::milliseconds(test::below(random, 8));
            std::size_t const pace = 1 + test::below(random, 6);
            rule const r(size, delay);
            std::deque<time_point> queue;
            auto const ask = [&](time_point now) {
                auto const reason =
                    r.close(queue.size(), queue.empty() ? now : queue.front(), now, false);
                if (!reason) return false;
                full += *reason == batch_reason::full;
                late += *reason == batch_reason::delay;
                // It goes for its size, or just when it may wait no longer.
                if (queue.size() < size) REQUIRE(now - queue.front() == delay);
                for (std::size_t i = 0; i < size && !queue.empty(); ++i) queue.pop_front();
                return true;
            };
            time_point now = start;
            for (int step = 0; step < 60; ++step) {
                time_point const next = now + std::chrono::milliseconds(test::below(random, pace));
                while (!queue.empty() && r.due(queue.front()) <= next) {
                    now = r.due(queue.front());
                    REQUIRE(ask(now));
                }
                now = next;
                queue.push_back(now);
                ask(now);
                REQUIRE(queue.size() < size);
                if (!queue.empty()) REQUIRE(now - queue.front() < delay);
            }
        }
        CHECK(full > 100);
        CHECK(late > 100);
    }
}
