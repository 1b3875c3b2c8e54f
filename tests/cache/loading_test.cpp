// SPDX-License-Identifier: BSL-1.0
// One load, whoever asks; what is stale, absent, fenced or late.
#include "cache/support.hpp"
#include "support/sanitized.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::asking;
using test::cache_clock;
using test::code_of;
using test::gate;
using test::timed_cache;
using tidegate::cache_options;
using tidegate::error;
using tidegate::loaded;

namespace {

using ints = timed_cache<int, int>;
cache_options<int, int> up_to(std::size_t n) { return cache_options<int, int>{}.max_entries(n); }

// A loader that counts, waits at a gate if there is one, and fails when told to.
struct loader {
    int loads = 0;
    bool fails = false;
    gate* at = nullptr;

    asio::awaitable<int> operator()(int key) {
        int const mine = ++loads;
        bool const bad = fails;
        if (at) co_await at->pass();
        if (bad) throw std::domain_error("loader");
        co_return key * 100 + mine;
    }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("a value that cannot be weighed fails those who wait for it, and is not kept") {
    asio::io_context io;
    bool weighs = false;
    auto const weigh = [&](int, int) -> std::uint64_t {
        if (!weighs) throw std::range_error("weight");
        return 1;
    };
    timed_cache<int, int> cache(io, cache_options<int, int>().max_weight(10, weigh));
    auto load = [](int key) -> asio::awaitable<int> { co_return key * 100; };
    test::asking<int> first, second;
    first.ask(io, cache, 1, load);
    io.poll();
    REQUIRE(first.done);
    CHECK(first.failure == asio::error::fault); // no code: it is what was thrown
    CHECK_FALSE(cache.contains(1));
    weighs = true;
    second.ask(io, cache, 1, load);
    io.restart();
    io.poll();
    CHECK(second.value == 100);
    CHECK(cache.contains(1));
}

TEST_CASE("what is remembered of names that do not exist is bounded by its weight") {
    asio::io_context io;
    auto const weigh = [](int, int) -> std::uint64_t { return 100; };
    auto none = [](int) -> asio::awaitable<std::optional<int>> { co_return std::nullopt; };
    ints cache(io, cache_options<int, int>{}.max_weight(1000, weigh).negative_time_to_live(5s, 50));
    for (int key = 0; key < 100; ++key) {
        asking<int> a;
        a.ask(io, cache, key, none);
        run(io);
        REQUIRE(a.done);
    }
    CHECK(cache.statistics().entries == 20);
    CHECK(cache.statistics().weight == 1000);
    cache.put(-1, 1);
    CHECK(cache.statistics().entries == 19);
}

TEST_CASE("a miss is loaded once and stored, and a hit does not suspend") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s));
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a, b, hit;
    a.ask(io, cache, 1, by_ref);
    b.ask(io, cache, 1, by_ref);
    run(io);
    CHECK(load.loads == 1);
    CHECK(cache.statistics().loading == 1);
    g.open();
    run(io);
    CHECK(a.value == 101);
    CHECK(b.value == 101);
    CHECK(cache.get_if_present(1) == 101);
    hit.ask(io, cache, 1, by_ref);
    run(io);
    CHECK(hit.value == 101);
    auto const counted = cache.statistics();
    CHECK(counted.loads == 1);
    CHECK(counted.load_failures == 0);
    CHECK(counted.loading == 0);
    CHECK(counted.hits == 2);
    CHECK(counted.misses == 2);
}

TEST_CASE("ten million hits in one coroutine do not grow the stack") {
    asio::io_context io;
    tidegate::cache<int, int> cache(io, up_to(10).time_to_live(1h));
    cache.put(1, 1);
    int const hits = test::sanitized ? 1'000'000 : 10'000'000;
    long sum = 0;
    auto load = []() -> asio::awaitable<int> { co_return 0; };
    auto hit = [&]() -> asio::awaitable<void> {
        for (int i = 0; i < hits; ++i) {
            auto const value = co_await cache.get_or_load(1, load);
            sum += *value;
        }
    };
    asio::co_spawn(io, hit(), asio::detached);
    io.run();
    CHECK(sum == hits);
}

TEST_CASE("callers on many threads cause one load for each key and generation") {
    asio::io_context io;
    tidegate::cache<int, int> cache(io, up_to(100));
    std::atomic<int> loads{0}, right{0};
    auto load = [&](int key) -> asio::awaitable<int> {
        ++loads;
        co_return key;
    };
    auto ask = [&](int key) -> asio::awaitable<void> {
        auto const got = co_await cache.get_or_load(key, load);
        if (*got == key) ++right;
    };
    for (int i = 0; i < 10000; ++i) asio::co_spawn(io, ask(i % 50), asio::detached);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
    threads.clear();
    CHECK(loads == 50);
    CHECK(right == 10000);
}

TEST_CASE("a failed load is not stored; with a stale value it does not reach callers") {
    asio::io_context io;
    loader load;
    auto by_ref = std::ref(load);
    SECTION("nothing there") {
        ints cache(io, up_to(10).time_to_live(5s));
        load.fails = true;
        asking<int> a, again;
        a.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(a.failure == asio::error::fault);
        load.fails = false;
        again.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(again.value == 102);
        CHECK(cache.statistics().load_failures == 1);
    }
    SECTION("stale if error, with one attempt a throttle") {
        ints cache(io, up_to(10).time_to_live(5s).stale_if_error(60s, 2s));
        cache.put(1, 7);
        cache_clock::advance(5s);
        CHECK_FALSE(cache.get_if_present(1));
        load.fails = true;
        int errors = 0;
        for (int ms = 0; ms < 59'900; ms += 100) {
            asking<int> a;
            a.ask(io, cache, 1, by_ref);
            run(io);
            REQUIRE(a.done);
            errors += a.value != 7;
            cache_clock::advance(100ms);
        }
        CHECK(errors == 0);
        CHECK(load.loads <= 31);
        CHECK(load.loads >= 29);
        cache_clock::advance(200ms); // its time is over for good
        asking<int> late;
        late.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(late.failure == asio::error::fault);
        load.fails = false;
        asking<int> healed;
        healed.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(healed.value == 100 + load.loads);
    }
}

TEST_CASE("a loader whose own operations were cancelled, or closed, has failed as any other") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s).stale_if_error(60s).soft_timeout(30s));
    cache.put(1, 7);
    cache_clock::advance(6s);
    tidegate::error_code const why = GENERATE(tidegate::error_code(asio::error::operation_aborted),
                                              tidegate::error_code(error::closed));
    auto load = [&](int) -> asio::awaitable<int> {
        throw boost::system::system_error(why);
        co_return 0;
    };
    asking<int> stale, nothing_there;
    stale.ask(io, cache, 1, load);
    nothing_there.ask(io, cache, 2, load);
    run(io);
    CHECK(stale.value == 7);
    CHECK_FALSE(stale.failure);
    CHECK(nothing_there.failure == why);
}

TEST_CASE("who leaves, or is made to, is not handed what is stale") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s).stale_if_error(60s));
    cache.put(1, 7);
    cache_clock::advance(6s);
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a, b;
    a.ask(io, cache, 1, by_ref);
    run(io);
    SECTION("cancelled") {
        b.ask(io, cache, 1, by_ref);
        run(io);
        a.cancel();
        run(io);
        CHECK(a.failure == asio::error::operation_aborted);
        CHECK_FALSE(b.done);
    }
    SECTION("with all others") {
        cache.cancel();
        run(io);
        CHECK(a.failure == asio::error::operation_aborted);
        load.at = nullptr;
        load.fails = true;
        b.ask(io, cache, 1, by_ref); // of a cancellation before he came he knows nothing
        run(io);
        CHECK(b.value == 7);
    }
    SECTION("because the cache is closed") {
        cache.close();
        b.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(a.failure == error::closed);
        CHECK(b.failure == error::closed);
    }
}

TEST_CASE("a caller with a stale value waits for the soft timeout only, and the load goes on") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s).stale_if_error(60s).soft_timeout(100ms));
    cache.put(1, 7);
    cache_clock::advance(6s);
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a;
    a.ask(io, cache, 1, by_ref);
    run(io);
    CHECK_FALSE(a.done);
    cache_clock::advance(100ms);
    run(io);
    CHECK(a.value == 7);
    CHECK(g.cancelled == 0);
    g.open();
    run(io);
    CHECK(cache.get_if_present(1) == 101);
}

TEST_CASE("a stale value is used while it is loaded again") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s).stale_while_revalidate(10s));
    cache.put(1, 7);
    cache_clock::advance(6s);
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a, b;
    a.ask(io, cache, 1, by_ref);
    b.ask(io, cache, 1, by_ref);
    run(io);
    CHECK(a.value == 7);
    CHECK(b.value == 7);
    CHECK(load.loads == 1);
    g.open();
    run(io);
    CHECK(cache.get_if_present(1) == 101);
    cache_clock::advance(16s);
    asking<int> too_old;
    too_old.ask(io, cache, 1, by_ref);
    run(io);
    CHECK(too_old.value == 102);
}

TEST_CASE("a value that is getting old is loaded again in the background, once") {
    asio::io_context io;
    std::vector<std::exception_ptr> unheard;
    ints cache(io, up_to(10).time_to_live(10s).refresh_after(4s).on_exception(
                       [&](std::exception_ptr e) { unheard.push_back(e); }));
    cache.put(1, 7);
    cache_clock::advance(4s);
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a, b, c;
    a.ask(io, cache, 1, by_ref);
    b.ask(io, cache, 1, by_ref);
    run(io);
    CHECK(a.value == 7);
    CHECK(b.value == 7);
    CHECK(load.loads == 1);
    SECTION("which succeeds") {
        g.open();
        run(io);
        c.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(c.value == 101);
        CHECK(load.loads == 1);
    }
    SECTION("which fails, and is tried again after a second") {
        g.open();
        run(io);
        cache_clock::advance(4s);
        load.fails = true;
        a.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(load.loads == 2);
        CHECK(unheard.size() == 1);
        cache_clock::advance(999ms);
        b.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(load.loads == 2);
        cache_clock::advance(1ms);
        c.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(load.loads == 3);
        CHECK(c.value == 101);
    }
}

TEST_CASE("a load in the background that takes too long is a failure that reaches no caller") {
    asio::io_context io;
    std::vector<tidegate::error_code> unheard;
    ints cache(io, up_to(10)
                       .time_to_live(60s)
                       .refresh_after(4s)
                       .load_timeout(3s)
                       .keep_loading(true)
                       .on_exception([&](std::exception_ptr e) { unheard.push_back(code_of(e)); }));
    for (int k : {1, 2}) cache.put(k, 7);
    cache_clock::advance(4s);
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> refreshing, also, waits, leaves;
    refreshing.ask(io, cache, 1, by_ref);
    also.ask(io, cache, 2, by_ref);
    waits.ask(io, cache, 3, by_ref);
    run(io);
    CHECK(load.loads == 3);
    cache_clock::advance(3s);
    run(io);
    CHECK(waits.failure == error::deadline_exceeded);
    CHECK(unheard == std::vector<tidegate::error_code>(2, error::deadline_exceeded));
    leaves.ask(io, cache, 4, by_ref);
    run(io);
    leaves.cancel();
    run(io);
    cache_clock::advance(3s);
    run(io);
    CHECK(unheard.size() == 3);
    g.open();
    run(io);
    CHECK(unheard.size() == 3); // once
    CHECK(cache.statistics().load_failures == 4);
}

TEST_CASE("the time that loads took is counted, however they ended") {
    asio::io_context io;
    ints cache(io, up_to(10).load_timeout(10s));
    gate g(io), other(io);
    loader load;
    auto by_ref = std::ref(load);
    asking<int> a, b, c;
    load.at = &g;
    a.ask(io, cache, 1, by_ref);
    run(io);
    cache_clock::advance(2s);
    load.fails = true;
    b.ask(io, cache, 2, by_ref);
    run(io);
    cache_clock::advance(1s);
    CHECK(cache.statistics().load_time == 0s);
    g.open();
    run(io);
    CHECK(a.value == 101);
    CHECK(b.failure == asio::error::fault);
    CHECK(cache.statistics().load_time == 4s);
    load.at = &other;
    c.ask(io, cache, 3, by_ref);
    run(io);
    cache_clock::advance(10s);
    run(io);
    CHECK(c.failure == error::deadline_exceeded);
    CHECK(cache.statistics().load_time == 14s);

    struct copied_once {
        copied_once() = default;
        copied_once(copied_once&&) noexcept = default;
        copied_once(copied_once const& other) : copies(other.copies) {
            if (++*copies == 2) throw std::bad_alloc();
        }
        asio::awaitable<std::vector<int>> operator()(std::vector<int> const& keys) {
            co_return keys;
        }
        std::shared_ptr<int> copies = std::make_shared<int>(0);
    };
    copied_once fragile; // the second copy is that of the load
    auto asked = [&]() -> asio::awaitable<void> {
        std::vector<int> const keys{4, 5};
        auto getting = cache.get_or_load_all(keys, fragile);
        co_await std::move(getting);
    };
    std::exception_ptr failure;
    asio::co_spawn(io, asked, [&](std::exception_ptr e) { failure = e; });
    run(io);
    CHECK_THROWS_AS(std::rethrow_exception(failure), std::bad_alloc);
    auto const counted = cache.statistics();
    CHECK(counted.loads == 5);
    CHECK(counted.load_failures == 4);
    CHECK(counted.load_time == 14s); // what never began took none
}

TEST_CASE("loaders may say that there is nothing, for how long, and not to keep it") {
    asio::io_context io;
    int loads = 0;
    SECTION("nothing is remembered only if the cache is set to") {
        auto none = [&](int) -> asio::awaitable<std::optional<int>> {
            ++loads;
            co_return std::nullopt;
        };
        ints forgets(io, up_to(10));
        ints remembers(io, up_to(10).negative_time_to_live(5s));
        for (int i = 0; i < 2; ++i) {
            asking<int> a;
            a.ask(io, forgets, 1, none);
            run(io);
            CHECK(a.done);
            CHECK_FALSE(a.failure);
            CHECK_FALSE(a.value);
        }
        CHECK(loads == 2);
        for (int i = 0; i < 2; ++i) {
            asking<int> a;
            a.ask(io, remembers, 1, none);
            run(io);
            CHECK_FALSE(a.value);
        }
        CHECK(loads == 3);
        CHECK(remembers.contains(1));
        CHECK_FALSE(remembers.get_if_present(1));
        cache_clock::advance(5s);
        CHECK_FALSE(remembers.contains(1));
    }
    SECTION("times of their own") {
        ints cache(io, up_to(10).time_to_live(5s));
        auto load = [&](int key) -> asio::awaitable<loaded<int>> {
            co_return loaded<int>(key).time_to_live(20s);
        };
        asking<int> a;
        a.ask(io, cache, 1, load);
        run(io);
        cache_clock::advance(19s);
        CHECK(cache.get_if_present(1) == 1);
    }
    SECTION("not to be kept") {
        ints cache(io, up_to(10));
        auto load = [&](int key) -> asio::awaitable<loaded<int>> {
            co_return loaded<int>(key).do_not_store();
        };
        asking<int> a;
        a.ask(io, cache, 1, load);
        run(io);
        CHECK(a.value == 1);
        CHECK_FALSE(cache.contains(1));
    }
}

TEST_CASE("put and invalidate fence a load: its result is not stored, and not joined") {
    asio::io_context io;
    ints cache(io, up_to(10));
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> before, after;
    before.ask(io, cache, 1, by_ref);
    run(io);
    SECTION("put") {
        cache.put(1, 7);
        after.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(after.value == 7);
        g.open();
        run(io);
        CHECK(before.value == 101);
        CHECK(cache.get_if_present(1) == 7);
    }
    SECTION("invalidate, by key, condition or altogether") {
        int const how = GENERATE(0, 1, 2);
        if (how == 0) cache.invalidate(1);
        if (how == 1) cache.invalidate_if([](int, auto const&) { return false; });
        if (how == 2) cache.invalidate_all();
        after.ask(io, cache, 1, by_ref);
        run(io);
        CHECK(load.loads == 2);
        g.open();
        run(io);
        CHECK(before.value == 101);
        CHECK(after.value == 102);
        CHECK(cache.get_if_present(1) == 102);
    }
}

TEST_CASE("a load that takes too long fails and frees its key") {
    asio::io_context io;
    ints cache(io, up_to(10).load_timeout(3s));
    gate g(io);
    loader load;
    load.at = &g;
    auto deaf = [&](int key) -> asio::awaitable<int> {
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_return co_await load(key);
    };
    asking<int> a, b;
    a.ask(io, cache, 1, deaf);
    run(io);
    cache_clock::advance(3s);
    run(io);
    CHECK(a.failure == error::deadline_exceeded);
    b.ask(io, cache, 1, deaf);
    run(io);
    g.open();
    run(io);
    CHECK(b.value == 102);
    CHECK(cache.get_if_present(1) == 102);
    CHECK(cache.statistics().late_loads == 1);
}

TEST_CASE("cancelled callers leave alone, and the last one cancels the load") {
    asio::io_context io;
    bool const keep = GENERATE(false, true);
    ints cache(io, up_to(10).keep_loading(keep));
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a, b, next;
    a.ask(io, cache, 1, by_ref);
    b.ask(io, cache, 1, by_ref);
    run(io);
    a.cancel();
    run(io);
    CHECK(a.failure == asio::error::operation_aborted);
    CHECK_FALSE(b.done);
    b.cancel();
    run(io);
    CHECK(b.failure == asio::error::operation_aborted);
    CHECK(g.cancelled == (keep ? 0 : 1));
    next.ask(io, cache, 1, by_ref);
    run(io);
    g.open();
    run(io);
    CHECK(next.value == (keep ? 101 : 102));
}

TEST_CASE("a loader that asks for its own key gets an error, and other keys are fine") {
    asio::io_context io;
    ints cache(io, up_to(10));
    std::function<asio::awaitable<int>(int)> load = [&](int key) -> asio::awaitable<int> {
        if (key == 0) co_return 0;
        // 3 asks for 2, 2 for 1, 1 for 0; 12 for 11, 11 for 10, 10 for 12.
        int const next = key == 10 ? 12 : key - 1;
        auto const below = co_await cache.get_or_load(next, load);
        co_return *below + 1;
    };
    asking<int> fine, circle;
    fine.ask(io, cache, 3, load);
    circle.ask(io, cache, 11, load);
    run(io);
    CHECK(fine.value == 3);
    CHECK(circle.failure == error::recursive_load);
    CHECK(cache.contains(2));
    CHECK_FALSE(cache.contains(11));
}

TEST_CASE("closing fails those who wait; what is there stays") {
    asio::io_context io;
    ints cache(io, up_to(10));
    cache.put(2, 2);
    gate g(io);
    loader load;
    load.at = &g;
    auto by_ref = std::ref(load);
    asking<int> a, hit, late;
    a.ask(io, cache, 1, by_ref);
    run(io);
    cache.close();
    hit.ask(io, cache, 2, by_ref);
    late.ask(io, cache, 3, by_ref);
    run(io);
    CHECK(a.failure == error::closed);
    CHECK(g.cancelled == 1);
    CHECK(hit.value == 2);
    CHECK(late.failure == error::closed);
    CHECK(io.stopped());
}

TEST_CASE("a cache that goes with loads in progress leaks nothing") {
    auto io = std::make_unique<asio::io_context>();
    auto alive = std::make_shared<int>(1);
    auto cache = std::make_unique<timed_cache<int, std::shared_ptr<int>>>(
        *io, cache_options<int, std::shared_ptr<int>>{}.max_entries(3).time_to_live(5s));
    auto g = std::make_unique<gate>(*io);
    cache->put(2, alive);
    {
        auto load = [g = g.get(), alive](int) -> asio::awaitable<std::shared_ptr<int>> {
            co_await g->pass();
            co_return alive;
        };
        auto ask = [](auto& c, auto l) -> asio::awaitable<void> { co_await c.get_or_load(1, l); };
        asio::co_spawn(*io, ask(*cache, load), asio::detached);
    }
    io->poll();
    SECTION("the context first") {
        g.reset();
        io.reset();
        cache.reset();
    }
    SECTION("the cache first") {
        cache.reset();
        g.reset();
        io.reset();
    }
    CHECK(alive.use_count() == 1);
}
