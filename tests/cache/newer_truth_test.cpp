// SPDX-License-Identifier: BSL-1.0
// What a load found is the newer truth, also if there is nothing to keep of it.
#include "cache/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::asking;
using test::cache_clock;
using test::gate;
using tidegate::cache_options;
using tidegate::loaded;
using tidegate::removal_cause;

namespace {

using ints = test::timed_cache<int, int>;

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

loaded<int> nothing_to_keep(bool there) {
    return there ? loaded<int>(8).do_not_store() : loaded<int>::none();
}

} // namespace

TEST_CASE("a refresh that finds nothing to keep removes the old value") {
    asio::io_context io;
    std::vector<removal_cause> left;
    ints cache(
        io,
        cache_options<int, int>{}.max_entries(10).time_to_live(1h).refresh_after(1min).on_removal(
            [&](int, auto const&, removal_cause c) { left.push_back(c); }));
    gate g(io);
    int loads = 0;
    bool const there = GENERATE(false, true);
    auto load = [&](int) -> asio::awaitable<loaded<int>> {
        ++loads;
        co_await g.pass();
        co_return nothing_to_keep(there);
    };
    cache.put(1, 7);
    cache_clock::advance(1min);
    asking<int> refreshing, after;
    refreshing.ask(io, cache, 1, load);
    run(io);
    CHECK(refreshing.value == 7);
    CHECK(loads == 1);
    SECTION("at once") {
        g.open();
        run(io);
        CHECK_FALSE(cache.contains(1));
        CHECK(left == std::vector{removal_cause::replaced});
        CHECK(cache.statistics().replaced == 1);
        after.ask(io, cache, 1, load);
        run(io);
        CHECK(after.value == (there ? std::optional(8) : std::nullopt));
        CHECK(loads == 2);
    }
    SECTION("unless a newer one was put meanwhile") {
        cache.put(1, 9);
        g.open();
        run(io);
        CHECK(cache.get_if_present(1) == 9);
    }
}

TEST_CASE("so does a refresh of several keys, but for those that fail") {
    asio::io_context io;
    auto load = [](std::vector<int> const& keys)
        -> asio::awaitable<std::vector<tidegate::outcome<loaded<int>>>> {
        std::vector<tidegate::outcome<loaded<int>>> all(keys.size());
        for (std::size_t i = 0; i < keys.size(); ++i) {
            if (keys[i] == 3) all[i].fail(asio::error::host_not_found);
            else all[i].succeed(nothing_to_keep(keys[i] == 2));
        }
        co_return all;
    };
    auto options = cache_options<int, int>{}.max_entries(10).time_to_live(1h).refresh_after(1min);
    bool const together = GENERATE(false, true);
    if (together) options.refresh_together(3, 1s, load);
    ints cache(io, options);
    std::vector<int> const keys{1, 2, 3};
    for (int const k : keys) cache.put(k, k * 10);
    cache_clock::advance(1min);
    std::vector<tidegate::shared_value<int>> got;
    auto ask = [&]() -> asio::awaitable<void> { got = co_await cache.get_or_load_all(keys, load); };
    asio::co_spawn(io, ask(), asio::detached);
    run(io);
    CHECK(got == std::vector<tidegate::shared_value<int>>{10, 20, 30});
    CHECK_FALSE(cache.contains(1));
    CHECK_FALSE(cache.contains(2));
    CHECK(cache.get_if_present(3) == 30);
}
