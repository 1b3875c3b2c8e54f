// SPDX-License-Identifier: BSL-1.0
// A budget that is closed while something is on its way in.
#include <tidegate/call.hpp>
#include <tidegate/resource_budget.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <memory>
#include <string>

namespace asio = boost::asio;
using tidegate::error;

namespace {

using budget = tidegate::resource_budget<std::string, int>;

} // namespace

TEST_CASE("what is being measured when the budget is closed does not stay") {
    asio::io_context io;
    budget things(io, {100});
    auto load = []() -> asio::awaitable<std::shared_ptr<int>> {
        co_return std::make_shared<int>(1);
    };
    things.add("a", {10}, load, [&](int const&) {
        things.close();
        return budget::size{20};
    });
    tidegate::error_code why;
    things.async_acquire("a", [&](std::exception_ptr failed, budget::lease const&) {
        if (failed) why = tidegate::failure(failed).code();
    });
    io.run();
    CHECK(why == error::closed);
    CHECK(things.try_acquire("a") == nullptr);
    CHECK(things.statistics().resident == 0);
    CHECK(things.statistics().used[0] == 0);
    CHECK(things.statistics().unloads == 1);
}
