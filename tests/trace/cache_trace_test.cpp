// SPDX-License-Identifier: BSL-1.0
// What observers hear of a cache and its loads.
#include "support.hpp"

#include "cache/support.hpp"

#include <tidegate/single_flight.hpp>

#include <catch2/catch_test_macros.hpp>

#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::trace_event;

namespace {

using cache = test::timed_cache<int, std::string>;
using options = tidegate::cache_options<int, std::string>;

struct observed {
    explicit observed(options settings = options().max_entries(2)) : c(io, std::move(settings)) {
        c.observe(ear, "users");
    }
    void run() {
        io.restart();
        io.poll();
    }

    std::shared_ptr<test::recorder> ear = std::make_shared<test::recorder>();
    asio::io_context io;
    cache c;
};

} // namespace

TEST_CASE("a cache tells of hits and misses as it counts them") {
    observed o;
    CHECK_FALSE(o.c.get_if_present(1));
    CHECK(o.c.put(1, "one"));
    CHECK(o.c.get_if_present(1));
    CHECK(o.c.get_if_present(1, test::cache_clock::now()));
    CHECK(o.c.peek(1));
    CHECK(o.c.contains(1));
    CHECK(o.ear->take() == told{"missed 1", "hit 1", "hit 1"});
    CHECK(o.ear->last().primitive == "cache");
    CHECK(o.ear->last().name == "users");
    auto const counts = o.c.statistics();
    CHECK(o.ear->count(trace_event::hit) == counts.hits);
    CHECK(o.ear->count(trace_event::missed) == counts.misses);
}

TEST_CASE("what leaves a cache is told with its cause, also of values that need no destructor") {
    auto ear = std::make_shared<test::recorder>();
    asio::io_context io;
    test::timed_cache<int, int, tidegate::eviction::lru> c(
        io, tidegate::cache_options<int, int>().max_entries(2));
    c.observe(ear, "numbers");
    for (int i = 0; i < 4; ++i) c.put(i, i);
    CHECK(ear->take() == told{"evicted 1", "evicted 1"});
    c.put(3, 33);
    CHECK(ear->take() == told{"replaced 1"});
    CHECK(c.invalidate(3));
    CHECK(ear->take() == told{"removed 1"});
    c.put(3, 3);
    c.invalidate_all();
    CHECK(ear->take() == told{"removed 2"});
    c.put(5, 5, 1s);
    test::cache_clock::advance(10s);
    c.run_maintenance();
    CHECK(ear->take() == told{"expired 1"});
}

TEST_CASE("a load is told once, before those who wait for it wake, with the time it took") {
    observed o;
    test::gate gate(o.io);
    std::size_t heard_by_then = 0;
    auto load = [&](int) -> asio::awaitable<std::string> {
        co_await gate.pass();
        test::cache_clock::advance(3s);
        co_return "value";
    };
    test::asking<std::string> first;
    test::asking<std::string> second;
    first.ask(o.io, o.c, 1, load);
    second.ask(o.io, o.c, 1, load);
    o.run();
    CHECK(o.ear->take() == told{"missed 1", "missed 1"});
    o.ear->also = [&](tidegate::trace_record const&) {
        static_cast<void>(o.c.statistics());
        heard_by_then = first.done + second.done;
    };
    gate.open();
    o.run();
    CHECK(first.done);
    CHECK(second.done);
    CHECK(heard_by_then == 0);
    CHECK(o.ear->take() == told{"loaded 1"});
    CHECK(o.ear->last().duration == 3s);
}

TEST_CASE("a load that fails is told with its code, or as an exception without one") {
    observed o;
    auto lost = [](int) -> asio::awaitable<std::string> {
        throw boost::system::system_error(asio::error::host_unreachable);
        co_return "";
    };
    auto broken = [](int) -> asio::awaitable<std::string> {
        throw std::runtime_error("broken");
        co_return "";
    };
    test::asking<std::string> first;
    first.ask(o.io, o.c, 1, lost);
    o.run();
    CHECK(o.ear->take() == told{"missed 1", "load_failed 1"});
    CHECK(o.ear->last().error == asio::error::host_unreachable);
    test::asking<std::string> second;
    second.ask(o.io, o.c, 1, broken);
    o.run();
    CHECK(o.ear->take() == told{"missed 1", "load_failed 1"});
    CHECK(o.ear->last().error == error::exception_thrown);
    CHECK(o.c.statistics().load_failures == 2);
}

TEST_CASE("a load that takes too long is told once, however many wait and whenever it ends") {
    observed o(options().max_entries(2).load_timeout(5s));
    test::gate gate(o.io);
    auto load = [&](int) -> asio::awaitable<std::string> {
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await gate.pass();
        co_return "late";
    };
    test::asking<std::string> first;
    test::asking<std::string> second;
    first.ask(o.io, o.c, 1, load);
    second.ask(o.io, o.c, 1, load);
    o.run();
    o.ear->take();
    test::cache_clock::advance(5s);
    o.run();
    CHECK(first.failure == error::deadline_exceeded);
    CHECK(o.ear->take() == told{"load_failed 1"});
    CHECK(o.ear->last().error == error::deadline_exceeded);
    CHECK(o.ear->last().duration == 5s);
    gate.open();
    o.run();
    CHECK(o.ear->take() == told{});
}

TEST_CASE("a caller that leaves a load is told once, and so are those whose cache is closed") {
    observed o;
    test::gate gate(o.io);
    auto load = [&](int) -> asio::awaitable<std::string> {
        co_await gate.pass();
        co_return "value";
    };
    test::asking<std::string> first;
    test::asking<std::string> second;
    first.ask(o.io, o.c, 1, load);
    second.ask(o.io, o.c, 1, load);
    o.run();
    o.ear->take();
    first.cancel();
    o.run();
    CHECK(o.ear->take() == told{"cancelled 1"});
    o.c.close();
    o.run();
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::closed);
    CHECK(second.done);
}

TEST_CASE("what a loaded value pushes out is told") {
    auto ear = std::make_shared<test::recorder>();
    asio::io_context io;
    test::timed_cache<int, std::string, tidegate::eviction::lru> c(io, options().max_entries(1));
    c.put(1, "one");
    c.observe(ear, "users");
    auto load = [](int) -> asio::awaitable<std::string> { co_return "two"; };
    test::asking<std::string> asked;
    asked.ask(io, c, 2, load);
    io.poll();
    CHECK(asked.done);
    CHECK(ear->take() == told{"missed 1", "loaded 1", "evicted 1"});
}

TEST_CASE("a run of a single flight is told once, whoever waits for it") {
    auto ear = std::make_shared<test::recorder>();
    asio::io_context io;
    tidegate::basic_single_flight<int, std::string, std::hash<int>, std::equal_to<int>,
                                  test::cache_clock>
        flights(io);
    flights.observe(ear, "pages");
    auto fetch = [](int) -> asio::awaitable<std::string> {
        test::cache_clock::advance(2s);
        co_return "page";
    };
    int done = 0;
    for (int i = 0; i < 3; ++i) {
        flights.async_run(1, fetch, [&](std::exception_ptr, auto) { ++done; });
    }
    io.poll();
    CHECK(done == 3);
    CHECK(ear->take() == told{"loaded 1"});
    CHECK(ear->last().primitive == "single_flight");
    CHECK(ear->last().duration == 2s);
    flights.close();
    flights.async_run(1, fetch, [&](std::exception_ptr, auto) { ++done; });
    CHECK(ear->take() == told{"rejected 1"});
    CHECK(ear->last().error == error::closed);
}
