// SPDX-License-Identifier: BSL-1.0
// Items that there is no memory for are not in the queue.
#include "batcher/support.hpp"

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <new>

using test::batches;
using test::held_batcher;
using tidegate::batcher_options;

TEST_CASE("an item that finds no memory to wait with leaves nothing of its source behind") {
    auto const tens = [](int item) { return item / 10; };
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        held_batcher held(batcher_options().max_size(8), std::monostate(), tens);
        held.submit(10);
        held.calls.emplace_back();
        bool thrown = false;
        test::fail_allocation(n);
        try {
            held.calls.back().start(held.b, 20);
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK(held.b.queued() == (failed ? 1u : 2u));
        held.submit(11);
        held.submit(30);
        auto const ran = held.open();
        if (failed) CHECK(ran == batches{{10, 30, 11}});
        else CHECK(ran == batches{{10, 20, 30, 11}});
        CHECK(held.calls[1].completions == (thrown ? 0 : 1));
        CHECK((held.calls[1].failure != nullptr) == (failed && !thrown));
    }
}
