// SPDX-License-Identifier: BSL-1.0
// What admission by a rate limiter costs, beside a reading of the clock and a bucket with a mutex.
#include "bench.hpp"
#include "coroutines.hpp"
#include "rival_thread.hpp"

#include <tidegate/rate_limiter.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using tidegate::rate_limiter;
using tidegate::rate_limiter_options;
using clock_type = std::chrono::steady_clock;

// So fast that it never refuses, or so slow that it always does.
rate_limiter_options plenty() {
    return rate_limiter_options().rate(1'000'000'000, 1s).burst(1'000'000'000);
}
rate_limiter_options nothing() { return rate_limiter_options().rate(1, 24h).start_empty(true); }

// What people write first.
class mutex_bucket {
public:
    explicit mutex_bucket(double per_second, double burst)
        : rate_(per_second / 1e9), burst_(burst), tokens_(burst), last_(clock_type::now()) {}

    bool try_acquire() {
        auto const now = clock_type::now();
        std::lock_guard lock(mutex_);
        tokens_ = std::min(burst_, tokens_ + rate_ * static_cast<double>((now - last_).count()));
        last_ = now;
        if (tokens_ < 1) return false;
        tokens_ -= 1;
        return true;
    }

private:
    std::mutex mutex_;
    double const rate_, burst_;
    double tokens_;
    clock_type::time_point last_;
};

void try_limiter(run& r, rate_limiter_options settings) {
    asio::io_context context{1};
    rate_limiter limiter(context, settings);
    while (r.more()) {
        bool const taken(limiter.try_acquire());
        benchmark::DoNotOptimize(taken);
    }
}

void try_bucket(run& r, double per_second) {
    mutex_bucket bucket(per_second, per_second);
    while (r.more()) {
        bool const taken = bucket.try_acquire();
        benchmark::DoNotOptimize(taken);
    }
}

group const admission{[] {
    row("clock/steady_clock", cpu_time, [](run& r) {
        while (r.more()) benchmark::DoNotOptimize(clock_type::now());
    });
    row("grant/tidegate", cpu_time, [](run& r) { try_limiter(r, plenty()); });
    row("grant/mutex_bucket", cpu_time, [](run& r) { try_bucket(r, 1e9); });
    row("denial/tidegate", cpu_time, [](run& r) { try_limiter(r, nothing()); });
    row("denial/mutex_bucket", cpu_time, [](run& r) { try_bucket(r, 1e-6); });
    claim("limiter_grant", ratio_of("grant/tidegate", "clock/steady_clock"), at_most(1.5));
    claim("limiter_denial", ratio_of("denial/tidegate", "clock/steady_clock"), at_most(1.1));
    claim("limiter_allocations", allocations_of("grant/tidegate"), at_most(0));
}};

group const contended{[] {
    row("grant_2_threads/tidegate", wall_time, [](run& r) {
        asio::io_context context{1};
        rate_limiter limiter(context, plenty());
        auto take = [&] { benchmark::DoNotOptimize(bool(limiter.try_acquire())); };
        rival_thread rival(take);
        while (r.more()) take();
    });
    row("grant_2_threads/mutex_bucket", wall_time, [](run& r) {
        mutex_bucket bucket(1e9, 1e9);
        auto take = [&] { benchmark::DoNotOptimize(bucket.try_acquire()); };
        rival_thread rival(take);
        while (r.more()) take();
    });
    claim("limiter_2_threads", ratio_of("grant_2_threads/tidegate", "clock/steady_clock"),
          at_most(3));
    claim("limiter_2_threads_against_mutex",
          ratio_of("grant_2_threads/tidegate", "grant_2_threads/mutex_bucket"), at_most(1));
}};

group const three_limits{[] {
    row("three_limits/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        rate_limiter second(context, plenty());
        rate_limiter minute(context, plenty());
        rate_limiter day(context, plenty());
        while (r.more()) {
            bool const taken(tidegate::try_acquire_all(1, second, minute, day));
            benchmark::DoNotOptimize(taken);
        }
    });
    claim("limiter_three_limits", ratio_of("three_limits/tidegate", "grant/tidegate"),
          at_most(1.3));
}};

// From a coroutine, without waiting.

asio::awaitable<int> empty_child() { co_return 1; }

group const from_a_coroutine{[] {
    row("await/empty_child_and_clock", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            while (laps.more()) {
                benchmark::DoNotOptimize(clock_type::now());
                benchmark::DoNotOptimize(co_await empty_child());
            }
        }(r));
    });
    row("await/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        rate_limiter limiter(context, plenty());
        drive(context, [](run& laps, rate_limiter& l) -> asio::awaitable<void> {
            while (laps.more()) co_await l.acquire();
        }(r, limiter));
    });
    claim("limiter_await", ratio_of("await/tidegate", "await/empty_child_and_clock"), at_most(2));
}};

} // namespace
