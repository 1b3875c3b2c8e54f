// SPDX-License-Identifier: BSL-1.0
// What a lease allocates: itself, and nothing when it ends. And what is left where memory is not.
#include <tidegate/resource_budget.hpp>
#include <tidegate/worker_pool.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>

namespace asio = boost::asio;

TEST_CASE("a lease of a resident thing allocates once, and nothing when it ends") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    tidegate::resource_budget<std::string, int> things(io, {100});
    things.add("model", {1}, pool, [] { return std::make_shared<int>(7); });
    std::shared_ptr<int> loaded;
    things.async_acquire("model", [&](std::exception_ptr, std::shared_ptr<int> lease) {
        loaded = std::move(lease);
    });
    io.run();
    REQUIRE(loaded);
    loaded.reset();
    std::string const name = "model";
    std::size_t const before = test::allocated();
    auto lease = things.try_acquire(name);
    CHECK(test::allocated() - before == 1);
    REQUIRE(lease);
    CHECK(*lease == 7);
    lease.reset();
    CHECK(test::allocated() - before == 1);
    CHECK(things.statistics().leased == 0);
}

namespace {

using budget = tidegate::resource_budget<std::string, int>;

struct crowded {
    asio::io_context io{1};
    tidegate::worker_pool pool{io, tidegate::worker_pool_options().threads(1)};
    budget things{io, {100}};

    bool load(char const* name) {
        bool loaded = false;
        things.async_acquire(
            name, [&](std::exception_ptr failed, budget::lease const&) { loaded = !failed; });
        io.restart();
        io.run();
        return loaded;
    }
};

} // namespace

TEST_CASE("an unload without memory changes nothing, or succeeds") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        crowded c;
        for (char const* name : {"a", "b"})
            c.things.add(name, {60}, c.pool, [] { return std::make_shared<int>(1); });
        REQUIRE(c.load("a"));
        std::string const name = "a";
        test::fail_allocation(n);
        failed = false;
        try {
            c.things.unload(name);
        } catch (std::bad_alloc const&) {
            failed = true;
        }
        test::fail_allocation(0);
        CHECK(c.things.statistics().resident == (failed ? 1 : 0));
        CHECK(c.things.statistics().used[0] == (failed ? 60 : 0));
        CHECK(c.load("b"));
        CHECK(c.things.statistics().used[0] == 60);
    }
}

TEST_CASE("a load that finds no memory when it is done leaves its room as it was") {
    for (std::size_t n = 1; n <= 5; ++n) {
        INFO("allocation " << n);
        crowded c;
        std::size_t left = 0;
        auto const thing = [] { return std::make_shared<int>(1); };
        // Called just before it is made resident, by the event loop.
        c.things.add("a", {60}, c.pool, thing, [&](int const&) {
            test::fail_allocation(std::exchange(left, 0));
            return budget::size{60};
        });
        c.things.add("b", {60}, c.pool, thing);
        left = n;
        CHECK_FALSE(c.load("a"));
        CHECK(test::until_failure() == 0);
        test::fail_allocation(0);
        CHECK(c.things.statistics().used[0] == 0);
        CHECK(c.things.statistics().resident == 0);
        CHECK(c.things.try_acquire("a") == nullptr);
        CHECK(c.load("a"));
        CHECK(c.load("b")); // which needs the room
        CHECK(c.things.statistics().used[0] == 60);
    }
}
