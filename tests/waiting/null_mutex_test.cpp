// SPDX-License-Identifier: BSL-1.0
// A mutex for one thread.
#include <tidegate/null_mutex.hpp>

#include <catch2/catch_test_macros.hpp>

#include <mutex>

TEST_CASE("a null_mutex is a mutex that is always free") {
    tidegate::null_mutex one, other;
    std::scoped_lock const both(one, other);
    std::unique_lock again(one, std::try_to_lock);
    CHECK(again.owns_lock());
}
