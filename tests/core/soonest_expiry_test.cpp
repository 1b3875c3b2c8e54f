// SPDX-License-Identifier: BSL-1.0
// Whatever happens to entries and deadlines, the one that expires first goes first.
#include <tidegate/core/cache/soonest_expiry.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace {

using tidegate::core::entry_id;
using tidegate::core::soonest_expiry_eviction;

struct entries {
    static constexpr std::int64_t gone = std::numeric_limits<std::int64_t>::max();
    std::vector<soonest_expiry_eviction::node> nodes{64};
    std::vector<std::int64_t> deadlines = std::vector<std::int64_t>(64, gone);

    soonest_expiry_eviction::node& node(entry_id id) { return nodes[id]; }
    std::int64_t deadline(entry_id id) const { return deadlines[id]; }
};

} // namespace

TEST_CASE("the entry with the earliest deadline is given up") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < 1 + test::schedules(4000) / 40; ++round) {
            soonest_expiry_eviction policy(0);
            entries all;
            std::size_t const ids = 1 + test::below(random, 64),
                              times = 1 + test::below(random, 100);
            auto const some_time = [&] {
                return static_cast<std::int64_t>(test::below(random, times));
            };
            for (int step = 0; step < 300; ++step) {
                auto const id = static_cast<entry_id>(test::below(random, ids));
                std::size_t const what = test::below(random, 4);
                if (all.deadlines[id] == entries::gone) {
                    all.deadlines[id] = some_time();
                    policy.insert(all, id);
                } else if (what == 0) {
                    policy.erase(all, id);
                    all.deadlines[id] = entries::gone;
                } else if (what == 1) {
                    all.deadlines[id] = some_time();
                    policy.deadline_changed(all, id);
                } else {
                    std::int64_t const earliest = *std::ranges::min_element(all.deadlines);
                    entry_id const given_up = policy.evict(all);
                    REQUIRE(all.deadlines[given_up] == earliest);
                    all.deadlines[given_up] = entries::gone;
                }
            }
            std::vector<std::int64_t> hottest_first;
            policy.visit_hottest_first(
                all, [&](entry_id id) { hottest_first.push_back(all.deadlines[id]); });
            CHECK(std::ranges::is_sorted(hottest_first, std::greater<>()));
            CHECK(policy.bytes() >= hottest_first.size() * sizeof(entry_id));
            CHECK(hottest_first.size() ==
                  64 - static_cast<std::size_t>(std::ranges::count(all.deadlines, entries::gone)));
        }
    }
}
