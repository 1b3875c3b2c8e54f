// SPDX-License-Identifier: BSL-1.0
// All of core/, compiled with -fno-rtti and without Boost, at work.
#include <tidegate/core/ageing.hpp>
#include <tidegate/core/backoff.hpp>
#include <tidegate/core/batch_rule.hpp>
#include <tidegate/core/cache/adaptive.hpp>
#include <tidegate/core/cache/lfu.hpp>
#include <tidegate/core/cache/lru.hpp>
#include <tidegate/core/cache/soonest_expiry.hpp>
#include <tidegate/core/cache/store.hpp>
#include <tidegate/core/circuit_breaker.hpp>
#include <tidegate/core/concurrency_limit.hpp>
#include <tidegate/core/histogram.hpp>
#include <tidegate/core/latency_baseline.hpp>
#include <tidegate/core/line_pace.hpp>
#include <tidegate/core/queue_delay.hpp>
#include <tidegate/core/sliding_windows.hpp>
#include <tidegate/core/token_bucket.hpp>

#include <chrono>
#include <cstdio>
#include <functional>
#include <stdexcept>

namespace core = tidegate::core;
using namespace std::chrono_literals;

namespace {

bool limits() {
    core::token_bucket bucket(1, 1s, 2, 0);
    return bucket.take(2, 0) && !bucket.take(1, 0) && bucket.take(1, 1'000'000'000);
}

bool counts() {
    core::histogram latencies;
    for (std::uint64_t ns = 1; ns <= 1000; ++ns) latencies.record(ns);
    core::time_window window(1000, 10);
    window.record(5, true, false);
    return latencies.count() == 1000 && latencies.max() == 1000 && window.counts(5).failures == 1;
}

bool keeps() {
    core::store_features features;
    features.max_entries = 1;
    core::cache_store<int, int, core::adaptive_eviction> store(1, features, 0);
    auto const dropped = [](int&&, int&&, bool, tidegate::removal_cause) noexcept {};
    store.insert({7, 1, 10, false, 1, store.never, {}}, 0, dropped);
    auto const id = store.find(7, 1, std::equal_to<>());
    return id != core::no_entry && store.value(id) == 10;
}

bool refuses_options() {
    try {
        tidegate::detail::check_option<int>("places", 0, 1, 9);
    } catch (std::invalid_argument const& e) {
        std::puts(e.what());
        return true;
    }
    return false;
}

} // namespace

int main() { return limits() && counts() && keeps() && refuses_options() ? 0 : 1; }
