// SPDX-License-Identifier: BSL-1.0
// Refreshes that several calls cause, and that are made by one call of a loader.
#include "cache/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::asking;
using test::cache_clock;
using test::gate;
using test::timed_cache;
using tidegate::cache_options;
using tidegate::outcome;

namespace {

using ints = timed_cache<int, int>;
using calls = std::vector<std::vector<int>>;

// Each load gives a new value to each key.
struct together {
    gate* at = nullptr;
    bool fails = false;
    int failing_key = -1;
    calls made;

    asio::awaitable<std::vector<outcome<int>>> operator()(std::vector<int> const& keys) {
        auto& sorted = made.emplace_back(keys);
        std::ranges::sort(sorted);
        int const round = static_cast<int>(made.size());
        if (at) co_await at->pass();
        if (fails) throw std::domain_error("refresh");
        std::vector<outcome<int>> all;
        for (int const k : keys) {
            if (k == failing_key) all.emplace_back().fail(asio::error::host_not_found);
            else all.emplace_back().succeed(k * 100 + round);
        }
        co_return all;
    }
};

struct alone {
    int loads = 0;
    asio::awaitable<int> operator()(int key) {
        ++loads;
        co_return key * 100;
    }
};

cache_options<int, int> refreshing(std::size_t most, std::chrono::nanoseconds delay,
                                   together& load) {
    return cache_options<int, int>{}
        .max_entries(100)
        .time_to_live(10s)
        .refresh_after(4s)
        .refresh_together(most, delay, std::ref(load));
}

void fill(ints& cache, int keys) {
    for (int k = 0; k < keys; ++k) cache.put(k, k * 100);
}

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

// What a caller gets.
int ask(asio::io_context& io, ints& cache, int key, alone& load) {
    asking<int> one;
    auto by_ref = std::ref(load);
    one.ask(io, cache, key, by_ref);
    run(io);
    return one.value ? *one.value : -1;
}

} // namespace

TEST_CASE("refreshes of different calls are made together when there are enough") {
    asio::io_context io;
    together load;
    alone single;
    ints cache(io, refreshing(3, 1s, load));
    fill(cache, 10);
    cache_clock::advance(4s);
    CHECK(ask(io, cache, 5, single) == 500);
    CHECK(ask(io, cache, 2, single) == 200);
    CHECK(ask(io, cache, 5, single) == 500); // is gathered already
    CHECK(load.made.empty());
    CHECK(ask(io, cache, 7, single) == 700);
    CHECK(load.made == calls{{2, 5, 7}});
    CHECK(ask(io, cache, 5, single) == 501);
    CHECK(ask(io, cache, 7, single) == 701);
    CHECK(single.loads == 0);
    CHECK(ask(io, cache, 50, single) == 5000); // what is not there is loaded by its caller
    CHECK(single.loads == 1);
    CHECK(io.stopped()); // the timer has gone
}

TEST_CASE("or when the first of them has waited long enough") {
    asio::io_context io;
    together load;
    alone single;
    ints cache(io, refreshing(100, 1s, load));
    fill(cache, 10);
    cache_clock::advance(4s);
    ask(io, cache, 1, single);
    cache_clock::advance(600ms);
    ask(io, cache, 2, single); // does not postpone it
    CHECK_FALSE(io.stopped());
    CHECK(load.made.empty());
    cache_clock::advance(400ms);
    run(io);
    CHECK(load.made == calls{{1, 2}});
    CHECK(ask(io, cache, 2, single) == 201);
    ask(io, cache, 3, single);
    cache_clock::advance(1s);
    run(io);
    CHECK(load.made == calls{{1, 2}, {3}});
    CHECK(io.stopped());
}

TEST_CASE("stale values are served while they are refreshed together, and so are bulk calls") {
    asio::io_context io;
    together load;
    alone single;
    ints cache(io, cache_options<int, int>{}
                       .max_entries(100)
                       .time_to_live(10s)
                       .stale_while_revalidate(10s)
                       .refresh_together(4, 1s, std::ref(load)));
    fill(cache, 10);
    cache_clock::advance(11s);
    CHECK(ask(io, cache, 1, single) == 100);
    int bulk_loads = 0;
    auto for_missing = [&](std::vector<int> const& keys) -> asio::awaitable<std::vector<int>> {
        bulk_loads += static_cast<int>(keys.size());
        co_return std::vector<int>(keys.size(), -2);
    };
    std::vector<int> got;
    auto bulk = [&]() -> asio::awaitable<void> {
        std::vector<int> const keys{1, 3, 4, 77, 5};
        auto const all = co_await cache.get_or_load_all(keys, for_missing);
        for (auto const& one : all) got.push_back(*one);
    };
    asio::co_spawn(io, bulk(), asio::detached);
    run(io);
    CHECK(got == std::vector{100, 300, 400, -2, 500});
    CHECK(bulk_loads == 1); // what is missing
    CHECK(load.made == calls{{1, 3, 4, 5}});
    CHECK(ask(io, cache, 5, single) == 501);
}

TEST_CASE("a key that is being refreshed is not gathered again, and one that was put is fresh") {
    asio::io_context io;
    gate g(io);
    together load;
    load.at = &g;
    alone single;
    ints cache(io, refreshing(2, 1s, load));
    fill(cache, 10);
    cache_clock::advance(4s);
    ask(io, cache, 1, single);
    ask(io, cache, 2, single);
    CHECK(load.made.size() == 1);
    ask(io, cache, 1, single);
    ask(io, cache, 3, single);
    CHECK(load.made.size() == 1);
    cache.put(3, 333);
    cache_clock::advance(1s);
    run(io);
    CHECK(load.made.size() == 1); // nothing is left to load
    g.open();
    run(io);
    CHECK(ask(io, cache, 1, single) == 101);
    CHECK(ask(io, cache, 3, single) == 333);
}

TEST_CASE("a refresh that fails keeps the old values, for one key or for all") {
    asio::io_context io;
    std::vector<std::exception_ptr> unheard;
    together load;
    alone single;
    ints cache(io, refreshing(2, 1s, load).on_exception([&](std::exception_ptr e) {
        unheard.push_back(e);
    }));
    fill(cache, 10);
    cache_clock::advance(4s);
    load.failing_key = 2;
    ask(io, cache, 1, single);
    ask(io, cache, 2, single);
    CHECK(ask(io, cache, 1, single) == 101);
    CHECK(ask(io, cache, 2, single) == 200);
    CHECK(unheard.size() == 1);
    load.fails = true;
    ask(io, cache, 3, single);
    ask(io, cache, 4, single);
    CHECK(ask(io, cache, 3, single) == 300);
    CHECK(unheard.size() == 3);
}

TEST_CASE("closing the cache drops what is gathered, and its context may go first") {
    together load;
    alone single;
    {
        asio::io_context io;
        ints cache(io, refreshing(5, 1s, load));
        fill(cache, 10);
        cache_clock::advance(4s);
        ask(io, cache, 1, single);
        cache.close();
        run(io);
        CHECK(io.stopped());
    }
    {
        auto io = std::make_unique<asio::io_context>();
        ints cache(*io, refreshing(5, 1s, load));
        fill(cache, 10);
        cache_clock::advance(4s);
        ask(*io, cache, 1, single);
        io.reset();
    }
    CHECK(load.made.empty());
}

TEST_CASE("refreshing together is refused where there is nothing to refresh") {
    using Catch::Matchers::ContainsSubstring;
    asio::io_context io;
    together load;
    auto by_ref = std::ref(load);
    cache_options<int, int> o;
    o.max_entries(1).time_to_live(1s);
    CHECK_THROWS_WITH(ints(io, cache_options<int, int>(o).refresh_together(1, 1s, by_ref)),
                      ContainsSubstring("cache refresh_together needs refresh_after or stale"));
    CHECK_THROWS_WITH(o.refresh_together(0, 1s, by_ref),
                      ContainsSubstring("cache refresh_together most is 0, allowed is 1 to 65536"));
    CHECK_THROWS_WITH(o.refresh_together(1, 0s, by_ref),
                      ContainsSubstring("cache refresh_together delay in ns is 0"));
}

TEST_CASE("what is invalidated is not refreshed, however it was gathered") {
    asio::io_context io;
    together load;
    alone single;
    ints cache(io, refreshing(10, 1s, load));
    fill(cache, 5);
    cache_clock::advance(4s);
    for (int k = 0; k < 5; ++k) ask(io, cache, k, single);
    CHECK(cache.invalidate(1));
    cache_clock::advance(1s);
    run(io);
    CHECK(load.made == calls{{0, 2, 3, 4}});
    CHECK_FALSE(cache.contains(1));

    cache_clock::advance(4s);
    for (int k = 2; k < 5; ++k) ask(io, cache, k, single);
    cache.invalidate_all();
    cache_clock::advance(1s);
    run(io);
    CHECK(load.made.size() == 1);
    CHECK(cache.size() == 0);
}

TEST_CASE("what is invalidated by a key of another type is not refreshed") {
    asio::io_context io;
    std::vector<std::vector<std::string>> made;
    auto load = [&](std::vector<std::string> const& keys) -> asio::awaitable<std::vector<int>> {
        made.push_back(keys);
        co_return std::vector<int>(keys.size(), 2);
    };
    timed_cache<std::string, int> cache(io, cache_options<std::string, int>{}
                                                .max_entries(10)
                                                .time_to_live(10s)
                                                .refresh_after(4s)
                                                .refresh_together(10, 1s, load));
    for (auto const* const key : {"a", "b", "c"}) cache.put(key, 1);
    cache_clock::advance(4s);
    auto single = [](std::string const&) -> asio::awaitable<int> { co_return 3; };
    for (auto const* const key : {"a", "b", "c"}) {
        asking<int> one;
        one.ask(io, cache, std::string(key), single);
        run(io);
        CHECK(one.value == 1);
    }
    CHECK(cache.invalidate(std::string_view("b")));
    cache_clock::advance(1s);
    run(io);
    REQUIRE(made.size() == 1);
    std::ranges::sort(made[0]);
    CHECK(made[0] == std::vector<std::string>{"a", "c"});
    CHECK_FALSE(cache.contains(std::string_view("b")));
    CHECK(cache.get_if_present(std::string_view("c")) == 2);
}

namespace {

// Its copies can be made to throw.
struct fragile_key {
    explicit fragile_key(int n) : number(n) {}
    fragile_key(fragile_key&&) noexcept = default;
    fragile_key(fragile_key const& other) : number(other.number) {
        if (copies_left-- == 0) throw std::bad_alloc();
    }
    fragile_key& operator=(fragile_key const&) = default;
    bool operator==(fragile_key const& other) const { return number == other.number; }

    static inline int copies_left = -1;
    int number;
};
struct fragile_hash {
    std::size_t operator()(fragile_key const& key) const {
        return static_cast<std::size_t>(key.number);
    }
};

} // namespace

TEST_CASE("keys whose copies fail can be loaded, and refreshed, another time") {
    using fragile_cache =
        tidegate::basic_cache<fragile_key, int, tidegate::eviction::adaptive, fragile_hash,
                              std::equal_to<fragile_key>, cache_clock>;
    int refreshed = 0;
    int told = 0;
    auto const load =
        [&](std::vector<fragile_key> const& keys) -> asio::awaitable<std::vector<int>> {
        refreshed += static_cast<int>(keys.size());
        co_return std::vector<int>(keys.size(), 7);
    };
    auto single = [](fragile_key const&) -> asio::awaitable<int> { co_return 8; };
    auto const options = cache_options<fragile_key, int>()
                             .max_entries(100)
                             .time_to_live(10s)
                             .refresh_after(4s)
                             .refresh_together(10, 1s, load)
                             .on_exception([&](std::exception_ptr) { ++told; });
    for (int failing = 0; failing < 8; ++failing) {
        asio::io_context io;
        fragile_cache cache(io, options);
        auto const get = [&](int number) {
            auto one = std::make_shared<fragile_key>(number);
            int got = 0;
            auto asked = [&cache, &single, &got, one]() -> asio::awaitable<void> {
                auto getting = cache.get_or_load(*one, single);
                got = *co_await std::move(getting);
            };
            asio::co_spawn(io, asked, asio::detached);
            run(io);
            return got;
        };
        for (int k : {1, 2}) cache.put(fragile_key(k), 5);
        cache_clock::advance(4s);
        for (int k : {1, 2}) CHECK(get(k) == 5);
        fragile_key::copies_left = failing;
        cache_clock::advance(1s);
        run(io); // the two are refreshed, or are not
        fragile_key::copies_left = -1;
        cache_clock::advance(1s); // after a failure
        for (int k : {1, 2}) CHECK(get(k) > 0);
        cache_clock::advance(1s);
        run(io);
        for (int k : {1, 2}) CHECK(get(k) == 7);
        CHECK(cache.statistics().loading == 0);
    }
    CHECK(told > 0);
    CHECK(refreshed >= 16);
}

TEST_CASE("a loader whose copy fails leaves no load that never ends") {
    struct fragile_load {
        fragile_load() = default;
        fragile_load(fragile_load const& other) : copies_left(other.copies_left) {
            if ((*copies_left)-- == 0) throw std::bad_alloc();
        }
        asio::awaitable<std::vector<int>> operator()(std::vector<int> const& keys) {
            co_return std::vector<int>(keys.size(), 3);
        }
        std::shared_ptr<int> copies_left = std::make_shared<int>(-1);
    };
    asio::io_context io;
    int failures = 0;
    for (int failing = 0; failing < 4; ++failing) {
        ints cache(io, cache_options<int, int>().max_entries(100));
        alone single;
        fragile_load load;
        *load.copies_left = failing;
        auto asked = [&]() -> asio::awaitable<void> {
            std::vector<int> const keys{1, 2};
            auto getting = cache.get_or_load_all(keys, load);
            co_await std::move(getting);
        };
        asio::co_spawn(io, asked, [&](std::exception_ptr e) { failures += e != nullptr; });
        run(io);
        *load.copies_left = -1;
        CHECK(cache.statistics().loading == 0);
        CHECK(ask(io, cache, 1, single) > 0);
    }
    CHECK(failures > 0);
}

TEST_CASE("threads gather refreshes, each of which is made by somebody", "[stress]") {
    asio::io_context io;
    std::atomic<std::size_t> refreshed{0}, too_many{0}, wrong{0}, ended{0};
    auto load = [&](std::vector<int> const& keys) -> asio::awaitable<std::vector<int>> {
        refreshed += keys.size();
        if (keys.size() > 8) ++too_many;
        co_return keys;
    };
    tidegate::cache<int, int> cache(io, cache_options<int, int>{}
                                            .max_entries(100)
                                            .time_to_live(1h)
                                            .refresh_after(1us)
                                            .refresh_together(8, 50us, load));
    auto single = [](int key) -> asio::awaitable<int> { co_return key; };
    auto const rounds = static_cast<int>(std::max<std::size_t>(500, test::schedules() / 40));
    auto use = [&](int start) -> asio::awaitable<void> {
        // Longer than the clock of hits stands still, which may be 4 ms.
        for (int i = 0; i < rounds || refreshed == 0; ++i) {
            int const key = (start + i * 7) % 50;
            auto const got = co_await cache.get_or_load(key, std::ref(single));
            if (*got != key) ++wrong;
            if (i % 5 == 0) cache.invalidate((key + 3) % 50);
        }
        ++ended;
    };
    for (int i = 0; i < 4; ++i) asio::co_spawn(asio::make_strand(io), use(i * 11), asio::detached);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back([&] { io.run(); });
    }
    CHECK(ended == 4);
    CHECK(wrong == 0);
    CHECK(too_many == 0);
    CHECK(cache.statistics().loading == 0);
}
