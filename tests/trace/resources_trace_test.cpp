// SPDX-License-Identifier: BSL-1.0
// What observers hear of lazy values, resource budgets and connection pools.
#include "support.hpp"

#include <tidegate/connection_pool.hpp>
#include <tidegate/lazy.hpp>
#include <tidegate/lazy_map.hpp>
#include <tidegate/resource_budget.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::trace_event;

namespace {

struct clock_tag;
using clock_type = tidegate::testing::basic_manual_clock<clock_tag>;
using lazy_int = tidegate::basic_lazy<int, clock_type>;
using lazy_ints = tidegate::basic_lazy_map<std::string, int, std::hash<std::string>,
                                           std::equal_to<std::string>, clock_type>;
using budget = tidegate::basic_resource_budget<std::string, int, 1, std::hash<std::string>,
                                               std::equal_to<std::string>, clock_type>;
using connections = tidegate::basic_connection_pool<int, clock_type>;

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

auto const ignore = [](auto&&...) {};

/// Something that answers only while its gate is open.
struct source {
    explicit source(asio::io_context& io) : gate(io, 1) {}

    asio::awaitable<int> load() {
        auto const passed = co_await gate.acquire();
        if (broken) throw std::domain_error("broken");
        co_return 1;
    }

    tidegate::semaphore gate;
    bool broken = false;
};

/// Asks for something that takes the lock, and would not return if that were held.
template <class Ask>
std::shared_ptr<test::recorder> ear_that_asks(Ask ask) {
    auto made = std::make_shared<test::recorder>();
    made->also = [ask](tidegate::trace_record const&) { ask(); };
    return made;
}

} // namespace

TEST_CASE("a lazy value tells of look-ups, loads, and what it forgets") {
    asio::io_context io;
    source from(io);
    lazy_int one(io, [&] { return from.load(); });
    auto const heard = std::make_shared<test::recorder>();
    one.observe(heard, "detector");
    CHECK_FALSE(one.get_if_ready());
    CHECK(heard->take() == told{"missed 1"});
    auto closed = from.gate.try_acquire();
    one.async_get(ignore);
    run(io);
    CHECK(heard->take() == told{"missed 1"});
    clock_type::advance(3s);
    closed.release();
    run(io);
    CHECK(heard->take() == told{"loaded 1"});
    CHECK(heard->last().primitive == "lazy");
    CHECK(heard->last().name == "detector");
    CHECK(heard->last().duration == 3s);
    one.async_get(ignore);
    auto get = [&]() -> asio::awaitable<void> { co_await one.get(); };
    asio::co_spawn(io, get(), asio::detached);
    run(io);
    CHECK(one.get_if_ready());
    CHECK(heard->take() == told{"hit 1", "hit 1", "hit 1"});
    one.reset();
    one.reset();
    CHECK(heard->take() == told{"removed 1"});
    from.broken = true;
    asio::co_spawn(io, get(), [](std::exception_ptr) {});
    run(io);
    CHECK(heard->take() == told{"missed 1", "load_failed 1"});
    CHECK(heard->last().error == error::exception_thrown);
}

TEST_CASE("a map of lazy values tells who leaves, what was refused, and what it replaces") {
    asio::io_context io;
    source from(io);
    lazy_ints all(io, tidegate::lazy_options().serve_old_while_reloading(true).load_timeout(5s));
    auto const heard = ear_that_asks([&] { static_cast<void>(all.keys()); });
    all.observe(heard, "models");
    all.register_loader("a", [&] { return from.load(); });
    CHECK(heard->take() == told{});
    all.async_get("a", ignore);
    run(io);
    CHECK(heard->take() == told{"missed 1", "loaded 1"});
    all.async_reload("a", ignore);
    run(io);
    CHECK(heard->take() == told{"loaded 1", "replaced 1"});
    all.register_loader("a", [&] { return from.load(); });
    CHECK(heard->take() == told{"removed 1"});

    auto const silent = from.gate.try_acquire();
    asio::cancellation_signal signal;
    all.async_get("a", asio::bind_cancellation_slot(signal.slot(), ignore));
    run(io);
    signal.emit(asio::cancellation_type::total);
    run(io);
    CHECK(heard->take() == told{"missed 1", "cancelled 1"});
    all.async_get("a", ignore);
    run(io);
    clock_type::advance(5s);
    run(io);
    CHECK(heard->take() == told{"missed 1", "load_failed 1"});
    CHECK(heard->last().error == error::deadline_exceeded);
    all.async_get("a", ignore);
    all.close();
    CHECK(heard->take() == told{"missed 1", "rejected 1"});
    CHECK(heard->last().error == error::closed);
    run(io);
}

TEST_CASE("a resource budget tells what is leased, loaded, and gone, and why") {
    asio::io_context io;
    budget things(
        io, {100},
        tidegate::resource_budget_options().max_wait(10s).max_waiting_loads(1).time_to_idle(1min));
    auto const load = []() -> asio::awaitable<int> { co_return 1; };
    for (auto const* const name : {"a", "b", "c", "d"}) things.add(name, {60}, load);
    auto const heard = ear_that_asks([&] { static_cast<void>(things.statistics()); });
    things.observe(heard, "models");
    auto const ask = [&](std::string const& name) {
        auto const got = std::make_shared<budget::lease>(); // some are answered later
        things.async_acquire(name,
                             [got](std::exception_ptr, budget::lease l) { *got = std::move(l); });
        run(io);
        return std::move(*got);
    };

    CHECK_FALSE(things.try_acquire("a"));
    CHECK(heard->take() == told{"missed 1"});
    auto a = ask("a");
    REQUIRE(a);
    CHECK(heard->take() == told{"missed 1", "loaded 1"});
    CHECK(heard->last().primitive == "resource_budget");
    CHECK(ask("a") == a);
    CHECK(things.try_acquire("a") == a);
    CHECK(heard->take() == told{"hit 1", "hit 1"});

    a.reset(); // idle, and in the way of b
    auto b = ask("b");
    REQUIRE(b);
    CHECK(heard->take() == told{"missed 1", "evicted 1", "loaded 1"});

    CHECK_FALSE(ask("c")); // waits for room
    CHECK(heard->take() == told{"missed 1"});
    CHECK_FALSE(ask("d")); // one too many
    CHECK(heard->take() == told{"missed 1", "rejected 1", "load_failed 1"});
    CHECK(heard->last().error == error::queue_full);
    clock_type::advance(10s);
    run(io);
    CHECK(heard->take() == told{"timed_out 1", "load_failed 1"});
    CHECK(heard->last().error == error::deadline_exceeded);

    CHECK(things.unload("b"));
    CHECK(heard->take() == told{}); // somebody has it yet
    b.reset();
    CHECK(heard->take() == told{"removed 1"});
    ask("c").reset();
    heard->take();
    clock_type::advance(1min);
    run(io);
    CHECK(heard->take() == told{"expired 1"});
    CHECK(things.statistics().unloads == heard->count(trace_event::evicted) +
                                             heard->count(trace_event::removed) +
                                             heard->count(trace_event::expired));
}

TEST_CASE("a connection pool tells of each acquire once, and of its connections") {
    asio::io_context io;
    source server(io);
    bool healthy = true;
    auto const heard = std::make_shared<test::recorder>();
    {
        connections pool(
            io,
            tidegate::connection_pool_options().max_size(1).wait_timeout(2s).connect_timeout(5s),
            [&] { return server.load(); },
            [&](int&) -> asio::awaitable<bool> { co_return healthy; });
        heard->also = [&](tidegate::trace_record const&) { static_cast<void>(pool.statistics()); };
        pool.observe(heard, "database");
        asio::cancellation_signal signal;
        connections::connection held;
        auto get = [&]() -> asio::awaitable<void> { held = co_await pool.acquire(); };
        auto const ask = [&] {
            asio::co_spawn(io, get(), asio::bind_cancellation_slot(signal.slot(), ignore));
            run(io);
        };

        auto slow = server.gate.try_acquire();
        ask();
        clock_type::advance(3s);
        slow.release();
        run(io);
        REQUIRE(held);
        CHECK(heard->take() == told{"created 1", "acquired 1"});
        CHECK(heard->last().primitive == "connection_pool");
        CHECK(heard->last().name == "database");
        CHECK(heard->last().duration == 3s);
        held.release();
        ask();
        CHECK(heard->take() == told{"acquired 1"});
        CHECK(heard->last().duration == 0s);

        ask(); // the only one is in use
        clock_type::advance(2s);
        run(io);
        CHECK(heard->take() == told{"timed_out 1"});
        CHECK(heard->last().duration == 2s);
        ask();
        signal.emit(asio::cancellation_type::terminal);
        run(io);
        CHECK(heard->take() == told{"cancelled 1"});

        held.release();
        clock_type::advance(1s);
        healthy = false;
        ask();
        CHECK(heard->take() == told{"destroyed 1", "created 1", "acquired 1"});
        held.discard();
        CHECK(heard->take() == told{"destroyed 1"});
        server.broken = true;
        ask();
        CHECK(heard->take() == told{"rejected 1"});
        CHECK(heard->last().error == error::exception_thrown);
        server.broken = false;
        ask();
        CHECK(heard->take() == told{"created 1", "acquired 1"});
        held.release();
        pool.close();
        CHECK(heard->take() == told{"destroyed 1"});
        ask();
        CHECK(heard->take() == told{"rejected 1"});
        CHECK(heard->last().error == error::closed);
    }
    CHECK(heard->count(trace_event::created) == heard->count(trace_event::destroyed));
}
