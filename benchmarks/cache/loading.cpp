// SPDX-License-Identifier: BSL-1.0
// What it costs to go through a cache from a coroutine, and what expiry costs its callers.
#include "bench.hpp"
#include "coroutines.hpp"
#include "small_stack.hpp"
#include "traces.hpp"

#include <tidegate/cache.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using numbers = tidegate::cache<std::uint64_t, std::uint64_t>;

tidegate::cache_options<std::uint64_t, std::uint64_t> up_to(std::size_t n) {
    return tidegate::cache_options<std::uint64_t, std::uint64_t>().max_entries(n).time_to_live(1h);
}

asio::awaitable<std::uint64_t> ready_child(std::uint64_t v) { co_return v; }
asio::awaitable<std::uint64_t> load(std::uint64_t key) { co_return key; }

asio::awaitable<void> await_ready_child(run& r) {
    while (r.more()) benchmark::DoNotOptimize(co_await ready_child(1));
}

asio::awaitable<void> await_hit(run& r, numbers& cache) {
    while (r.more()) {
        auto const value = co_await cache.get_or_load(std::uint64_t{1}, load);
        benchmark::DoNotOptimize(*value);
    }
}

asio::awaitable<std::vector<std::uint64_t>> load_all(std::vector<std::uint64_t> const& keys) {
    co_return keys;
}

asio::awaitable<void> await_hits_together(run& r, numbers& cache) {
    std::vector<std::uint64_t> keys(64);
    std::iota(keys.begin(), keys.end(), std::uint64_t{0});
    while (r.more()) {
        auto const values = co_await cache.get_or_load_all(keys, load_all);
        benchmark::DoNotOptimize(values.data());
    }
}

asio::awaitable<void> await_hits_one_by_one(run& r, numbers& cache) {
    while (r.more()) {
        for (std::uint64_t key = 0; key < 64; ++key) {
            auto const value = co_await cache.get_or_load(key, load);
            benchmark::DoNotOptimize(*value);
        }
    }
}

asio::awaitable<void> hit_ten_million(numbers& cache, std::uint64_t& hits) {
    for (int i = 0; i < 10'000'000; ++i) {
        auto const value = co_await cache.get_or_load(std::uint64_t{1}, load);
        hits += *value;
    }
}

group const hits{[] {
    row("await_hit/ready_child", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, await_ready_child(r));
    });
    row("await_hit/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        numbers cache(context, up_to(1000));
        cache.put(1, 1);
        drive(context, await_hit(r, cache));
    });
    claim("await_hit", ratio_of("await_hit/tidegate", "await_hit/ready_child"), at_most(3));
    claim("await_hit_allocations", allocations_of("await_hit/tidegate"), at_most(0));

    // 64 keys that are all there, together and one by one.
    row("await_64_hits/together", cpu_time, [](run& r) {
        asio::io_context context{1};
        numbers cache(context, up_to(1000));
        for (std::uint64_t i = 0; i < 64; ++i) cache.put(i, i);
        drive(context, await_hits_together(r, cache));
    });
    row("await_64_hits/one_by_one", cpu_time, [](run& r) {
        asio::io_context context{1};
        numbers cache(context, up_to(1000));
        for (std::uint64_t i = 0; i < 64; ++i) cache.put(i, i);
        drive(context, await_hits_one_by_one(r, cache));
    });
    claim("await_64_hits", ratio_of("await_64_hits/together", "await_64_hits/one_by_one"),
          at_most(0.8));

    row("ten_million_hits_on_small_stack/tidegate", wall_time,
        [](run& r) {
            r.skip_warm_up();
            std::uint64_t counted = 0;
            while (r.more()) {
                on_a_stack_of(256 * 1024, [&] {
                    asio::io_context context{1};
                    numbers cache(context, up_to(1000));
                    cache.put(1, 1);
                    drive(context, hit_ten_million(cache, counted));
                });
            }
            r.report("millions", static_cast<double>(counted) / 1e6);
        })
        ->Iterations(1)
        ->Repetitions(1);
    claim("ten_million_hits_on_small_stack",
          counter_of("ten_million_hits_on_small_stack/tidegate", "millions"), at_least(10));
}};

// 10,000 callers who wait for one load; the time is that of one of them, from the moment when the
// value is there.

constexpr int callers = 10'000;

asio::awaitable<void> ask(numbers& cache, std::uint64_t key, asio::steady_timer& loading,
                          std::uint64_t& sum) {
    auto slow = [&loading](std::uint64_t k) -> asio::awaitable<std::uint64_t> {
        boost::system::error_code ec;
        co_await loading.async_wait(asio::redirect_error(asio::deferred, ec));
        co_return k;
    };
    auto const value = co_await cache.get_or_load(key, slow);
    sum += *value;
}

asio::awaitable<void> wait(asio::steady_timer& broadcast, std::uint64_t& sum) {
    boost::system::error_code ec;
    co_await broadcast.async_wait(asio::redirect_error(asio::deferred, ec));
    ++sum;
}

group const waking{[] {
    row("wake_10000/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        numbers cache(context, up_to(1000));
        asio::steady_timer loading(context);
        std::uint64_t key = 0, sum = 0;
        while (r.more(callers)) {
            r.pause();
            loading.expires_at(asio::steady_timer::time_point::max());
            ++key;
            for (int i = 0; i < callers; ++i) start(context, ask(cache, key, loading, sum));
            context.restart();
            context.poll();
            r.resume();
            loading.cancel();
            context.restart();
            context.poll();
        }
        benchmark::DoNotOptimize(sum);
    });
    row("wake_10000/steady_timer", cpu_time, [](run& r) {
        asio::io_context context{1};
        asio::steady_timer broadcast(context);
        std::uint64_t sum = 0;
        while (r.more(callers)) {
            r.pause();
            broadcast.expires_at(asio::steady_timer::time_point::max());
            for (int i = 0; i < callers; ++i) start(context, wait(broadcast, sum));
            context.restart();
            context.poll();
            r.resume();
            broadcast.cancel();
            context.restart();
            context.poll();
        }
        benchmark::DoNotOptimize(sum);
    });
    claim("wake_10000", ratio_of("wake_10000/tidegate", "wake_10000/steady_timer"), at_most(2.5));
}};

// A million entries whose time is over at once: how long the calls after it take.

group const expiring{[] {
    row("million_expire_together/tidegate", wall_time,
        [](run& r) {
            constexpr std::uint64_t million = 1'000'000;
            r.skip_warm_up();
            while (r.more()) {
                asio::io_context context;
                numbers cache(context, up_to(million));
                auto const end = std::chrono::steady_clock::now() + 2s;
                for (std::uint64_t i = 0; i < million; ++i) {
                    cache.put(i, i, end - std::chrono::steady_clock::now());
                }
                std::this_thread::sleep_until(end + 5ms);
                std::vector<double> microseconds;
                microseconds.reserve(million);
                for (std::uint64_t i = 0; i < million; ++i) {
                    auto const begin = std::chrono::steady_clock::now();
                    if (i % 2) cache.put(million + i, i);
                    else benchmark::DoNotOptimize(cache.get_if_present(i));
                    microseconds.push_back(std::chrono::duration<double, std::micro>(
                                               std::chrono::steady_clock::now() - begin)
                                               .count());
                }
                auto const at =
                    microseconds.begin() + static_cast<std::ptrdiff_t>(million * 999 / 1000);
                std::nth_element(microseconds.begin(), at, microseconds.end());
                r.report("p999_us", *at);
                r.report("expired", static_cast<double>(cache.statistics().expired));
            }
        })
        ->Iterations(1)
        ->Repetitions(3);
    claim("million_expire_together_p999_us",
          counter_of("million_expire_together/tidegate", "p999_us"), at_most(200));
}};

} // namespace
