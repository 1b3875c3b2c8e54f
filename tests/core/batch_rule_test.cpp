// SPDX-License-Identifier: BSL-1.0
// When a batch is closed, and why.
#include <tidegate/core/batch_rule.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>

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
