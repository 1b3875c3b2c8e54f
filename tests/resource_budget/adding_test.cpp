// SPDX-License-Identifier: BSL-1.0
// Loaders that are replaced.
#include <tidegate/resource_budget.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <memory>
#include <string>

namespace asio = boost::asio;

namespace {

using budget = tidegate::resource_budget<std::string, int>;

} // namespace

TEST_CASE("what a replaced loader owned may use the budget as it goes") {
    asio::io_context io;
    budget things(io, {100});
    int gone = 0;
    {
        auto const owned = std::shared_ptr<void>(nullptr, [&](void*) {
            ++gone;
            things.add("other", {1}, []() -> asio::awaitable<int> { co_return 1; });
            CHECK(things.pin("a"));
            CHECK_FALSE(things.unload("a"));
        });
        things.add("a", {1}, [owned]() -> asio::awaitable<int> { co_return 2; });
    }
    CHECK(gone == 0);
    things.add("a", {1}, []() -> asio::awaitable<int> { co_return 3; });
    CHECK(gone == 1);
    int got = 0;
    things.async_acquire("a", [&](std::exception_ptr, budget::lease held) { got = *held; });
    io.run();
    CHECK(got == 3);
    CHECK(things.pin("other"));
}
