// SPDX-License-Identifier: BSL-1.0
// The wheel beside a sorted map.
#include <tidegate/core/cache/expiry_wheel.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace {

using tidegate::core::entry_id;
using tidegate::core::entry_links;
using tidegate::core::expiry_wheel;

struct entries {
    std::vector<entry_links> links{64};
    std::vector<expiry_wheel::bucket_number> buckets =
        std::vector<expiry_wheel::bucket_number>(64, expiry_wheel::nowhere);
    std::vector<std::int64_t> deadlines = std::vector<std::int64_t>(64);

    entry_links& due_links(entry_id id) { return links[id]; }
    expiry_wheel::bucket_number& bucket(entry_id id) { return buckets[id]; }
    std::int64_t deadline(entry_id id) const { return deadlines[id]; }
};

constexpr std::int64_t millisecond = 1'000'000;

} // namespace

TEST_CASE("nothing expires before its time, or more than two milliseconds after it") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules(4000) / 10; ++round) {
            // Anywhere on the clock, also before its epoch.
            std::int64_t now = round % 3 == 0   ? -5 * millisecond
                               : round % 3 == 1 ? 0
                                                : std::int64_t{1} << (20 + round % 40);
            expiry_wheel wheel(now);
            entries all;
            std::vector<bool> filed(64);
            auto some_time = [&] {
                std::size_t const bits = test::below(random, 50);
                return static_cast<std::int64_t>(random() & ((std::uint64_t{1} << bits) - 1));
            };
            for (int step = 0; step < 200; ++step) {
                auto const id = static_cast<entry_id>(test::below(random, 64));
                std::size_t const choice = test::below(random, 100);
                if (choice < 50) {
                    std::int64_t const deadline = now + some_time();
                    if (!filed[id]) {
                        all.deadlines[id] = deadline;
                        wheel.add(all, id, deadline);
                        filed[id] = true;
                    } else if (deadline >= all.deadlines[id]) {
                        all.deadlines[id] = deadline; // seen when the old one comes
                    } else {
                        wheel.remove(all, id);
                        all.deadlines[id] = deadline;
                        wheel.add(all, id, deadline);
                    }
                } else if (choice < 60) {
                    wheel.remove(all, id);
                    filed[id] = false;
                } else {
                    now += some_time();
                    bool const thorough = random() % 2;
                    std::size_t budget = thorough ? 100'000 : test::below(random, 4);
                    std::size_t const given = budget;
                    std::size_t moved = 0;
                    wheel.advance(all, now, budget, [&](entry_id due) {
                        REQUIRE(filed[due]);
                        REQUIRE(all.deadlines[due] <= now);
                        filed[due] = false;
                        ++moved;
                    });
                    REQUIRE(budget <= given);
                    REQUIRE(moved <= given - budget);
                    for (entry_id i = 0; thorough && i < 64; ++i) {
                        if (filed[i]) REQUIRE(all.deadlines[i] > now - 3 * millisecond);
                    }
                }
            }
        }
    }
}

TEST_CASE("a deadline at the end of all time is filed") {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    for (std::int64_t const start : {std::int64_t{0}, most - 10, -most}) {
        expiry_wheel wheel(start);
        entries all;
        all.deadlines[1] = most;
        wheel.add(all, 1, most);
        std::size_t budget = 1000;
        int expired = 0;
        wheel.advance(all, most - 5, budget, [&](entry_id) { ++expired; });
        CHECK(expired == 0);
        wheel.remove(all, 1);
        CHECK(all.bucket(1) == expiry_wheel::nowhere);
    }
}

TEST_CASE("there is something to do when a whole tick is over") {
    constexpr std::int64_t tick = std::int64_t{1} << 20;
    expiry_wheel wheel(0);
    entries all;
    CHECK(!wheel.is_due(tick - 1));
    CHECK(wheel.is_due(tick));
    std::size_t budget = 1;
    wheel.advance(all, tick, budget, [](entry_id) {});
    CHECK(!wheel.is_due(2 * tick - 1));
    CHECK(wheel.is_due(2 * tick));
}

TEST_CASE("a budget is what may be moved, and the rest waits for the next one") {
    expiry_wheel wheel(0);
    entries all;
    for (entry_id id = 0; id < 5; ++id) {
        all.deadlines[id] = millisecond;
        wheel.add(all, id, millisecond);
    }
    int expired = 0;
    std::size_t budget = 3;
    wheel.advance(all, 10 * millisecond, budget, [&](entry_id) { ++expired; });
    CHECK((expired == 3 && budget == 0));
    CHECK(wheel.is_due(10 * millisecond));
    budget = 3;
    wheel.advance(all, 10 * millisecond, budget, [&](entry_id) { ++expired; });
    CHECK((expired == 5 && budget == 1));
}

TEST_CASE("what is due within 64 ticks is not moved before") {
    constexpr std::int64_t tick = std::int64_t{1} << 20;
    expiry_wheel wheel(0);
    entries all;
    std::size_t budget = 100;
    wheel.advance(all, 11 * tick, budget, [](entry_id) {});
    all.deadlines[1] = 74 * tick;
    wheel.add(all, 1, all.deadlines[1]);
    int expired = 0;
    wheel.advance(all, 70 * tick, budget, [&](entry_id) { ++expired; });
    CHECK((expired == 0 && budget == 100));
    wheel.advance(all, 75 * tick, budget, [&](entry_id) { ++expired; });
    CHECK((expired == 1 && budget == 99));
}

TEST_CASE("what is filed after its deadline is due at once") {
    constexpr std::int64_t tick = std::int64_t{1} << 20;
    expiry_wheel wheel(0);
    entries all;
    std::size_t budget = 100;
    wheel.advance(all, 200 * tick, budget, [](entry_id) {});
    for (entry_id id = 0; id < 3; ++id) {
        all.deadlines[id] = 199 * tick - id * 50 * tick;
        wheel.add(all, id, all.deadlines[id]);
    }
    int expired = 0;
    wheel.advance(all, 201 * tick, budget, [&](entry_id) { ++expired; });
    CHECK(expired == 3);
}
