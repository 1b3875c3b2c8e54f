// SPDX-License-Identifier: BSL-1.0
// What trace hooks are paid for in: included by a source file with them and by one without, whose
// primitives are different types.
#pragma once

#include "bench.hpp"

#include <tidegate/cache.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <string>

namespace {

namespace asio = boost::asio;
using namespace bench;
using namespace std::chrono_literals;

// Told to no observer, unless `prepare(primitive)` attaches one.
template <class Prepare>
void take_and_give_back(run& r, Prepare prepare) {
    asio::io_context context{1};
    tidegate::semaphore slots(context, 2);
    prepare(slots);
    while (r.more()) {
        auto held = slots.try_acquire();
        benchmark::DoNotOptimize(held);
    }
}

template <class Prepare>
void be_refused(run& r, Prepare prepare) {
    asio::io_context context{1};
    tidegate::rate_limiter limiter(context, tidegate::rate_limiter_options().rate(1, 24h));
    prepare(limiter);
    auto const now = std::chrono::steady_clock::now();
    while (r.more()) {
        auto decision = limiter.try_acquire(1, now);
        benchmark::DoNotOptimize(decision);
    }
}

template <class Prepare>
void hit(run& r, Prepare prepare) {
    asio::io_context context{1};
    tidegate::cache<int, int> numbers(context, tidegate::cache_options<int, int>().max_entries(64));
    numbers.put(1, 1);
    prepare(numbers);
    while (r.more()) {
        auto found = numbers.get_if_present(1);
        benchmark::DoNotOptimize(found);
    }
}

// "trace_semaphore/<who>" and so on.
template <class Prepare>
void trace_rows(std::string const& who, Prepare prepare) {
    row("trace_semaphore/" + who, cpu_time, [=](run& r) { take_and_give_back(r, prepare); });
    row("trace_rate_refusal/" + who, cpu_time, [=](run& r) { be_refused(r, prepare); });
    row("trace_cache_hit/" + who, cpu_time, [=](run& r) { hit(r, prepare); });
}

} // namespace
