// SPDX-License-Identifier: BSL-1.0
// What a monitor does without when memory ends.
#include <tidegate/monitor.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <new>
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

TEST_CASE("an operation that there is no memory for is not there, or all of it") {
    std::string const name(100, 'x');
    for (std::size_t n = 1;; ++n) {
        INFO("allocation " << n);
        tidegate::monitor m;
        bool made = true;
        test::fail_allocation(n);
        try {
            m.hit(name);
        } catch (std::bad_alloc const&) {
            made = false;
        }
        bool const all = test::until_failure() > 0;
        test::fail_allocation(0);
        REQUIRE(m.summary().size() == (made ? 1 : 0));
        m.hit(name);
        REQUIRE(m.summary().size() == 1);
        CHECK(m.summary()[0].hits == (made ? 2 : 1));
        if (all) break;
    }
}
