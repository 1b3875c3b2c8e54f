// SPDX-License-Identifier: BSL-1.0
// Counting for Prometheus, on one thread and beside a second one that counts the same.
#include "bench.hpp"
#include "rival_thread.hpp"

#include <prometheus/counter.h>
#include <tidegate/metrics.hpp>

#include <atomic>
#include <cstdint>

namespace {

using namespace bench;

struct tidegate_counter {
    tidegate::metrics_registry registry;
    tidegate::metric_counter& counter = registry.counter("requests", "Requests");
    void count() { counter.increment(); }
};

struct prometheus_counter {
    prometheus::Counter counter;
    void count() { counter.Increment(); }
};

struct shared_atomic {
    std::atomic<std::uint64_t> counter{0};
    void count() { counter.fetch_add(1, std::memory_order_relaxed); }
};

template <class Counter>
void count(run& r) {
    Counter counter;
    while (r.more()) {
        counter.count();
        benchmark::ClobberMemory();
    }
}

template <class Counter>
void count_2_threads(run& r) {
    Counter counter;
    rival_thread const rival([&counter] { counter.count(); });
    while (r.more()) {
        counter.count();
        benchmark::ClobberMemory();
    }
}

group const counters{[] {
    row("count/tidegate", cpu_time, count<tidegate_counter>);
    row("count/prometheus", cpu_time, count<prometheus_counter>);
    row("count/shared_atomic", cpu_time, count<shared_atomic>);
    row("count_2_threads/tidegate", wall_time, count_2_threads<tidegate_counter>);
    row("count_2_threads/prometheus", wall_time, count_2_threads<prometheus_counter>);
    row("count_2_threads/shared_atomic", wall_time, count_2_threads<shared_atomic>);
    claim("metric_count", ratio_of("count/tidegate", "count/shared_atomic"), at_most(1));
    claim("metric_count_2_threads",
          ratio_of("count_2_threads/tidegate", "count_2_threads/prometheus"), at_most(0.5));
    claim("metric_count_allocations", allocations_of("count/tidegate"), at_most(0));
}};

} // namespace
