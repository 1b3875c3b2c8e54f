// SPDX-License-Identifier: BSL-1.0
// A lazy value for which there was no memory can be asked for another time.
#include <tidegate/lazy.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <new>

namespace asio = boost::asio;

TEST_CASE("who finds no memory to ask with leaves the value as it was") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io{1};
        int loads = 0;
        tidegate::lazy<int> value(io, [&]() -> asio::awaitable<int> {
            ++loads;
            co_return 7;
        });
        int answers = 0, values = 0;
        auto const handler = [&](std::exception_ptr e, std::shared_ptr<int> const& v) {
            ++answers;
            values += !e && *v == 7;
        };
        bool thrown = false;
        test::fail_allocation(n);
        try {
            value.async_get(handler);
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        io.poll();
        CHECK(answers == (thrown ? 0 : 1));
        CHECK(values == (failed ? 0 : 1));
        value.async_get(handler);
        io.restart();
        io.poll();
        CHECK(values == (failed ? 1 : 2));
        CHECK(loads >= 1);
        CHECK(value.get_if_ready() != nullptr);
    }
}
