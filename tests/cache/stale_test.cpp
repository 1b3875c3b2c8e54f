// SPDX-License-Identifier: BSL-1.0
// What is stale: who gets it, and how often it is tried to load it anew.
#include "cache/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::asking;
using test::cache_clock;
using tidegate::cache_options;

namespace {

using ints = test::timed_cache<int, int>;

cache_options<int, int> living(std::chrono::nanoseconds time) {
    return cache_options<int, int>{}.max_entries(10).time_to_live(time);
}

// A backend that fails at once.
struct broken {
    int loads = 0;

    asio::awaitable<int> operator()(int) {
        ++loads;
        throw std::domain_error("loader");
        co_return 0;
    }
};

// What a caller gets; nothing if it is a failure.
tidegate::shared_value<int> ask(asio::io_context& io, ints& cache, broken& load) {
    asking<int> one;
    auto by_ref = std::ref(load);
    one.ask(io, cache, 1, by_ref);
    io.restart();
    io.poll();
    CHECK(one.done);
    return one.value;
}

int lost_in(asio::io_context& io, ints& cache, broken& load, std::chrono::milliseconds time) {
    int lost = 0;
    for (; time > 0ms; time -= 10ms) {
        lost += ask(io, cache, load) != 7;
        cache_clock::advance(10ms);
    }
    return lost;
}

} // namespace

TEST_CASE("a value that is used while it is loaded again is tried once a throttle") {
    asio::io_context io;
    broken load;
    SECTION("a second") {
        ints cache(io, living(5s).stale_while_revalidate(10s));
        cache.put(1, 7);
        cache_clock::advance(5s);
        CHECK(lost_in(io, cache, load, 1s) == 0);
        CHECK(load.loads == 1);
        CHECK(lost_in(io, cache, load, 1s) == 0);
        CHECK(load.loads == 2);
        cache_clock::advance(8s); // its time is over for good
        CHECK_FALSE(ask(io, cache, load));
    }
    SECTION("or another time, also where it had been refreshed before") {
        ints cache(
            io, living(5s).refresh_after(4s).stale_while_revalidate(10s).stale_if_error(20s, 2s));
        cache.put(1, 7);
        cache_clock::advance(4s);
        CHECK(lost_in(io, cache, load, 2s) == 0);
        CHECK(load.loads == 1);
        CHECK(lost_in(io, cache, load, 18s) == 0);
        CHECK(load.loads == 10);
    }
}

TEST_CASE("what is stale is there for those alone who would load it, a failure or not") {
    asio::io_context io;
    broken load;
    ints cache(io, living(5s).stale_if_error(60s));
    cache.put(1, 7);
    cache_clock::advance(5s);
    CHECK(ask(io, cache, load) == 7);
    CHECK(ask(io, cache, load) == 7);
    CHECK(load.loads == 1);
    CHECK_FALSE(cache.get_if_present(1));
    CHECK_FALSE(cache.get_if_present(1, cache_clock::now()));
    CHECK_FALSE(cache.peek(1));
    CHECK_FALSE(cache.contains(1));
    CHECK(cache.statistics().hits == 0);
    CHECK(cache.statistics().misses == 4);
    CHECK(cache.put_if_absent(1, 8));
    CHECK(cache.get_if_present(1) == 8);
}

TEST_CASE("what is used often enough is stale after its time to live, and tried once a throttle") {
    asio::io_context io;
    broken load;
    ints cache(io, living(10s).time_to_idle(3s).stale_if_error(60s, 2s));
    cache.put(1, 7);
    for (int i = 0; i < 4; ++i) {
        cache_clock::advance(2s);
        CHECK(cache.get_if_present(1) == 7);
    }
    cache_clock::advance(2s);
    CHECK(lost_in(io, cache, load, 4s) == 0);
    CHECK(load.loads == 2);
}

TEST_CASE("what nobody used for too long is gone, and never stale") {
    asio::io_context io;
    broken load;
    ints cache(io, living(10s).time_to_idle(3s).stale_while_revalidate(60s).stale_if_error(60s));
    cache.put(1, 7);
    cache_clock::advance(3s);
    SECTION("within its time to live") { CHECK_FALSE(ask(io, cache, load)); }
    SECTION("after it") {
        cache_clock::advance(8s);
        CHECK_FALSE(ask(io, cache, load));
    }
    SECTION("and its room is given back") {
        cache_clock::advance(1s);
        cache.run_maintenance();
        CHECK(cache.size() == 0);
    }
}
