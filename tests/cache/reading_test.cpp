// SPDX-License-Identifier: BSL-1.0
// Look-ups that take no lock: never a wrong value, whatever goes on beside them.
#include "cache/support.hpp"
#include "support/stress.hpp"

#include <tidegate/detail/sequence_lock.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::detail::sequence_lock;

namespace {

// Half of one and half of another is seen.
struct sealed {
    std::uint64_t key = 0;
    std::uint64_t seal = 0;

    static sealed of(std::uint64_t key, std::uint64_t salt) {
        return {key ^ (salt << 32), (key ^ (salt << 32)) * 0x9E3779B97F4A7C15u + 1};
    }
    bool is_of(std::uint64_t k) const {
        return (key & 0xffffffff) == k && seal == key * 0x9E3779B97F4A7C15u + 1;
    }
    bool operator==(sealed const&) const = default;
};
using sealed_cache = tidegate::cache<std::uint64_t, sealed>;
using sealed_options = tidegate::cache_options<std::uint64_t, sealed>;

constexpr int readers = 3;

// Runs `change(random)` in this thread, `changes` times at least, while others look up keys below
// `keys`, many of them; how many values were wrong.
template <class Cache, class Change>
int looked_on(Cache& cache, std::uint64_t keys, std::uint64_t seed, int changes, Change change) {
    std::atomic<bool> over{false};
    std::atomic<int> wrong{0};
    std::atomic<int> rounds{0};
    std::vector<std::jthread> threads;
    for (int t = 0; t < readers; ++t) {
        threads.emplace_back([&, t] {
            test::random random(seed + 1 + static_cast<std::uint64_t>(t));
            for (; !over; ++rounds) {
                for (int i = 0; i < 100; ++i) {
                    std::uint64_t const key = test::below(random, keys);
                    auto const got = cache.get_if_present(key);
                    if (got && !got->is_of(key)) ++wrong;
                }
            }
        });
    }
    test::random random(seed);
    for (int i = 0; i < changes || rounds < 50 * readers; ++i) change(random);
    over = true;
    threads.clear();
    return wrong;
}

template <class Key>
struct same_hash {
    std::size_t operator()(Key) const { return 7; }
};
struct picky_hash {
    std::size_t operator()(int key) const {
        if (key < 0) throw std::runtime_error("hash");
        return static_cast<std::size_t>(key);
    }
};
struct picky_equal {
    bool operator()(int a, int b) const {
        if (a == 13 || b == 13) throw std::runtime_error("equal");
        return a == b;
    }
};
template <class V, class Hash, class Equal>
using cache_with = tidegate::basic_cache<int, V, tidegate::eviction::adaptive, Hash, Equal>;

} // namespace

TEST_CASE("readers beside writers, invalidators and evictions see whole values of their keys only",
          "[reading]") {
    asio::io_context io;
    std::uint64_t const seed = test::seeds().back();
    INFO("TIDEGATE_STRESS_SEED=" << seed);
    sealed_cache cache(io, sealed_options{}.max_entries(256).shards(2).time_to_live(1h));
    std::uint64_t salt = 0;
    int const wrong = looked_on(cache, 400, seed, 60'000, [&](test::random& random) {
        std::uint64_t const key = test::below(random, 400);
        std::size_t const choice = test::below(random, 1000);
        if (choice < 800) cache.put(key, sealed::of(key, ++salt & 0xffff));
        else if (choice < 900) cache.put(key, sealed::of(key, ++salt & 0xffff), 1us);
        else if (choice < 990) cache.invalidate(key);
        else if (choice < 995) cache.run_maintenance();
        else cache.invalidate_all();
    });
    CHECK(wrong == 0);
    auto const counted = cache.statistics();
    CHECK(counted.entries <= 256);
    CHECK(counted.hits > 0);
    CHECK(counted.misses > 0);
}

TEST_CASE("a cache that grows and gives back memory under its readers loses nothing", "[reading]") {
    asio::io_context io;
    std::uint64_t const seed = test::seeds().back();
    INFO("TIDEGATE_STRESS_SEED=" << seed);
    sealed_cache cache(io, sealed_options{}.max_entries(1'000'000).shards(1));
    constexpr std::uint64_t most = 20'000;
    std::uint64_t next = 0;
    std::uint64_t lost = 0;
    int const wrong = looked_on(cache, most, seed, 50'000, [&](test::random& random) {
        if (next == most) {
            next = 0;
            cache.invalidate_all();
            cache.run_maintenance(); // the memory goes while others look
        }
        cache.put(next, sealed::of(next, 1));
        ++next;
        if (!cache.get_if_present(test::below(random, next))) ++lost;
    });
    CHECK(wrong == 0);
    CHECK(lost == 0);
    for (std::uint64_t key = 0; key < most; ++key) cache.put(key, sealed::of(key, 1));
    auto const peak = cache.statistics().bytes;
    cache.invalidate_all();
    cache.run_maintenance();
    CHECK(cache.statistics().bytes < peak / 10);
}

TEST_CASE("a random schedule of one thread agrees with a map, and counts every look-up",
          "[reading]") {
    using cache_type = test::timed_cache<int, std::uint64_t>;
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        asio::io_context io;
        cache_type cache(io, tidegate::cache_options<int, std::uint64_t>{}.max_entries(4096));
        struct entry {
            std::uint64_t value;
            test::cache_clock::time_point until;
        };
        std::unordered_map<int, entry> model;
        std::uint64_t hits = 0, misses = 0;
        for (int i = 0; i < 20'000; ++i) {
            int const key = static_cast<int>(test::below(random, 300)) - 150;
            auto const now = test::cache_clock::now();
            auto const it = model.find(key);
            bool const there = it != model.end() && it->second.until > now;
            auto const expected =
                there ? std::optional(it->second.value) : std::optional<std::uint64_t>();
            std::size_t const choice = test::below(random, 100);
            if (choice < 50) {
                REQUIRE(cache.get_if_present(key) == expected);
                ++(there ? hits : misses);
            } else if (choice < 55) {
                REQUIRE(cache.get_if_present(key, now) == expected);
                ++(there ? hits : misses);
            } else if (choice < 60) {
                REQUIRE(cache.peek(key) == expected);
                REQUIRE(cache.contains(key) == there);
            } else if (choice < 85) {
                auto const ttl = std::chrono::nanoseconds(1 + test::below(random, 5'000'000));
                std::uint64_t const value = random();
                cache.put(key, value, ttl);
                model[key] = {value, now + ttl};
            } else if (choice < 93) {
                cache.invalidate(key);
                model.erase(key);
            } else if (choice < 99) {
                test::cache_clock::advance(
                    std::chrono::nanoseconds(test::below(random, 1'000'000)));
            } else {
                cache.run_maintenance();
            }
        }
        CHECK(cache.statistics().hits == hits);
        CHECK(cache.statistics().misses == misses);
    }
}

TEST_CASE("what threads counted stays when they end, and the next cache does not have it",
          "[reading]") {
    asio::io_context io;
    auto const options = tidegate::cache_options<int, int>{}.max_entries(100);
    for (int round = 0; round < 3; ++round) {
        tidegate::cache<int, int> cache(io, options);
        cache.put(1, 10);
        static_cast<void>(cache.get_if_present(1));
        for (int t = 0; t < 4; ++t) {
            std::jthread([&] {
                for (int i = 0; i < 1000; ++i) static_cast<void>(cache.get_if_present(1));
                static_cast<void>(cache.get_if_present(2));
            }).join();
        }
        CHECK(cache.statistics().hits == 4001);
        CHECK(cache.statistics().misses == 4);
    }
}

TEST_CASE("what other threads use is not given up for what nobody uses twice", "[reading]") {
    asio::io_context io;
    tidegate::cache<int, int> cache(
        io, tidegate::cache_options<int, int>{}.max_entries(1000).shards(1));
    for (int i = 0; i < 500; ++i) cache.put(i, i);
    int scanned = 1000;
    for (int round = 0; round < 20; ++round) {
        std::jthread([&] {
            for (int i = 0; i < 500; ++i) static_cast<void>(cache.get_if_present(i));
        }).join();
        for (int i = 0; i < 400; ++i) cache.put(++scanned, 0);
    }
    int left = 0;
    for (int i = 0; i < 500; ++i) left += cache.peek(i).has_value();
    CHECK(left == 500);
}

TEST_CASE("keys whose hashes are all the same are told apart", "[reading]") {
    asio::io_context io;
    cache_with<int, same_hash<int>, std::equal_to<>> cache(
        io, tidegate::cache_options<int, int>{}.max_entries(300));
    for (int i = 0; i < 300; ++i) cache.put(i, i * 3);
    for (int i = 0; i < 300; ++i) CHECK(cache.get_if_present(i) == i * 3);
    CHECK_FALSE(cache.get_if_present(300));
    for (int i = 0; i < 300; i += 2) CHECK(cache.invalidate(i));
    for (int i = 0; i < 300; ++i) CHECK(cache.get_if_present(i).has_value() == (i % 2 == 1));
}

TEST_CASE("a hash or an equality that throws leaves the cache as it was", "[reading]") {
    asio::io_context io;
    auto const options = tidegate::cache_options<int, int>{}.max_entries(10);
    cache_with<int, picky_hash, std::equal_to<>> hashes(io, options);
    hashes.put(1, 10);
    CHECK_THROWS_AS(hashes.get_if_present(-1), std::runtime_error);
    CHECK_THROWS_AS(hashes.put(-1, 1), std::runtime_error);
    CHECK(hashes.get_if_present(1) == 10);
    CHECK(hashes.size() == 1);

    cache_with<int, same_hash<int>, picky_equal> compares(io, options);
    compares.put(1, 10);
    CHECK_THROWS_AS(compares.get_if_present(13), std::runtime_error);
    CHECK_THROWS_AS(compares.put(13, 1), std::runtime_error);
    CHECK_THROWS_AS(compares.invalidate(13), std::runtime_error);
    CHECK(compares.get_if_present(1) == 10);
    CHECK(compares.size() == 1);
}

TEST_CASE("a remembered nothing, a flag, a small struct and a narrow key are read as they were put",
          "[reading]") {
    asio::io_context io;
    struct three {
        char c;
        std::int32_t i;
        bool operator==(three const&) const = default;
    };
    tidegate::cache<char, three> narrow(io, tidegate::cache_options<char, three>{}.max_entries(8));
    narrow.put('a', {'x', -1});
    CHECK((narrow.get_if_present('a') == three{'x', -1}));
    tidegate::cache<double, bool> real(io, tidegate::cache_options<double, bool>{}.max_entries(8));
    real.put(0.0, true);
    CHECK(real.get_if_present(-0.0) == true);
    CHECK(real.get_if_present(0) == true); // compared, not copied
    CHECK_FALSE(real.get_if_present(std::numeric_limits<double>::quiet_NaN()));

    tidegate::cache<int, int> nothing(
        io, tidegate::cache_options<int, int>{}.max_entries(8).negative_time_to_live(1h));
    test::asking<int> asked;
    auto load = [](int) -> asio::awaitable<std::optional<int>> { co_return std::nullopt; };
    asked.ask(io, nothing, 1, load);
    io.run();
    REQUIRE(asked.done);
    CHECK_FALSE(nothing.get_if_present(1));
    CHECK(nothing.contains(1));
    nothing.put(1, 5);
    CHECK(nothing.get_if_present(1) == 5);
}

TEST_CASE("the count of a lock may wrap round", "[reading]") {
    sequence_lock lock(std::numeric_limits<std::uint64_t>::max() - 1);
    auto const before = lock.look();
    CHECK_FALSE(sequence_lock::is_held(before));
    CHECK(lock.is_still(before));
    lock.lock();
    CHECK(sequence_lock::is_held(lock.look()));
    CHECK_FALSE(lock.is_still(before));
    CHECK_FALSE(lock.try_lock());
    lock.unlock();
    CHECK(lock.look() == 0);
    CHECK_FALSE(lock.is_still(before));
    CHECK(lock.try_lock());
    lock.unlock();
    CHECK(lock.look() == 2);
}

TEST_CASE("a lock lets one in at a time, across the wrap of its count", "[reading]") {
    sequence_lock lock(std::numeric_limits<std::uint64_t>::max() - 20'001);
    int count = 0;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([&] {
                for (int i = 0; i < 10'000; ++i) {
                    lock.lock();
                    ++count;
                    lock.unlock();
                }
            });
        }
    }
    CHECK(count == 40'000);
}
