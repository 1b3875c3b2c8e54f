// SPDX-License-Identifier: BSL-1.0
// What a monitor does without when memory ends: the list of the last operations.
#include <tidegate/monitor.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <string>

using namespace std::chrono_literals;

TEST_CASE("an operation that there is no memory to list is counted, and the list begins anew") {
    std::string const name(100, 'x'); // copying it takes memory
    tidegate::monitor m(tidegate::monitor_options().keep_last(3));
    m.record(name, 1ms);
    m.record(name, 1ms);
    REQUIRE(m.last_operations().size() == 2);
    test::fail_allocation(1);
    m.record(name, 1ms);
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    CHECK(m.last_operations().empty());
    CHECK(m.summary().at(0).count == 3);
    m.record(name, 2ms);
    REQUIRE(m.last_operations().size() == 1);
    CHECK(m.last_operations()[0].took == 2ms);
}
