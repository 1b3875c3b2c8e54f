// SPDX-License-Identifier: BSL-1.0
// What is in a cache, for how long, and what leaves it why.
#include "cache/support.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::cache_clock;
using test::timed_cache;
using tidegate::cache_options;
using tidegate::removal_cause;

namespace {

using ints = timed_cache<int, int>;
cache_options<int, int> up_to(std::size_t n) { return cache_options<int, int>{}.max_entries(n); }

} // namespace

TEST_CASE("what was put is there, and the newest value of a key counts") {
    asio::io_context io;
    ints cache(io, up_to(10));
    CHECK_FALSE(cache.get_if_present(1));
    CHECK(cache.put(1, 10));
    CHECK(cache.get_if_present(1) == 10);
    CHECK(cache.put(1, 11));
    CHECK(cache.get_if_present(1) == 11);
    CHECK_FALSE(cache.put_if_absent(1, 12));
    CHECK(cache.put_if_absent(2, 20));
    CHECK(cache.peek(1) == 11);
    CHECK(cache.contains(2));
    CHECK(cache.invalidate(1));
    CHECK_FALSE(cache.invalidate(1));
    CHECK_FALSE(cache.contains(1));
    cache.invalidate_all();
    CHECK(cache.size() == 0);
    auto const counted = cache.statistics();
    CHECK(counted.hits == 2);
    CHECK(counted.misses == 1);
    CHECK(counted.replaced == 1);
    CHECK(counted.invalidated == 2);
}

TEMPLATE_TEST_CASE("every policy keeps all that fits, and never more than the bound", "",
                   tidegate::eviction::adaptive, tidegate::eviction::lru, tidegate::eviction::lfu,
                   tidegate::eviction::soonest_expiry) {
    asio::io_context io;
    for (std::size_t const n : {1u, 2u, 7u, 1000u, 4096u, 10000u}) {
        timed_cache<std::size_t, std::size_t, TestType> cache(
            io, cache_options<std::size_t, std::size_t>{}.max_entries(n));
        for (std::size_t i = 0; i < n; ++i) cache.put(i, i);
        std::size_t there = 0;
        for (std::size_t i = 0; i < n; ++i) there += cache.contains(i);
        if (n <= 4096) CHECK(there == n);
        else CHECK(there >= n * 97 / 100);
        for (std::size_t i = 0; i < 3 * n; ++i) {
            cache.put(n + i * 7919 % (2 * n), i);
            REQUIRE(cache.size() <= n);
        }
        for (std::size_t i = 0; i < 3 * n; i += 2) cache.invalidate(i);
        REQUIRE(cache.hottest_keys().size() == cache.size());
    }
}

TEST_CASE("the least recently used, least often used, and soonest to expire go first") {
    asio::io_context io;
    SECTION("lru") {
        timed_cache<int, int, tidegate::eviction::lru> cache(io, up_to(3));
        for (int const k : {1, 2, 3}) cache.put(k, k);
        CHECK(cache.get_if_present(1));
        CHECK(cache.hottest_keys() == std::vector{1, 3, 2});
        CHECK(cache.hottest_keys(1) == std::vector{1});
        cache.put(4, 4);
        CHECK(cache.hottest_keys() == std::vector{4, 1, 3});
        CHECK(cache.peek(3)); // is no use
        cache.put(5, 5);
        CHECK(cache.hottest_keys() == std::vector{5, 4, 1});
    }
    SECTION("lfu") {
        timed_cache<int, int, tidegate::eviction::lfu> cache(io, up_to(3));
        for (int const k : {1, 2, 3}) cache.put(k, k);
        for (int const k : {1, 1, 2}) CHECK(cache.get_if_present(k));
        CHECK(cache.hottest_keys() == std::vector{1, 2, 3});
        cache.put(4, 4);
        CHECK_FALSE(cache.contains(3));
        cache.put(5, 5);
        CHECK_FALSE(cache.contains(4));
        CHECK(cache.contains(2));
    }
    SECTION("soonest to expire") {
        timed_cache<int, int, tidegate::eviction::soonest_expiry> cache(io, up_to(3));
        cache.put(1, 1, 30s);
        cache.put(2, 2, 10s);
        cache.put(3, 3, 20s);
        CHECK(cache.get_if_present(2));
        CHECK(cache.hottest_keys() == std::vector{1, 3, 2});
        cache.put(4, 4, 15s);
        CHECK_FALSE(cache.contains(2));
        cache.put(4, 4, 40s);
        cache.put(5, 5, 1s);
        CHECK(cache.hottest_keys() == std::vector{4, 1, 5});
    }
}

TEST_CASE("an entry may be used until its time is over, and not a nanosecond longer") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(5s));
    cache.put(1, 1);
    cache.put(2, 2, 7s);
    cache.put(3, 3, 1ns);
    CHECK(cache.contains(3));
    cache_clock::advance(1ns);
    CHECK_FALSE(cache.contains(3));
    cache_clock::advance(5s - 2ns);
    CHECK(cache.get_if_present(1));
    auto const before = cache_clock::now();
    cache_clock::advance(1ns);
    CHECK_FALSE(cache.get_if_present(1));
    CHECK(cache.get_if_present(1, before));
    CHECK(cache.get_if_present(2));
    cache_clock::advance(2s);
    CHECK_FALSE(cache.get_if_present(2));
    cache.run_maintenance();
    CHECK(cache.size() <= 3); // the wheel looks at whole milliseconds
    cache_clock::advance(3ms);
    cache.run_maintenance();
    CHECK(cache.size() == 0);
    CHECK(cache.statistics().expired == 3);
}

TEST_CASE("each use gives an entry its idle time anew, within its time to live") {
    asio::io_context io;
    ints cache(io, up_to(10).time_to_live(10s).time_to_idle(3s));
    cache.put(1, 1);
    cache.put(2, 2);
    for (int i = 0; i < 4; ++i) {
        cache_clock::advance(2s);
        CHECK(cache.get_if_present(1));
        CHECK(cache.peek(1));
    }
    CHECK_FALSE(cache.contains(2));
    cache_clock::advance(1999ms);
    CHECK(cache.get_if_present(1));
    cache_clock::advance(1ms);
    CHECK_FALSE(cache.contains(1));
}

TEST_CASE("what has expired makes room before what lives") {
    asio::io_context io;
    timed_cache<int, int, tidegate::eviction::lru> cache(io, up_to(3));
    cache.put(1, 1);
    cache.put(2, 2, 1s);
    cache.put(3, 3);
    CHECK(cache.get_if_present(2)); // the most recently used
    cache_clock::advance(1s + 3ms);
    cache.put(4, 4);
    CHECK(cache.contains(1));
    CHECK(cache.contains(3));
    CHECK(cache.statistics().evicted == 0);
    CHECK(cache.statistics().expired == 1);
}

TEST_CASE("jitter takes a random part off, so that no hundredth of the time sees many expire") {
    asio::io_context io;
    ints cache(io, up_to(10000).time_to_live(1000s).jitter(0.1));
    for (int i = 0; i < 10000; ++i) cache.put(i, i);
    auto alive = [&] {
        int n = 0;
        for (int i = 0; i < 10000; ++i) n += cache.contains(i);
        return n;
    };
    int before = alive();
    CHECK(before >= 9700); // of a divided cache
    int const all = before;
    cache_clock::advance(900s);
    for (int step = 0; step < 100; ++step) {
        cache_clock::advance(1s);
        int const now = alive();
        CHECK(before - now <= all * 2 / 100);
        before = now;
    }
    CHECK(before == 0);
}

TEST_CASE("a million entries that expire together leave a few with each put") {
    asio::io_context io;
    ints cache(io, up_to(1'000'000).time_to_live(10s));
    for (int i = 0; i < 100'000; ++i) cache.put(i, i);
    cache_clock::advance(11s);
    auto const before = cache.size();
    cache.put(-1, 1);
    CHECK(cache.size() < before);
    CHECK(cache.size() >= before - 16);
    for (int i = 0; i < 100'000; ++i) cache.put(i, i);
    CHECK(cache.statistics().expired + cache.statistics().replaced >= before);
    cache_clock::advance(11s);
    cache.run_maintenance();
    CHECK(cache.size() == 0);
}

TEST_CASE("the maintenance timer returns memory without traffic, and rests when nothing is there") {
    asio::io_context io;
    ints cache(io, up_to(1'000'000).time_to_live(10s).maintain_every(2s));
    CHECK(io.poll() == 0);
    for (int i = 0; i < 100'000; ++i) cache.put(i, i);
    auto const peak = cache.statistics().bytes;
    for (int i = 0; i < 5; ++i) {
        io.restart();
        io.poll();
        CHECK_FALSE(io.stopped());
        cache_clock::advance(2s);
    }
    io.poll();
    cache_clock::advance(2s);
    io.poll();
    CHECK(cache.size() == 0);
    CHECK(cache.statistics().bytes < peak / 10);
    io.restart();
    io.poll();
    CHECK(io.stopped());
    cache.put(1, 1); // wakes it up
    for (int i = 0; i < 8; ++i) {
        io.restart();
        io.poll();
        cache_clock::advance(2s);
    }
    CHECK(cache.size() == 0);
}

TEST_CASE("the maintenance timer lets others run while it removes many entries") {
    asio::io_context io;
    std::size_t const shards = GENERATE(std::size_t{1}, std::size_t{16});
    ints cache(io, up_to(100'000).time_to_live(10s).maintain_every(2s).shards(shards));
    for (int i = 0; i < 50'000; ++i) cache.put(i, i);
    cache_clock::advance(11s);
    std::size_t most = 0;
    for (std::size_t before = cache.size(); before > 0; before = cache.size()) {
        REQUIRE(io.poll_one() == 1);
        most = std::max(most, before - cache.size());
    }
    CHECK(most > 0);
    CHECK(most < 5000);
    cache_clock::advance(2s);
    io.poll();
    io.restart();
    io.poll();
    CHECK(io.stopped()); // it rests
    cache.put(1, 1);
    cache_clock::advance(11s);
    io.restart();
    io.poll_one();
    cache.close();
    io.poll();
    CHECK(io.stopped());
}

namespace {

// Lets something be done just after it was unlocked for the nth time.
struct interrupted_mutex {
    void lock() noexcept {}
    void unlock() {
        if (then && --unlocks == 0) std::exchange(then, nullptr)();
    }
    static inline int unlocks = 0;
    static inline std::function<void()> then;
};

} // namespace

TEST_CASE("what is put in at any moment of the maintenance is removed in its time") {
    using interrupted =
        tidegate::basic_cache<int, int, tidegate::eviction::adaptive, tidegate::cache_hash<int>,
                              std::equal_to<>, cache_clock, asio::any_io_executor,
                              interrupted_mutex>;
    int moments = 0;
    for (bool reached = true; reached;) {
        asio::io_context io;
        interrupted cache(io, up_to(10).time_to_live(10s).maintain_every(2s));
        cache.put(1, 1);
        cache_clock::advance(11s);
        interrupted_mutex::unlocks = moments + 1;
        interrupted_mutex::then = [&] { cache.put(2, 2); };
        io.poll();
        reached = !interrupted_mutex::then;
        interrupted_mutex::then = nullptr;
        if (!reached) continue;
        ++moments;
        CHECK(cache.size() == 1);
        for (int i = 0; i < 8; ++i) {
            io.restart();
            io.poll();
            cache_clock::advance(2s);
        }
        INFO("after unlocking it " << moments << " times");
        CHECK(cache.size() == 0);
    }
    CHECK(moments > 1);
}

TEST_CASE("weights are kept within the bound, and nothing is given up for what is too heavy") {
    asio::io_context io;
    timed_cache<std::string, std::string> cache(
        io, cache_options<std::string, std::string>{}.max_weight(
                10, [](std::string const&, std::string const& v) { return v.size(); }));
    CHECK(cache.put("a", "aaaa"));
    CHECK(cache.put("b", "bbbb"));
    CHECK_FALSE(cache.put("c", "ccccccccccc"));
    CHECK(cache.contains("a"));
    CHECK(cache.contains("b"));
    CHECK(cache.statistics().refused == 1);
    CHECK(cache.put("b", "bb"));
    CHECK(cache.statistics().weight == 6);
    CHECK(cache.put("d", "dddddddddd"));
    CHECK(cache.size() == 1);
    CHECK(cache.statistics().weight == 10);
    CHECK_FALSE(cache.put("d", "ddddddddddd"));
    CHECK_FALSE(cache.contains("d")); // an old value would be wrong
    CHECK(cache.put("e", ""));
    CHECK(cache.statistics().weight == 0);
}

TEST_CASE("a weigher that throws refuses the value") {
    asio::io_context io;
    timed_cache<int, int> cache(io, cache_options<int, int>{}.max_weight(10, [](int, int v) {
        if (v < 0) throw std::domain_error("negative");
        return static_cast<std::uint64_t>(v);
    }));
    CHECK_THROWS_AS(cache.put(1, -1), std::domain_error);
    CHECK(cache.put(1, 10));
    CHECK(cache.size() == 1);
}

TEST_CASE("listeners hear each entry once with the cause, with no lock held") {
    asio::io_context io;
    using heard = std::vector<std::tuple<int, int, removal_cause>>;
    heard all;
    timed_cache<int, int, tidegate::eviction::lru>* self = nullptr;
    timed_cache<int, int, tidegate::eviction::lru> cache(
        io, up_to(2).on_removal([&](int k, std::optional<int> const& v, removal_cause why) {
            all.emplace_back(k, *v, why);
            if (k == 1) self->put(100, 100); // goes in again
            if (k == 3) throw std::domain_error("listener");
        }));
    self = &cache;
    cache.put(1, 10);
    cache.put(1, 11);
    CHECK(all == heard{{1, 10, removal_cause::replaced}});
    all.clear();
    cache.put(3, 30); // of 1 and 100, 1 is older
    CHECK(all == heard{{1, 11, removal_cause::size}, {100, 100, removal_cause::replaced}});
    all.clear();
    cache.put(4, 40, 1s);
    cache_clock::advance(2s);
    cache.run_maintenance();
    cache.invalidate(100);
    CHECK(all == heard{{3, 30, removal_cause::size},
                       {4, 40, removal_cause::expired},
                       {100, 100, removal_cause::explicit_}});
}

TEST_CASE("values are destroyed outside the lock, and may use the cache") {
    struct nosy {
        timed_cache<int, std::shared_ptr<nosy>>* cache;
        ~nosy() {
            if (!cache) return;
            cache->contains(1);
            cache->put(7, nullptr);
            cache->invalidate(8);
        }
    };
    asio::io_context io;
    timed_cache<int, std::shared_ptr<nosy>> cache(
        io, cache_options<int, std::shared_ptr<nosy>>{}.max_entries(4).time_to_live(10s));
    auto make = [&] {
        auto n = std::make_shared<nosy>();
        n->cache = &cache;
        return n;
    };
    for (int i = 0; i < 20; ++i) cache.put(i % 10, make());
    cache.put(1, make(), 1s);
    cache_clock::advance(2s);
    cache.run_maintenance();
    cache.invalidate_if([](int k, auto const&) { return k % 2 == 0; });
    cache.put(3, make());
    cache.invalidate(3);
    cache.invalidate_all();
    SUCCEED("no deadlock");
}

TEST_CASE("a value stays valid after its entry left") {
    asio::io_context io;
    timed_cache<int, std::string> cache(io, cache_options<int, std::string>{}.max_entries(1));
    cache.put(1, "one");
    auto const one = cache.get_if_present(1);
    cache.put(2, "two");
    cache.invalidate_all();
    CHECK(*one == "one");
}

TEST_CASE("keys and values that can only be moved work, and lookups by another type") {
    asio::io_context io;
    struct by_value {
        std::size_t operator()(int k) const { return static_cast<std::size_t>(k); }
        std::size_t operator()(std::unique_ptr<int> const& k) const { return (*this)(*k); }
    };
    struct same_value {
        bool operator()(std::unique_ptr<int> const& a, std::unique_ptr<int> const& b) const {
            return *a == *b;
        }
        bool operator()(std::unique_ptr<int> const& a, int b) const { return *a == b; }
        bool operator()(int a, std::unique_ptr<int> const& b) const { return a == *b; }
    };
    tidegate::basic_cache<std::unique_ptr<int>, std::unique_ptr<int>, tidegate::eviction::adaptive,
                          by_value, same_value>
        cache(io, cache_options<std::unique_ptr<int>, std::unique_ptr<int>>{}.max_entries(2));
    cache.put(std::make_unique<int>(1), std::make_unique<int>(10));
    REQUIRE(cache.get_if_present(1));
    CHECK(**cache.get_if_present(1) == 10);
    CHECK(cache.invalidate(1));
    timed_cache<std::string, int> named(io, cache_options<std::string, int>{}.max_entries(2));
    named.put("key", 1);
    CHECK(named.get_if_present(std::string_view("key")) == 1);
    CHECK(named.get_if_present("key") == 1);
}

TEST_CASE("entries are invalidated by a condition that may use the cache") {
    asio::io_context io;
    ints cache(io, up_to(100));
    for (int i = 0; i < 100; ++i) cache.put(i, i);
    CHECK(cache.invalidate_if([&](int k, std::optional<int> const& v) {
        return cache.contains(k) && *v % 3 == 0;
    }) == 34);
    CHECK(cache.size() == 66);
    CHECK_THROWS_AS(
        cache.invalidate_if([](int, auto const&) -> bool { throw std::domain_error("condition"); }),
        std::domain_error);
    CHECK(cache.size() == 66);
}

TEST_CASE("times near the ends of the clock do not overflow") {
    struct end_tag;
    using clock = tidegate::testing::basic_manual_clock<end_tag>;
    asio::io_context io;
    tidegate::basic_cache<int, int, tidegate::eviction::adaptive, tidegate::cache_hash<int>,
                          std::equal_to<>, clock>
        cache(io, up_to(100).time_to_live(std::chrono::hours(24 * 3650)));
    cache.put(1, 1);
    cache.put(2, 2, 1s);
    clock::advance(std::chrono::hours(24 * 3649));
    CHECK(cache.get_if_present(1) == 1);
    CHECK_FALSE(cache.contains(2));
    clock::advance(std::chrono::hours(24));
    CHECK_FALSE(cache.contains(1));
    clock::advance_to(clock::time_point::max() - 5s);
    cache.run_maintenance();
    CHECK(cache.size() == 0);
    cache.put(3, 3, 10s);
    CHECK(cache.contains(3));
    clock::advance_to(clock::time_point::max());
    CHECK_FALSE(cache.get_if_present(2));
    cache.put(4, 4, 1s);
    cache.run_maintenance();
}

TEST_CASE("an older time than the last does no harm") {
    asio::io_context io;
    ints cache(io, up_to(100).time_to_live(5s));
    cache.put(1, 1);
    auto const long_ago = cache_clock::time_point::min();
    CHECK(cache.get_if_present(1, long_ago) == 1);
    CHECK(cache.get_if_present(1, cache_clock::time_point()) == 1);
    CHECK_FALSE(cache.get_if_present(1, cache_clock::time_point::max()));
    CHECK(cache.get_if_present(1) == 1);
}

TEST_CASE("settings out of range or against each other are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    asio::io_context io;
    auto refused = [&](cache_options<int, int> o, char const* what) {
        CHECK_THROWS_WITH(ints(io, o), ContainsSubstring(what));
    };
    CHECK_THROWS_WITH(up_to(0), "tidegate: cache max_entries is 0, allowed is 1 to 2147483648");
    CHECK_THROWS_WITH(up_to(1).time_to_live(0s),
                      ContainsSubstring("cache time_to_live in ns is 0, allowed is 1 to"));
    CHECK_THROWS_WITH(up_to(1).jitter(1.5), ContainsSubstring("cache jitter"));
    CHECK_THROWS_WITH(up_to(1).shards(0), ContainsSubstring("cache shards"));
    refused({}, "max_entries or max_weight");
    refused(up_to(1).max_weight(1, [](int, int) { return std::uint64_t{1}; }), "not both");
    refused(cache_options<int, int>{}.max_weight(1, nullptr), "weigher");
    refused(up_to(1).refresh_after(1s), "refresh_after");
    refused(up_to(1).refresh_after(1s).time_to_live(1s), "refresh_after");
    refused(up_to(1).stale_if_error(1s), "time_to_live");
    refused(up_to(1).time_to_live(1s).soft_timeout(1s), "soft_timeout");
    refused(up_to(10).negative_time_to_live(1s, 2), "negative_time_to_live weight");
    auto const weigh = [](int, int) { return std::uint64_t{1}; };
    refused(cache_options<int, int>{}.max_weight(8, weigh).negative_time_to_live(1s, 9),
            "negative_time_to_live weight");
    CHECK_THROWS_WITH(up_to(1).negative_time_to_live(1s, 0),
                      ContainsSubstring("cache negative_time_to_live weight is 0"));
    ints cache(io, up_to(1));
    CHECK_THROWS_WITH(cache.put(1, 1, 0s), ContainsSubstring("cache put time_to_live in ns is 0"));
}

TEST_CASE("the hit ratio is the share of lookups that found something, and 0 before any") {
    asio::io_context io;
    ints cache(io, up_to(10));
    CHECK(cache.statistics().hit_ratio() == 0);
    cache.put(1, 10);
    CHECK(cache.get_if_present(1));
    CHECK(cache.get_if_present(1));
    CHECK(cache.get_if_present(1));
    CHECK_FALSE(cache.get_if_present(2));
    CHECK(cache.statistics().hit_ratio() == 0.75);
}
