// SPDX-License-Identifier: BSL-1.0
// When a queue counts as overloaded: by hand, and against the whole history of a random queue.
#include <tidegate/core/queue_delay.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <deque>
#include <vector>

using namespace std::chrono_literals;
using time_point = std::chrono::steady_clock::time_point;
using queue_delay = tidegate::core::queue_delay<time_point>;

namespace {

constexpr time_point start{1h};

} // namespace

TEST_CASE("a delay above the target for an interval is overload") {
    queue_delay q(5ms, 100ms);
    CHECK_FALSE(q.overloaded());
    CHECK_FALSE(q.sample(start, 5ms));         // not above
    CHECK_FALSE(q.sample(start + 5ms, 10ms));  // above since start
    CHECK_FALSE(q.sample(start + 99ms, 6ms));  // this one was above since 98 ms
    CHECK_FALSE(q.sample(start + 105ms, 6ms)); // and this one, after a break, since 104 ms
    CHECK_FALSE(q.sample(start + 200ms, 101ms));
    CHECK(q.sample(start + 204ms, 105ms));
    CHECK(q.overloaded());
}

TEST_CASE("one entry that waits for a target and an interval is overload") {
    queue_delay q(5ms, 100ms);
    CHECK_FALSE(q.sample(start, 105ms - 1ns));
    queue_delay r(5ms, 100ms);
    CHECK(r.sample(start, 105ms));
}

TEST_CASE("a low delay alone does not end overload, an interval without a high one does") {
    queue_delay q(5ms, 100ms);
    REQUIRE(q.sample(start, 1s));
    CHECK(q.sample(start + 10ms, 0ms));
    CHECK(q.sample(start + 100ms - 1ns, 5ms));
    CHECK_FALSE(q.sample(start + 100ms, 5ms));
    CHECK_FALSE(q.sample(start + 101ms, 6ms));
}

TEST_CASE(
    "overload ends with an interval without a high delay, even if a high one ends the interval") {
    queue_delay q(5ms, 100ms);
    REQUIRE(q.sample(start, 1s));
    CHECK_FALSE(q.sample(start + 101ms, 6ms)); // above since 100 ms
    queue_delay r(5ms, 100ms);
    REQUIRE(r.sample(start, 1s));
    CHECK(r.sample(start + 101ms - 1ns, 6ms));
}

TEST_CASE("a high delay renews overload") {
    queue_delay q(5ms, 100ms);
    REQUIRE(q.sample(start, 1s));
    CHECK(q.sample(start + 99ms, 6ms));
    CHECK(q.sample(start + 198ms, 1ms));
    CHECK_FALSE(q.sample(start + 199ms, 1ms));
}

TEST_CASE("a queue that was idle is not overloaded any more, whatever it sees first") {
    queue_delay q(5ms, 100ms);
    REQUIRE(q.sample(start, 1s));
    CHECK_FALSE(q.sample(start + 1h, 6ms));
    REQUIRE(q.sample(start + 1h + 200ms, 206ms));
}

namespace {

using period = std::pair<time_point, time_point>;

// The whole history of a queue's delay, from which each answer is worked out anew.
class history {
public:
    history(queue_delay::duration target, queue_delay::duration interval)
        : target_(target), interval_(interval) {}

    // The oldest entry came at `from` and stayed the oldest until `to`.
    void oldest(time_point from, time_point to) {
        if (to - from <= target_) return;
        period const high{std::max(from + target_, end_of_last()), to};
        if (!high_.empty() && high_.back().second == high.first) high_.back().second = to;
        else high_.push_back(high);
    }

    bool overloaded() const {
        bool is = false;
        time_point last_high{};
        for (period const& p : high_) {
            if (is && p.first - last_high >= interval_) is = false;
            if (p.second - p.first >= interval_) is = true;
            last_high = p.second;
        }
        return is;
    }
    bool overloaded(time_point now) const {
        return overloaded() &&
               (now == high_.back().second || now - high_.back().second < interval_);
    }

private:
    time_point end_of_last() const { return high_.empty() ? time_point{} : high_.back().second; }

    queue_delay::duration target_;
    queue_delay::duration interval_;
    std::vector<period> high_; // above the target
};

} // namespace

TEST_CASE("sampled whenever entries come and go, it knows all that its queue went through") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t overloads = 0;
        for (std::size_t round = 0; round < test::schedules() / 100; ++round) {
            queue_delay q(3ms, 10ms);
            history all(3ms, 10ms);
            std::deque<time_point> queue;
            time_point now = start;
            std::size_t const pace = 1 + test::below(random, 6);
            for (int step = 0; step < 60; ++step) {
                now += std::chrono::milliseconds(test::below(random, pace));
                // The oldest has been so until now.
                bool const told = q.sample(now, queue.empty() ? 0ms : now - queue.front());
                if (!queue.empty()) all.oldest(queue.front(), now);
                REQUIRE(told == all.overloaded(now));
                overloads += told;
                std::size_t const what = test::below(random, 3);
                if (what != 0) queue.push_back(now);
                if (what != 1 && !queue.empty()) queue.pop_front();
            }
        }
        CHECK(overloads > 100);
    }
}
