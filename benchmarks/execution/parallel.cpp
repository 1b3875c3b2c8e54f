// SPDX-License-Identifier: BSL-1.0
// 1000 items of one post each, 8 in flight; the time is that of one item.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/parallel.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstddef>
#include <ranges>
#include <vector>

namespace {

using namespace bench;

constexpr int items = 1000;
constexpr int in_flight = 8;

asio::awaitable<int> item(int i) {
    co_await asio::post(asio::deferred);
    co_return i;
}

asio::awaitable<void> map_items(run& r) {
    auto f = [](int i) { return item(i); };
    while (r.more(items)) {
        auto const results =
            co_await tidegate::parallel_map(std::views::iota(0, items), in_flight, f);
        benchmark::DoNotOptimize(results.data());
    }
}

asio::awaitable<void> each_item(run& r) {
    auto f = [](int) -> asio::awaitable<void> { co_await asio::post(asio::deferred); };
    while (r.more(items)) {
        co_await tidegate::parallel_for_each(std::views::iota(0, items), in_flight, f);
    }
}

// What people write who know exactly how many there are, that none fails and nobody cancels.
struct by_hand {
    std::vector<int> results = std::vector<int>(items);
    int next = 0;
    int left = in_flight;
};

asio::awaitable<void> work_by_hand(by_hand& all) {
    while (all.next < items) {
        int const i = all.next++;
        all.results[static_cast<std::size_t>(i)] = co_await item(i);
    }
}

asio::awaitable<void> workers_by_hand(run& r) {
    auto const executor = co_await asio::this_coro::executor;
    while (r.more(items)) {
        by_hand all;
        asio::steady_timer done(executor, asio::steady_timer::time_point::max());
        for (int i = 0; i < in_flight; ++i) {
            asio::co_spawn(executor, work_by_hand(all), [&](std::exception_ptr) {
                if (--all.left == 0) done.cancel();
            });
        }
        co_await done.async_wait(asio::as_tuple(asio::deferred));
        benchmark::DoNotOptimize(all.results.data());
    }
}

// `start(i)` is an operation that has not been started.
template <class Start>
asio::awaitable<void> groups_of_eight(run& r, Start start) {
    while (r.more(items)) {
        for (int begin = 0; begin < items; begin += in_flight) {
            std::vector<decltype(start(0))> chunk;
            for (int i = 0; i < in_flight; ++i) chunk.push_back(start(begin + i));
            auto group = asio::experimental::make_parallel_group(std::move(chunk));
            auto waiting = group.async_wait(asio::experimental::wait_for_all(), asio::deferred);
            auto const completed = co_await std::move(waiting);
            benchmark::DoNotOptimize(&completed);
        }
    }
}

asio::awaitable<void> groups_of_items(run& r) {
    auto const executor = co_await asio::this_coro::executor;
    auto start = [&](int i) { return asio::co_spawn(executor, item(i), asio::deferred); };
    co_await groups_of_eight(r, start);
}

// Without the coroutine and its result, which all others have.
asio::awaitable<void> groups_of_posts(run& r) {
    auto const executor = co_await asio::this_coro::executor;
    auto start = [&](int) { return asio::post(executor, asio::deferred); };
    co_await groups_of_eight(r, start);
}

template <asio::awaitable<void> (*body)(run&)>
void on_one_thread(run& r) {
    asio::io_context context{1};
    drive(context, body(r));
}

// Its hint does not say that there will be one thread only: every worker has a strand.
void on_any_threads(run& r) {
    asio::io_context context;
    drive(context, map_items(r));
}

group const parallel{[] {
    row("parallel_1000/tidegate", cpu_time, on_one_thread<map_items>);
    row("parallel_1000/tidegate_for_each", cpu_time, on_one_thread<each_item>);
    row("parallel_1000/tidegate_on_strands", cpu_time, on_any_threads);
    row("parallel_1000/by_hand", cpu_time, on_one_thread<workers_by_hand>);
    row("parallel_1000/parallel_group", cpu_time, on_one_thread<groups_of_items>);
    row("parallel_1000/parallel_group_of_posts", cpu_time, on_one_thread<groups_of_posts>);
    claim("parallel_map", ratio_of("parallel_1000/tidegate", "parallel_1000/by_hand"),
          at_most(1.15));
    claim("parallel_map_against_group",
          ratio_of("parallel_1000/tidegate", "parallel_1000/parallel_group"), at_most(0.35));
    claim("parallel_map_allocations", allocations_of("parallel_1000/tidegate"), at_most(0.1));
}};

} // namespace
