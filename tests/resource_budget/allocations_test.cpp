// SPDX-License-Identifier: BSL-1.0
// What a lease allocates: itself, and nothing when it ends. And what is left where memory is not.
#include <tidegate/resource_budget.hpp>
#include <tidegate/worker_pool.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <cstdint>
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

TEST_CASE("a load that finds no memory for its real size leaves its room as it was") {
    for (std::size_t n = 1; n <= 5; ++n) {
        INFO("allocation " << n);
        crowded c;
        std::size_t left = 0;
        auto const thing = [] { return std::make_shared<int>(1); };
        c.things.add("old", {60}, c.pool, thing);
        c.things.add("a", {40}, c.pool, thing, [&](int const&) { // has to unload the old one
            test::fail_allocation(std::exchange(left, 0));
            return budget::size{70};
        });
        c.things.add("b", {60}, c.pool, thing);
        REQUIRE(c.load("old"));
        left = n;
        CHECK_FALSE(c.load("a"));
        CHECK(test::until_failure() == 0);
        test::fail_allocation(0);
        CHECK(c.things.statistics().used[0] == 60 * c.things.statistics().resident);
        CHECK(c.things.try_acquire("a") == nullptr);
        CHECK(c.load("a"));
        CHECK(c.things.statistics().used[0] == 70);
        CHECK(c.load("b"));
        CHECK(c.things.statistics().used[0] == 60);
    }
}

namespace {

// Things that are there as soon as there is room.
struct quick {
    asio::io_context io{1};
    budget things{io, {100}};

    void know(char const* name, std::uint64_t size) {
        things.add(name, {size}, []() -> asio::awaitable<std::shared_ptr<int>> {
            co_return std::make_shared<int>(1);
        });
    }
    void ask(char const* name, budget::lease& to) {
        things.async_acquire(name, [&](std::exception_ptr, budget::lease got) { to = got; });
        run();
    }
    void run() {
        io.restart();
        io.poll();
    }
};

} // namespace

TEST_CASE("whoever waits for room gets it also where there is no memory to choose what goes") {
    budget::lease old, other, a;
    quick q;
    q.know("old", 60);
    q.know("other", 20);
    q.know("a", 70);
    q.ask("old", old);
    q.ask("other", other);
    q.ask("a", a); // needs the room of the old one
    REQUIRE(q.things.statistics().waiting == 1);
    test::fail_allocation(1);
    old.reset();
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    q.run();
    REQUIRE(a);
    CHECK(q.things.statistics().used[0] == 90);
}

TEST_CASE("a load that finds no memory while it makes room gives up nothing, or all") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        budget::lease got;
        quick q;
        for (char const* name : {"a", "b", "c"}) {
            q.know(name, 30);
            q.ask(name, got);
        }
        got.reset();
        q.know("large", 90);
        test::fail_allocation(n);
        try {
            q.ask("large", got);
        } catch (std::bad_alloc const&) {
            q.run();
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        q.run();
        auto const now = q.things.statistics();
        CHECK(now.used[0] == (got ? 90 : 30 * now.resident));
        got.reset();
        q.ask("large", got);
        CHECK(got);
        CHECK(q.things.statistics().used[0] == 90);
    }
}

TEST_CASE("a thing that is removed while it is used needs no memory to go") {
    budget::lease got;
    quick q;
    q.know("a", 60);
    q.ask("a", got);
    REQUIRE(got);
    CHECK(q.things.unload("a"));
    auto const before = test::allocated();
    got.reset();
    CHECK(test::allocated() == before);
    CHECK(q.things.statistics().used[0] == 0);
}
