// SPDX-License-Identifier: BSL-1.0
// Several keys at once: one call of the loader with exactly what is missing.
#include "cache/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/this_coro.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::cache_clock;
using test::gate;
using test::timed_cache;
using tidegate::cache_options;
using tidegate::error;
using tidegate::outcome;

namespace {

using ints = timed_cache<int, int>;
cache_options<int, int> up_to(std::size_t n) { return cache_options<int, int>{}.max_entries(n); }
using calls = std::vector<std::vector<int>>;

struct bulk_loader {
    gate* at = nullptr;
    calls made{};

    asio::awaitable<std::vector<int>> operator()(std::vector<int> const& missing) {
        made.push_back(missing);
        if (at) co_await at->pass();
        std::vector<int> all;
        for (int const k : missing) all.push_back(k * 100);
        co_return all;
    }
};

struct asking_all {
    asio::cancellation_signal signal;
    bool done = false;
    tidegate::error_code failure;
    std::vector<int> values{};

    template <class Load>
    void ask(asio::io_context& io, ints& cache, std::vector<int> keys, Load& load) {
        auto get = [](ints& c, std::vector<int> k, Load& l) -> asio::awaitable<std::vector<int>> {
            auto const got = co_await c.get_or_load_all(k, l);
            std::vector<int> all;
            for (auto const& v : got) all.push_back(v.value_or(-1));
            co_return all;
        };
        asio::co_spawn(io, get(cache, std::move(keys), load),
                       asio::bind_cancellation_slot(
                           signal.slot(), [this](std::exception_ptr e, std::vector<int> v) {
                               done = true;
                               failure = test::code_of(e);
                               values = std::move(v);
                           }));
    }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("the loader is called once with exactly the keys that are missing, in order") {
    asio::io_context io;
    ints cache(io, up_to(100));
    cache.put(2, 222);
    bulk_loader load;
    auto by_ref = std::ref(load);
    asking_all a, none, all_there;
    a.ask(io, cache, {3, 2, 1, 3, 5, 1}, by_ref);
    run(io);
    CHECK(load.made == calls{{3, 1, 5}});
    CHECK(a.values == std::vector{300, 222, 100, 300, 500, 100});
    CHECK(cache.get_if_present(5) == 500);
    all_there.ask(io, cache, {5, 2}, by_ref);
    none.ask(io, cache, {}, by_ref);
    run(io);
    CHECK(all_there.values == std::vector{500, 222});
    CHECK(none.done);
    CHECK(load.made.size() == 1);
}

TEST_CASE("calls that overlap load each key once, and end when their last key is there") {
    asio::io_context io;
    ints cache(io, up_to(100));
    gate first_gate(io), second_gate(io);
    bulk_loader first{&first_gate}, second{&second_gate};
    auto first_ref = std::ref(first), second_ref = std::ref(second);
    asking_all a, b;
    test::asking<int> single;
    a.ask(io, cache, {1, 2}, first_ref);
    run(io);
    b.ask(io, cache, {2, 3}, second_ref);
    auto never = [](int) -> asio::awaitable<int> { co_return -1; };
    single.ask(io, cache, 3, never);
    run(io);
    CHECK(first.made == calls{{1, 2}});
    CHECK(second.made == calls{{3}});
    second_gate.open();
    run(io);
    CHECK(single.value == 300);
    CHECK_FALSE(b.done);
    first_gate.open();
    run(io);
    CHECK(a.values == std::vector{100, 200});
    CHECK(b.values == std::vector{200, 300});
}

TEST_CASE("a caller waits once for a load of many keys") {
    asio::io_context io;
    ints cache(io, up_to(1000));
    gate g(io);
    bulk_loader load{&g};
    auto by_ref = std::ref(load);
    std::vector<int> keys;
    for (int k = 0; k < 200; ++k) keys.push_back(k);
    asking_all a;
    a.ask(io, cache, keys, by_ref);
    run(io);
    g.open();
    io.restart();
    CHECK(io.poll() < 20); // not one handler for each key
    REQUIRE(a.values.size() == 200);
    CHECK(a.values[199] == 19900);
}

TEST_CASE("who is cancelled when all is loaded, and does not know yet, has left") {
    asio::io_context io;
    ints cache(io, up_to(100));
    gate g(io);
    bulk_loader load{&g};
    auto by_ref = std::ref(load);
    asking_all a;
    a.ask(io, cache, {1, 2, 3}, by_ref);
    run(io);
    g.open();
    io.restart();
    while (cache.statistics().loading > 0) io.poll_one();
    CHECK_FALSE(a.done);
    a.signal.emit(asio::cancellation_type::all);
    run(io);
    CHECK(a.failure == asio::error::operation_aborted);
    CHECK(cache.get_if_present(3) == 300);
}

TEST_CASE("a key may fail alone, and be absent alone") {
    asio::io_context io;
    ints cache(io, up_to(100).negative_time_to_live(5s));
    int calls_made = 0;
    auto load = [&](std::vector<int> const& missing)
        -> asio::awaitable<std::vector<outcome<std::optional<int>>>> {
        ++calls_made;
        std::vector<outcome<std::optional<int>>> all(missing.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
            int const k = missing[i];
            if (k == 13) all[i].fail(error::not_found);
            else if (k == 0) all[i].succeed(std::nullopt);
            else all[i].succeed(k * 100);
        }
        co_return all;
    };
    std::vector<outcome<std::optional<int>>> got;
    auto ask = [&]() -> asio::awaitable<void> {
        std::vector<int> const keys{1, 13, 0};
        got = co_await cache.try_get_or_load_all(keys, load);
    };
    asio::co_spawn(io, ask(), asio::detached);
    run(io);
    REQUIRE(got.size() == 3);
    CHECK(got[0].value() == 100);
    CHECK(got[1].why().code() == error::not_found);
    CHECK(got[2].has_value());
    CHECK(got[2].value() == std::nullopt);
    CHECK_FALSE(cache.contains(13));
    CHECK(cache.contains(0));
    asking_all throws;
    throws.ask(io, cache, {1, 13}, load);
    run(io);
    CHECK(throws.failure == error::not_found);
    CHECK(calls_made == 2);
}

TEST_CASE("a loader that throws, or returns another number of results, fails its keys") {
    asio::io_context io;
    ints cache(io, up_to(100));
    auto throws = [](std::vector<int> const&) -> asio::awaitable<std::vector<int>> {
        throw std::domain_error("loader");
        co_return std::vector<int>{};
    };
    auto too_few = [](std::vector<int> const&) -> asio::awaitable<std::vector<int>> {
        co_return std::vector<int>{1};
    };
    asking_all a, b;
    a.ask(io, cache, {1, 2}, throws);
    run(io);
    CHECK(a.failure == asio::error::fault);
    b.ask(io, cache, {1, 2}, too_few);
    run(io);
    CHECK(b.failure == error::result_count_mismatch);
    CHECK(cache.size() == 0);
    CHECK(cache.statistics().loading == 0);
}

TEST_CASE(
    "a call that is cancelled leaves what others wait for, and its load only if nobody does") {
    asio::io_context io;
    ints cache(io, up_to(100));
    gate g(io);
    bulk_loader load{&g};
    auto by_ref = std::ref(load);
    asking_all a, b;
    a.ask(io, cache, {1, 2, 3}, by_ref);
    run(io);
    b.ask(io, cache, {3}, by_ref);
    run(io);
    a.signal.emit(asio::cancellation_type::all);
    run(io);
    CHECK(a.failure == asio::error::operation_aborted);
    CHECK(g.cancelled == 0);
    CHECK(cache.statistics().loading == 1);
    SECTION("others wait to the end") {
        g.open();
        run(io);
        CHECK(b.values == std::vector{300});
        CHECK(cache.contains(3));
        CHECK_FALSE(cache.contains(1)); // nobody wanted it any more
    }
    SECTION("others leave, too") {
        b.signal.emit(asio::cancellation_type::all);
        run(io);
        CHECK(g.cancelled == 1);
        CHECK(cache.statistics().loading == 0);
    }
}

TEST_CASE("a loader of several keys whose own operations were cancelled has failed as any other") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s).stale_if_error(60s).max_batch(1, 2));
    for (int k : {1, 2}) cache.put(k, k);
    cache_clock::advance(6s);
    tidegate::error_code const why = GENERATE(tidegate::error_code(asio::error::operation_aborted),
                                              tidegate::error_code(error::closed));
    auto load = [&](std::vector<int> const&) -> asio::awaitable<std::vector<int>> {
        throw boost::system::system_error(why);
        co_return std::vector<int>();
    };
    asking_all a;
    a.ask(io, cache, {1, 2}, load);
    run(io);
    CHECK(a.values == std::vector{1, 2});
}

TEST_CASE("who asked for several keys and leaves, or is made to, is not handed what is stale") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s).stale_if_error(60s));
    for (int k : {1, 2}) cache.put(k, k);
    cache_clock::advance(6s);
    gate g(io);
    bulk_loader load{&g};
    auto by_ref = std::ref(load);
    asking_all a, b;
    a.ask(io, cache, {1, 2}, by_ref);
    run(io);
    SECTION("cancelled") {
        a.signal.emit(asio::cancellation_type::all);
        run(io);
        CHECK(a.failure == asio::error::operation_aborted);
    }
    SECTION("with all others") {
        cache.cancel();
        run(io);
        CHECK(a.failure == asio::error::operation_aborted);
        auto fails = [](std::vector<int> const&) -> asio::awaitable<std::vector<int>> {
            throw std::domain_error("loader");
            co_return std::vector<int>();
        };
        b.ask(io, cache, {1, 2}, fails);
        run(io);
        CHECK(b.values == std::vector{1, 2});
    }
    SECTION("because the cache is closed") {
        cache.close();
        b.ask(io, cache, {1, 2}, by_ref);
        run(io);
        CHECK(a.failure == error::closed);
        CHECK(b.failure == error::closed);
    }
}

TEST_CASE("a load of several keys that asks for one of them gets an error") {
    asio::io_context io;
    ints cache(io, up_to(100));
    std::function<asio::awaitable<std::vector<int>>(std::vector<int> const&)> load =
        [&](std::vector<int> const& missing) -> asio::awaitable<std::vector<int>> {
        if (missing.size() == 1) co_return std::vector<int>{7};
        std::vector<int> const again{missing[1]};
        auto const got = co_await cache.get_or_load_all(again, load);
        co_return std::vector<int>(missing.size(), *got[0]);
    };
    asking_all a;
    a.ask(io, cache, {1, 2}, load);
    run(io);
    CHECK(a.failure == error::recursive_load);
}

TEST_CASE("a load of several keys that hangs frees them all") {
    asio::io_context io;
    ints cache(io, up_to(100).load_timeout(3s));
    gate g(io);
    bulk_loader load{&g};
    auto by_ref = std::ref(load);
    asking_all a, b;
    a.ask(io, cache, {1, 2}, by_ref);
    run(io);
    cache_clock::advance(3s);
    run(io);
    CHECK(a.failure == error::deadline_exceeded);
    CHECK(g.cancelled == 1);
    CHECK(cache.statistics().loading == 0);
    CHECK(io.stopped());
}

TEST_CASE("what is getting old is loaded again together, in the background") {
    asio::io_context io;
    ints cache(io, up_to(100).time_to_live(10s).refresh_after(4s));
    for (int const k : {1, 2, 3}) cache.put(k, k);
    cache_clock::advance(5s);
    cache.put(3, 3);
    bulk_loader load;
    auto by_ref = std::ref(load);
    asking_all a;
    a.ask(io, cache, {1, 2, 3}, by_ref);
    run(io);
    CHECK(a.values == std::vector{1, 2, 3});
    CHECK(load.made == calls{{1, 2}});
    CHECK(cache.get_if_present(2) == 200);
    cache_clock::advance(5s);
    cache.close(); // what is there stays, and is not loaded again
    asking_all late;
    late.ask(io, cache, {1, 2}, by_ref);
    run(io);
    CHECK(late.values == std::vector{100, 200});
    CHECK(load.made.size() == 1);
}

namespace {

// Each call waits at a gate of its own; what is odd fails.
struct split_loader {
    asio::io_context& io;
    calls made{};
    std::vector<std::unique_ptr<gate>> gates{};

    asio::awaitable<std::vector<outcome<int>>> operator()(std::vector<int> const& missing) {
        made.push_back(missing);
        auto& mine = *gates.emplace_back(std::make_unique<gate>(io));
        co_await mine.pass();
        std::vector<outcome<int>> all(missing.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (missing[i] % 2) all[i].fail(error::not_found);
            else all[i].succeed(missing[i] * 100);
        }
        co_return all;
    }
    void open(std::size_t call) {
        gates[call]->open();
        run(io);
    }
};

} // namespace

TEST_CASE("a load of many keys is split into batches, so many at a time, in order") {
    asio::io_context io;
    ints cache(io, up_to(100).max_batch(2, 2));
    cache.put(8, 800);
    split_loader load{io};
    auto by_ref = std::ref(load);
    asking_all a;
    a.ask(io, cache, {14, 8, 12, 10, 12, 6, 4, 2}, by_ref);
    run(io);
    CHECK(load.made == calls{{14, 12}, {10, 6}});
    load.open(1); // the third waits for the first
    CHECK(load.made.size() == 2);
    CHECK(cache.get_if_present(6) == 600);
    load.open(0);
    CHECK(load.made == calls{{14, 12}, {10, 6}, {4, 2}});
    CHECK_FALSE(a.done);
    load.open(2);
    CHECK(a.values == std::vector{1400, 800, 1200, 1000, 1200, 600, 400, 200});
    CHECK(cache.statistics().loads == 6);
}

TEST_CASE("batches of one key, one at a time, load one after the other; a key fails alone") {
    asio::io_context io;
    ints cache(io, up_to(100).max_batch(1, 1));
    split_loader load{io};
    auto by_ref = std::ref(load);
    std::vector<outcome<tidegate::shared_value<int>>> got;
    auto ask = [&]() -> asio::awaitable<void> {
        std::vector<int> const keys{2, 3, 4};
        got = co_await cache.try_get_or_load_all(keys, by_ref);
    };
    asio::co_spawn(io, ask(), asio::detached);
    run(io);
    for (std::size_t call = 0; call < 3; ++call) {
        CHECK(load.made.size() == call + 1);
        load.open(call);
    }
    CHECK(load.made == calls{{2}, {3}, {4}});
    REQUIRE(got.size() == 3);
    CHECK(got[0].value() == 200);
    CHECK(got[1].why().code() == error::not_found);
    CHECK(got[2].value() == 400);
}

TEST_CASE("a batch that throws, or hangs, fails its keys and not those of the next") {
    asio::io_context io;
    ints cache(io, up_to(100).max_batch(2, 1).load_timeout(5s));
    int made = 0;
    gate never(io);
    bool const hangs = GENERATE(false, true);
    auto load = [&](std::vector<int> const& missing) -> asio::awaitable<std::vector<int>> {
        if (++made == 1 && !hangs) throw std::domain_error("first batch");
        if (made == 1) {
            co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
            co_await never.pass();
        }
        co_return missing;
    };
    std::vector<outcome<tidegate::shared_value<int>>> got;
    auto ask = [&]() -> asio::awaitable<void> {
        std::vector<int> const keys{1, 2, 3};
        got = co_await cache.try_get_or_load_all(keys, load);
    };
    asio::co_spawn(io, ask(), asio::detached);
    run(io);
    cache_clock::advance(5s);
    run(io);
    REQUIRE(got.size() == 3);
    CHECK_FALSE(got[0]);
    CHECK_FALSE(got[1]);
    CHECK(got[2].value() == 3);
    CHECK(made == 2);
}

TEST_CASE("a call that is cancelled, or whose cache is closed, begins no further batch") {
    asio::io_context io;
    ints cache(io, up_to(100).max_batch(2, 1));
    split_loader load{io};
    auto by_ref = std::ref(load);
    asking_all a, b;
    a.ask(io, cache, {2, 4, 6, 8}, by_ref);
    run(io);
    b.ask(io, cache, {4}, by_ref);
    run(io);
    SECTION("cancelled") {
        a.signal.emit(asio::cancellation_type::all);
        run(io);
        CHECK(a.failure == asio::error::operation_aborted);
        load.open(0);
        CHECK(b.values == std::vector{400});
        CHECK(load.made == calls{{2, 4}});
        CHECK(cache.statistics().loading == 0);
        asking_all again;
        again.ask(io, cache, {6}, by_ref);
        run(io);
        CHECK(load.made.back() == std::vector{6});
    }
    SECTION("closed") {
        cache.close();
        run(io);
        CHECK(a.failure == error::closed);
        CHECK(b.failure == error::closed);
        CHECK(load.made.size() == 1);
    }
}

TEST_CASE("a call that hears of its cancellation and does not throw begins no further batch") {
    asio::io_context io;
    ints cache(io, up_to(100).max_batch(2, 1));
    split_loader load{io};
    asio::cancellation_signal signal;
    tidegate::error_code failure;
    auto body = [&]() -> asio::awaitable<void> {
        co_await asio::this_coro::throw_if_cancelled(false);
        std::vector<int> const wanted{2, 4, 6, 8};
        auto by_ref = std::ref(load);
        try {
            co_await cache.get_or_load_all(wanted, by_ref);
        } catch (boost::system::system_error const& e) {
            failure = e.code();
        }
    };
    asio::co_spawn(io, body(), asio::bind_cancellation_slot(signal.slot(), asio::detached));
    run(io);
    signal.emit(asio::cancellation_type::all);
    run(io);
    load.open(0); // it waits for what it has begun
    run(io);
    CHECK(failure == asio::error::operation_aborted);
    CHECK(load.made == calls{{2, 4}});
}

namespace {

struct key_that_may_not_copy {
    static inline bool refuses = false;
    explicit key_that_may_not_copy(int v) : value(v) {}
    key_that_may_not_copy(key_that_may_not_copy const& other) : value(other.value) {
        if (refuses) throw std::range_error("no copy");
    }
    key_that_may_not_copy(key_that_may_not_copy&&) noexcept = default;
    key_that_may_not_copy& operator=(key_that_may_not_copy&&) noexcept = default;
    bool operator==(key_that_may_not_copy const& other) const { return value == other.value; }
    int value;
};
struct hash_of_key {
    std::size_t operator()(key_that_may_not_copy const& key) const {
        return std::hash<int>{}(key.value);
    }
};

} // namespace

TEST_CASE("what keeps a later batch from beginning is the failure of its keys alone") {
    using key = key_that_may_not_copy;
    using cache_type = tidegate::basic_cache<key, int, tidegate::eviction::adaptive, hash_of_key>;
    asio::io_context io;
    cache_type cache(io, cache_options<key, int>{}.max_entries(100).max_batch(2, 1));
    std::vector<key> keys;
    for (int k = 1; k <= 5; ++k) keys.emplace_back(k);
    int made = 0;
    auto load = [&](std::vector<key> const& missing) -> asio::awaitable<std::vector<int>> {
        if (++made == 1) key::refuses = true;
        co_return std::vector<int>(missing.size(), 7);
    };
    std::vector<outcome<tidegate::shared_value<int>>> got;
    auto ask = [&]() -> asio::awaitable<void> {
        got = co_await cache.try_get_or_load_all(keys, load);
    };
    asio::co_spawn(io, ask(), asio::detached);
    run(io);
    key::refuses = false;
    REQUIRE(got.size() == 5);
    CHECK(got[0].value() == 7);
    CHECK(got[1].value() == 7);
    for (std::size_t i = 2; i < 5; ++i) CHECK_THROWS_AS(std::move(got[i]).get(), std::range_error);
    CHECK(made == 1);
    CHECK(cache.statistics().loading == 0);
}

TEST_CASE("each key of a cache that is closed meanwhile, or was, has that as its failure") {
    asio::io_context io;
    bool const split = GENERATE(false, true);
    bool const before = GENERATE(false, true);
    ints cache(io, split ? up_to(100).max_batch(1, 1) : up_to(100));
    cache.put(2, 200);
    auto load = [&](std::vector<int> const& missing) -> asio::awaitable<std::vector<int>> {
        cache.close();
        co_return missing;
    };
    if (before) cache.close();
    std::vector<outcome<tidegate::shared_value<int>>> got;
    auto ask = [&]() -> asio::awaitable<void> {
        std::vector<int> const keys{1, 2, 3};
        got = co_await cache.try_get_or_load_all(keys, load);
    };
    asio::co_spawn(io, ask(), asio::detached);
    run(io);
    REQUIRE(got.size() == 3);
    CHECK(got[0].why().code() == error::closed);
    CHECK(got[1].value() == 200);
    CHECK(got[2].why().code() == error::closed);
}

TEST_CASE("a key that somebody else loads meanwhile is not loaded by a later batch") {
    asio::io_context io;
    ints cache(io, up_to(100).max_batch(1, 1));
    split_loader load{io};
    auto by_ref = std::ref(load);
    asking_all a, b;
    a.ask(io, cache, {2, 4, 6}, by_ref);
    run(io);
    b.ask(io, cache, {4}, by_ref);
    run(io);
    CHECK(load.made == calls{{2}, {4}});
    cache.put(6, 666);
    load.open(0);
    load.open(1);
    CHECK(a.values == std::vector{200, 400, 666});
    CHECK(load.made == calls{{2}, {4}});
}

TEST_CASE("what is getting old is loaded again in batches, too") {
    asio::io_context io;
    ints cache(io, up_to(100).time_to_live(10s).refresh_after(4s).max_batch(2, 1));
    for (int const k : {1, 2, 3}) cache.put(k, k);
    cache_clock::advance(5s);
    bulk_loader load;
    auto by_ref = std::ref(load);
    asking_all a;
    a.ask(io, cache, {1, 2, 3}, by_ref);
    run(io);
    CHECK(load.made == calls{{1, 2}, {3}});
    CHECK(cache.get_if_present(3) == 300);
}

TEST_CASE("limits of batches out of range are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    using Catch::Matchers::MessageMatches;
    for (std::size_t const most : {std::size_t{0}, std::size_t{65537}}) {
        CHECK_THROWS_MATCHES(up_to(1).max_batch(most), std::invalid_argument,
                             MessageMatches(ContainsSubstring("cache max_batch")));
        CHECK_THROWS_MATCHES(up_to(1).max_batch(1, most), std::invalid_argument,
                             MessageMatches(ContainsSubstring("cache max_batch at_once")));
    }
}
