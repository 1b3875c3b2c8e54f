// SPDX-License-Identifier: BSL-1.0
// What batching costs an item, and how late a batch starts.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/batcher.hpp>
#include <tidegate/core/histogram.hpp>

#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

constexpr std::size_t batch = 16;

std::vector<int> echo(std::span<int> items) { return {items.begin(), items.end()}; }

// Coroutines that submit again and again, enough for neither thread to run out of work: what is
// measured is the work, and not how long threads take to wake. Batches of 16, with a delay, so that
// a timer is needed.

constexpr int callers = 512;

template <class Batcher>
asio::awaitable<void> submit_items(run& r, Batcher& batcher) {
    int item = 0;
    while (r.more()) benchmark::DoNotOptimize(co_await batcher.submit(++item));
}

// What is allocated from the start of one batch to that of another, many later: which items belong
// to a time measured is not so clear, with hundreds in flight at its ends.
class allocations_between_batches {
public:
    void batch_starts() {
        if (++batches_ % 256 != 0) return;
        auto const now = allocations_so_far();
        if (batches_ == 256) first_ = now;
        last_ = now;
    }
    double each() const {
        auto const whole = batches_ / 256 * 256 - 256;
        return static_cast<double>(last_ - first_) / static_cast<double>(std::max(1, whole));
    }

private:
    int batches_ = 0;
    std::int64_t first_ = 0;
    std::int64_t last_ = 0;
};

void items_in_batches(run& r, std::chrono::nanoseconds delay) {
    asio::io_context context{1};
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
    auto const settings = tidegate::batcher_options().max_size(batch).max_delay(delay);
    allocations_between_batches allocations; // used by the one worker until the pool ends
    auto const count_and_echo = [&](std::span<int> items) {
        allocations.batch_starts();
        return echo(items);
    };
    tidegate::batcher<int, int> batcher(pool, settings, count_and_echo);
    for (int i = 0; i < callers; ++i) start(context, submit_items(r, batcher));
    context.run();
    r.report("mean_size", batcher.statistics().mean_size());
    r.report("allocations_a_batch", allocations.each());
}

void items_by_key(run& r) {
    asio::io_context context{1};
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
    auto const settings = tidegate::batcher_options().max_size(batch).max_delay(1ms);
    auto key = [](int item) { return item % 2; };
    tidegate::batcher<int, int> batcher(pool, settings, &echo, key);
    for (int i = 0; i < callers; ++i) start(context, submit_items(r, batcher));
    context.run();
}

// What a timer of its own would cost each item, before anything else is done for it.
void timer_an_item(run& r) {
    asio::io_context context{1};
    asio::steady_timer other(context, 1h); // so that the one measured is not the earliest
    other.async_wait([](auto) {});
    asio::steady_timer timer(context);
    while (r.more()) {
        timer.expires_after(2h);
        timer.async_wait([](auto) {});
        timer.cancel();
        context.poll();
    }
}

// The same with the earliest timer of its context, which is set by a system call.
void earliest_timer_an_item(run& r) {
    asio::io_context context{1};
    asio::steady_timer timer(context);
    while (r.more()) {
        timer.expires_after(1h);
        timer.async_wait([](auto) {});
        timer.cancel();
        context.poll();
    }
}

group const cost{[] {
    // With the pool's thread, which runs the batches.
    row("batch_16/tidegate", cpu_time, [](run& r) {
        items_in_batches(r, 1ms);
    })->MeasureProcessCPUTime();
    row("batch_16/tidegate_no_delay", cpu_time, [](run& r) {
        items_in_batches(r, 0ms);
    })->MeasureProcessCPUTime();
    row("batch_16/tidegate_two_keys", cpu_time, items_by_key)->MeasureProcessCPUTime();
    row("batch_16/timer", cpu_time, timer_an_item);
    row("batch_16/earliest_timer", cpu_time, earliest_timer_an_item);
    claim("batcher_item", ratio_of("batch_16/tidegate", "batch_16/timer"), at_most(0.7));
    claim("batcher_item_against_earliest_timer",
          ratio_of("batch_16/tidegate", "batch_16/earliest_timer"), at_most(0.7));
    claim("batcher_allocations_a_batch", counter_of("batch_16/tidegate", "allocations_a_batch"),
          at_most(1));
}};

// Items that come one by one into batches that never fill: each is due after the delay.

constexpr auto max_delay = 5ms;

void queueing(run& r) {
    asio::io_context context{1};
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
    tidegate::core::histogram waited; // used by the one worker until the pool ends
    auto const note = [&](std::span<steady::time_point> items) {
        auto const now = steady::now();
        for (auto const came : items) {
            waited.record(static_cast<std::uint64_t>((now - came) / 1ns));
        }
        return std::vector<int>(items.size());
    };
    {
        auto const settings = tidegate::batcher_options().max_size(1024).max_delay(max_delay);
        tidegate::batcher<steady::time_point, int> batcher(pool, settings, note);
        r.skip_warm_up();
        while (r.more(1000)) {
            auto submit = [&]() -> asio::awaitable<void> {
                asio::steady_timer next(context);
                for (int i = 0; i < 1000; ++i) {
                    batcher.async_submit(steady::now(), [](std::exception_ptr, int) {});
                    next.expires_after(500us);
                    co_await next.async_wait(asio::deferred);
                }
            };
            start(context, submit());
            context.restart();
            context.run();
        }
    }
    r.report("p99_over_delay_ms", waited.percentile(0.99) / 1e6 -
                                      std::chrono::duration<double, std::milli>(max_delay).count());
}

group const delay{[] {
    row("queueing/tidegate", wall_time, queueing)->Iterations(1000)->Repetitions(3);
    claim("batcher_p99_over_delay_ms", most_of("queueing/tidegate", "p99_over_delay_ms"),
          at_most(2));
}};

} // namespace
