// SPDX-License-Identifier: BSL-1.0
// What a cache does without when memory ends.
#include "cache/support.hpp"

#include "support/counting_new.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::cache;
using tidegate::cache_options;
using tidegate::removal_cause;

TEST_CASE("a thread that has no memory for reading beside others reads all the same") {
    asio::io_context io;
    cache<int, int> numbers(io, cache_options<int, int>().max_entries(10));
    numbers.put(1, 10);
    bool refused = false;
    int got = 0, missing = 1;
    std::thread([&] { // one that has read nothing yet
        test::fail_allocation(1);
        got = numbers.get_if_present(1).value_or(0);
        refused = test::until_failure() == 0;
        test::fail_allocation(1);
        missing = numbers.get_if_present(2).value_or(0);
        test::fail_allocation(0);
    })
        .join();
    CHECK(refused);
    CHECK(got == 10);
    CHECK(missing == 0);
    auto const counted = numbers.statistics();
    CHECK(counted.hits == 1);
    CHECK(counted.misses == 1);
}

TEST_CASE("where memory ends what is put in is maintained from the next put on") {
    using ints = test::timed_cache<int, int>;
    using test::cache_clock;
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io;
        ints numbers(io, cache_options<int, int>()
                             .max_entries(10)
                             .time_to_live(std::chrono::seconds(10))
                             .maintain_every(std::chrono::seconds(2)));
        auto const pass = [&](std::chrono::seconds time) {
            for (; time.count() > 0; --time) {
                cache_clock::advance(std::chrono::seconds(1));
                io.restart();
                io.poll();
            }
        };
        test::fail_allocation(n);
        try {
            numbers.put(1, 1);
            pass(std::chrono::seconds(4));
        } catch (std::bad_alloc const&) {
            CHECK(numbers.statistics().entries <= 1);
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        numbers.put(2, 2);
        pass(std::chrono::seconds(20));
        CHECK(numbers.statistics().entries == 0);
    }
}

TEST_CASE("removals are counted, and happen, also when there is no memory to tell of them") {
    bool failed = true, untold = false;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io;
        std::size_t told = 0;
        auto const weigh = [](int, int weight) { return static_cast<std::uint64_t>(weight); };
        cache<int, int> numbers(
            io, cache_options<int, int>().max_weight(20, weigh).on_removal(
                    [&](int, tidegate::shared_value<int> const&, removal_cause) { ++told; }));
        for (int i = 0; i < 10; ++i) numbers.put(i, 2);
        test::fail_allocation(n);
        bool thrown = false;
        try {
            numbers.put(99, 20); // in the place of all others
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        auto const counted = numbers.statistics();
        CHECK(counted.evicted + counted.entries == (thrown ? 10u : 11u));
        CHECK(counted.weight <= 20);
        CHECK(told <= counted.evicted);
        CHECK((failed || told == counted.evicted));
        untold = untold || told < counted.evicted;
    }
    CHECK(untold);
}

TEMPLATE_TEST_CASE("a put that finds no memory leaves the value that is there, and what all weigh",
                   "", tidegate::eviction::adaptive, tidegate::eviction::lru,
                   tidegate::eviction::lfu, tidegate::eviction::soonest_expiry) {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io;
        auto const weigh = [](int, int weight) { return static_cast<std::uint64_t>(weight); };
        test::timed_cache<int, int, TestType> numbers(
            io,
            cache_options<int, int>().max_weight(100, weigh).time_to_live(std::chrono::hours(1)));
        for (int i = 0; i < 6; ++i) numbers.put(i, i == 0 ? 1 : 10);
        test::cache_clock::advance(std::chrono::seconds(1)); // so that it expires last
        test::fail_allocation(n);
        bool thrown = false;
        try {
            numbers.put(0, 100); // instead of all others
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK(numbers.peek(0) == (thrown ? 1 : 100));
        std::uint64_t sum = 0;
        for (int i = 0; i < 6; ++i) sum += static_cast<std::uint64_t>(numbers.peek(i).value_or(0));
        CHECK(numbers.statistics().weight == sum);
        CHECK(sum <= 100);
    }
}

TEST_CASE("looking up what was counted most often does without memory") {
    asio::io_context io;
    cache<int, int, tidegate::eviction::lfu> numbers(io, cache_options<int, int>().max_entries(3));
    for (int i = 0; i < 3; ++i) numbers.put(i, i + 10);
    auto const get = [&](int key) {
        test::fail_allocation(1);
        int const got = numbers.get_if_present(key).value_or(0);
        bool const asked = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK(got == key + 10);
        return asked;
    };
    // It takes a place of its own among the counts, which is not there yet.
    bool asked = false;
    for (int i = 0; i < 3; ++i) asked = get(i) || asked;
    CHECK(asked);
    // From its own place on it only counts further.
    REQUIRE(numbers.get_if_present(2) == 12);
    for (int i = 0; i < 10; ++i) CHECK_FALSE(get(2));
    CHECK(numbers.hottest_keys(1) == std::vector<int>{2});
    numbers.put(7, 17);
    CHECK(numbers.contains(2));
}

TEST_CASE("a put that finds no memory tells what it gave up before") {
    bool failed = true, vain = false;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io;
        std::vector<int> told;
        told.reserve(8);
        test::timed_cache<int, int, tidegate::eviction::lfu> numbers(
            io, cache_options<int, int>().max_entries(4).on_removal(
                    [&](int key, tidegate::shared_value<int> const&, removal_cause) {
                        told.push_back(key);
                    }));
        for (int i = 0; i < 4; ++i) numbers.put(i, i);
        // Used once or twice, so that what is new, and not used at all, is counted anew.
        for (int const i : {0, 1, 2, 3, 2, 3}) REQUIRE(numbers.get_if_present(i) == i);
        test::fail_allocation(n);
        bool thrown = false;
        try {
            numbers.put(4, 4);
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        auto const counted = numbers.statistics();
        CHECK(told.size() == counted.evicted);
        CHECK(counted.evicted + counted.entries == (thrown ? 4u : 5u));
        vain = vain || (thrown && !told.empty());
    }
    CHECK(vain);
}

TEST_CASE(
    "a load that ends without memory fails its caller, or is not kept, and the next succeeds") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io{1};
        test::timed_cache<int, std::vector<int>> lists(
            io, cache_options<int, std::vector<int>>().max_entries(10));
        std::size_t left = n;
        auto load = [&](int key) -> asio::awaitable<std::vector<int>> {
            std::vector<int> const list(100, key);
            test::fail_allocation(std::exchange(left, 0)); // copying it may be the first
            co_return list;
        };
        std::optional<bool> first;
        auto get = [&]() -> asio::awaitable<std::size_t> {
            auto const got = co_await lists.get_or_load(1, load);
            co_return got->size();
        };
        asio::co_spawn(io, get(), [&](std::exception_ptr e, std::size_t size) {
            failed = test::until_failure() == 0;
            test::fail_allocation(0);
            first = !e && size == 100;
        });
        io.run();
        test::fail_allocation(0);
        REQUIRE(first.has_value());
        CHECK((*first || failed));
        bool second = false;
        asio::co_spawn(io, get(),
                       [&](std::exception_ptr e, std::size_t size) { second = !e && size == 100; });
        io.restart();
        io.run();
        CHECK(second);
        CHECK(lists.contains(1));
    }
}
