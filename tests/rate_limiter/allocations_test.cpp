// SPDX-License-Identifier: BSL-1.0
// What is left where memory ends.
#include <tidegate/keyed_rate_limiter.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>

using namespace std::chrono_literals;

TEST_CASE("a key's own quota that there was no memory for is made for the next one") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        auto const own = [](int key) {
            return tidegate::rate_limiter_options().rate(1, 1h).burst(
                static_cast<std::uint64_t>(key));
        };
        tidegate::keyed_rate_limiter<int> limits(
            tidegate::keyed_rate_limiter_options<int>().rate(1, 1h).burst(1).quota_of(own));
        test::fail_allocation(n);
        bool thrown = false;
        try {
            thrown = !limits.try_acquire(3, 3);
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK(bool(limits.try_acquire(3, 3)) == thrown);
        CHECK(limits.try_acquire(5, 5));
        CHECK_FALSE(limits.try_acquire(5));
    }
}
