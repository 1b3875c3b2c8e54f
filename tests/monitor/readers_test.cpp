// SPDX-License-Identifier: BSL-1.0
// Many read windows while others record.
#include <tidegate/monitor.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include "support/race.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

using namespace std::chrono_literals;
using monitor = tidegate::basic_monitor<tidegate::testing::manual_clock>;
using tidegate::operation_outcome;

TEST_CASE("windows that many read at once have what was recorded, once") {
    constexpr int powers = 40;
    std::optional<monitor> watched;
    auto const read = [&] {
        for (int i = 0; i < 10; ++i) watched->summary(10s);
    };
    auto const record = [&](operation_outcome outcome) { // each in a power of two of its own
        for (int i = powers; i-- > 0;) watched->record("x", 1ns * (std::int64_t{1} << i), outcome);
    };
    for (auto const seed : test::seeds()) {
        CAPTURE(seed);
        test::race race(seed, {read, read, [&] { record(operation_outcome::ok); }});
        for (std::size_t i = test::schedules(500); i > 0; --i) {
            watched.emplace();
            // Which takes readers a while, after they have seen how many ended well.
            record(operation_outcome::error);
            record(operation_outcome::timed_out);
            race.run();
            auto const recent = watched->summary(10s);
            REQUIRE(recent.size() == 1);
            REQUIRE(recent[0].count == powers);
        }
    }
}
