// SPDX-License-Identifier: BSL-1.0
// A hundred thousand that wait for a rate limiter, let through at a hundred thousand a second.
#include "bench.hpp"

#include <tidegate/rate_limiter.hpp>

#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <malloc.h>
#include <utility>
#include <vector>

namespace {

// The steady clock, whose timers are counted.
struct counted_clock : std::chrono::steady_clock {};

struct timer_counts {
    double now = 0;
    double most = 0;
};
timer_counts timers;

template <class Executor>
class counted_timer {
public:
    explicit counted_timer(Executor executor) : timer_(std::move(executor)), counts_(true) {
        timers.most = std::max(timers.most, ++timers.now);
    }
    counted_timer(counted_timer&& other) noexcept
        : timer_(std::move(other.timer_)), counts_(std::exchange(other.counts_, false)) {}
    counted_timer& operator=(counted_timer&&) = delete;
    ~counted_timer() { timers.now -= counts_; }

    void expires_at(counted_clock::time_point when) { timer_.expires_at(when); }
    void cancel() { timer_.cancel(); }
    template <class Handler>
    void async_wait(Handler&& handler) {
        timer_.async_wait(std::forward<Handler>(handler));
    }

private:
    boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                      boost::asio::wait_traits<std::chrono::steady_clock>, Executor>
        timer_;
    bool counts_; // false if moved from
};

} // namespace

template <class Executor>
struct tidegate::timer_for<counted_clock, Executor> {
    using type = counted_timer<Executor>;
};

namespace {

using namespace bench;
using namespace std::chrono_literals;

constexpr std::size_t crowd = 100'000;

std::size_t heap_in_use() { return mallinfo2().uordblks + mallinfo2().hblkhd; }

template <class Clock>
class waiting_crowd {
public:
    waiting_crowd() {
        std::size_t const before = heap_in_use();
        for (std::size_t i = 0; i < crowd; ++i) {
            limiter_.async_acquire([this, i](boost::system::error_code) {
                std::chrono::duration<double, std::milli> const took = Clock::now() - start_;
                ++woken_;
                late_[i] = took.count() - static_cast<double>(i + 1) / 100;
            });
        }
        bytes_ = static_cast<double>(heap_in_use() - before) / crowd;
    }

    std::size_t waiting() const { return limiter_.waiting(); }
    double bytes_a_waiter() const { return bytes_; }

    void run() {
        limiter_.set_rate(100'000, 1s);
        start_ = Clock::now();
        handlers_ = context_.run();
        std::sort(late_.begin(), late_.end());
    }
    double waiters_woken_a_grant() const { return static_cast<double>(woken_) / crowd; }
    double timer_wakeups_a_grant() const { return static_cast<double>(handlers_ - woken_) / crowd; }
    double late_p99_ms() const { return late_[crowd * 99 / 100]; }

private:
    boost::asio::io_context context_{1};
    // Nobody goes before all wait.
    tidegate::basic_rate_limiter<Clock> limiter_{
        context_, tidegate::rate_limiter_options().rate(1, 1h).burst(1000).start_empty(true)};
    std::vector<double> late_ = std::vector<double>(crowd);
    typename Clock::time_point start_;
    double bytes_ = 0;
    std::size_t handlers_ = 0; // that the context has called: the waiters' and the timer's
    std::size_t woken_ = 0;
};

group const crowds{[] {
    row("crowd/tidegate", wall_time,
        [](run& r) {
            r.skip_warm_up();
            while (r.more(crowd)) {
                waiting_crowd<std::chrono::steady_clock> all;
                r.report("waited", static_cast<double>(all.waiting()));
                r.report("bytes_a_waiter", all.bytes_a_waiter());
                all.run();
                r.report("late_p99_ms", all.late_p99_ms());
            }
        })
        ->Iterations(crowd)
        ->Repetitions(3);
    claim("limiter_bytes_a_waiter", counter_of("crowd/tidegate", "bytes_a_waiter"), at_most(200));
    claim("limiter_crowd_lateness_p99_ms", counter_of("crowd/tidegate", "late_p99_ms"), at_most(2));

    row("crowd/counted_timers", wall_time,
        [](run& r) {
            r.skip_warm_up();
            while (r.more(crowd)) {
                timers = {};
                waiting_crowd<counted_clock> all;
                all.run();
                r.report("timers", timers.most);
                r.report("waiters_woken_a_grant", all.waiters_woken_a_grant());
                r.report("timer_wakeups_a_grant", all.timer_wakeups_a_grant());
            }
        })
        ->Iterations(crowd)
        ->Repetitions(1);
    claim("limiter_timers_of_a_crowd", counter_of("crowd/counted_timers", "timers"), at_most(1));
    // Nobody is woken in vain, and the timer lets through all whose time has come.
    claim("limiter_waiters_woken_a_grant",
          counter_of("crowd/counted_timers", "waiters_woken_a_grant"), at_most(1.1));
    claim("limiter_timer_wakeups_a_grant",
          counter_of("crowd/counted_timers", "timer_wakeups_a_grant"), at_most(1.1));
}};

} // namespace
