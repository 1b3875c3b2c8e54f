// SPDX-License-Identifier: BSL-1.0
// What a circuit breaker costs the calls that it watches.
#include "bench.hpp"
#include "rival_thread.hpp"

#include <tidegate/circuit_breaker.hpp>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using tidegate::circuit_breaker;
using tidegate::circuit_breaker_options;

// One lock for admission, one for the result, as others do.
class mutex_breaker {
public:
    explicit mutex_breaker(std::size_t window) : ring_(window) {}

    bool admit() {
        std::lock_guard lock(mutex_);
        return !open_;
    }
    void record(bool failed) {
        std::lock_guard lock(mutex_);
        failures_ += failed;
        failures_ -= ring_[at_];
        ring_[at_] = failed;
        at_ = (at_ + 1) % ring_.size();
        calls_ += calls_ < ring_.size();
        if (calls_ >= 20 && failures_ * 2 >= calls_) open_ = true;
    }

private:
    std::mutex mutex_;
    std::vector<std::uint8_t> ring_;
    std::size_t at_ = 0, calls_ = 0, failures_ = 0;
    bool open_ = false;
};

void succeed(circuit_breaker& breaker) {
    auto permit = breaker.try_acquire();
    benchmark::DoNotOptimize(permit);
    permit.success();
}

void succeed(mutex_breaker& breaker) {
    if (breaker.admit()) breaker.record(false);
}

void closed(run& r, std::size_t window) {
    circuit_breaker breaker(circuit_breaker_options().count_window(window));
    while (r.more()) succeed(breaker);
}

template <class Breaker>
void two_threads(run& r, Breaker& breaker) {
    rival_thread rival([&] { succeed(breaker); });
    while (r.more()) succeed(breaker);
}

group const admission{[] {
    row("closed/tidegate", cpu_time, [](run& r) { closed(r, 100); });
    row("closed_window_10/tidegate", cpu_time, [](run& r) { closed(r, 10); });
    row("closed_window_10000/tidegate", cpu_time, [](run& r) { closed(r, 10'000); });
    row("closed/mutex_breaker", cpu_time, [](run& r) {
        mutex_breaker breaker(100);
        while (r.more()) succeed(breaker);
    });
    row("closed_2_threads/tidegate", wall_time, [](run& r) {
        circuit_breaker breaker;
        two_threads(r, breaker);
    });
    row("closed_2_threads/mutex_breaker", wall_time, [](run& r) {
        mutex_breaker breaker(100);
        two_threads(r, breaker);
    });
    row("rejection/tidegate", cpu_time, [](run& r) {
        circuit_breaker breaker(circuit_breaker_options().open_duration(24h));
        breaker.trip();
        while (r.more()) {
            auto permit = breaker.try_acquire();
            benchmark::DoNotOptimize(permit);
        }
    });
    claim("breaker_closed", ratio_of("closed/tidegate", "clock/steady_clock"), at_most(2));
    claim("breaker_2_threads",
          ratio_of("closed_2_threads/tidegate", "closed_2_threads/mutex_breaker"), at_most(0.4));
    claim("breaker_rejection", ratio_of("rejection/tidegate", "clock/steady_clock"), at_most(1.2));
    claim("breaker_window", ratio_of("closed_window_10000/tidegate", "closed_window_10/tidegate"),
          at_most(1.1));
    claim("breaker_allocations", allocations_of("closed/tidegate"), at_most(0));
}};

} // namespace
