// SPDX-License-Identifier: BSL-1.0
// What becomes of items when memory ends.
#include <tidegate/parallel.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <vector>

namespace asio = boost::asio;

TEST_CASE("items that cannot be started for want of memory end it, and those that run end first") {
    bool failed = true;
    bool some_ran = false;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io{1}; // a strand does not survive the want of memory for its state
        std::vector<int> const items{0, 1, 2};
        int running = 0, started = 0;
        auto work = [&](int) -> asio::awaitable<int> {
            struct inside {
                int& n;
                explicit inside(int& count) : n(count) { ++n; }
                ~inside() { --n; }
            } const here(running);
            ++started;
            co_await asio::post(io, asio::use_awaitable);
            co_return 1;
        };
        std::optional<bool> no_memory;
        int still_running = -1;
        auto call = [&]() -> asio::awaitable<std::size_t> {
            auto by_ref = std::ref(work);
            test::fail_allocation(n);
            auto const all = co_await tidegate::parallel_map(items, 3, by_ref);
            co_return all.size();
        };
        asio::co_spawn(io, call(), [&](std::exception_ptr e, std::size_t results) {
            test::fail_allocation(0);
            still_running = running;
            try {
                if (e) std::rethrow_exception(e);
                no_memory = results != 3;
            } catch (std::bad_alloc const&) {
                no_memory = true;
            }
        });
        io.run();
        test::fail_allocation(0);
        REQUIRE(no_memory.has_value());
        CHECK(still_running == 0);
        failed = *no_memory;
        some_ran = some_ran || (failed && started > 0);
    }
    CHECK(some_ran);
}
