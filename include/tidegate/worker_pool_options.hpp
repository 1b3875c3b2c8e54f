// SPDX-License-Identifier: BSL-1.0
// What can be set about a worker pool, and what it tells about itself.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/cpu_affinity.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What a pool does with a job when its queue is full.
enum class when_full {
    /// The submitting operation waits in line for room; no thread is blocked.
    wait,
    /// The new job fails with `error::queue_full`.
    reject,
    /// Of the least urgent jobs in the queue, the new one included, the oldest fails with
    /// `error::dropped`.
    drop_oldest,
    /// The new job runs at once, on the thread that submits it, which does nothing else meanwhile.
    /// Such a job hears neither cancellation nor the pool's `stop`, and one that submits to its own
    /// pool while that is full runs the new one inside itself: endlessly, if each submits another.
    caller_runs,
};

/// How urgent a job of a pool, or an item of a batcher, is. More urgent ones go first, within the
/// bounds of the options' `patience`.
enum class job_priority { urgent, normal, background };
inline constexpr std::size_t job_priorities = 3;

namespace detail {
/// Throws std::invalid_argument unless it is one of them: a number from elsewhere may be none.
inline job_priority known(job_priority p) {
    check_option<std::size_t>("job_priority", static_cast<std::size_t>(p), 0, job_priorities - 1);
    return p;
}
} // namespace detail

/// Settings of a worker pool, with their defaults.
class worker_pool_options {
public:
    /// Threads, 1 to 4096; default: the number of hardware threads.
    worker_pool_options& threads(std::size_t n) {
        detail::check_option<std::size_t>("worker_pool threads", n, 1, 4096);
        threads_ = n;
        return *this;
    }
    /// Jobs that may be queued beside those that run, 1 to 2^32; default 1024.
    worker_pool_options& queue(std::size_t n) {
        detail::check_option<std::size_t>("worker_pool queue", n, 1, std::size_t{1} << 32);
        queue_ = n;
        return *this;
    }
    /// Default: wait.
    worker_pool_options& full(when_full policy) {
        full_ = policy;
        return *this;
    }
    /// Ageing: after this many starts in a row of more urgent jobs, the oldest of the less urgent
    /// ones starts, 1 to 2^20; default 16. So one in `patience + 2` starts at least is from any
    /// priority that has jobs queued.
    worker_pool_options& patience(std::uint32_t starts) {
        detail::check_option<std::uint32_t>("worker_pool patience", starts, 1, 1u << 20);
        patience_ = starts;
        return *this;
    }
    /// How long one thread without a job looks out for the next before it goes to sleep, 0 to 1 ms;
    /// default 10 us. Waking a sleeping thread takes longer than that, so under load it saves
    /// processor time as well as waiting; an idle pool sleeps. Never more than one thread spins.
    worker_pool_options& spin(std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>("worker_pool spin in ns", time.count(), 0, 1000000);
        spin_ = time;
        return *this;
    }
    /// The statistics' times come from one job in `n`, 0 (none) to 2^20; default 16. A job that is
    /// measured costs three readings of the clock.
    worker_pool_options& measure_every(std::uint32_t n) {
        detail::check_option<std::uint32_t>("worker_pool measure_every", n, 0, 1u << 20);
        measure_every_ = n;
        return *this;
    }
    /// Threads are called `name-0`, `name-1`, ... (Linux shows 15 characters); default "worker".
    worker_pool_options& name(std::string value) {
        name_ = std::move(value);
        return *this;
    }
    /// Thread `i` runs on processor `cpus[i % cpus.size()]` only. Empty, the default: anywhere. Has
    /// an effect on Linux; there std::invalid_argument names a processor that cannot be used.
    worker_pool_options& affinity(std::vector<unsigned> cpus) {
        detail::check_cpus("worker_pool affinity", cpus);
        affinity_ = std::move(cpus);
        return *this;
    }
    /// Called with the thread's number, on the thread, before its first job and after its last.
    /// What they throw goes to `on_exception`. Default: nothing.
    worker_pool_options& on_thread_start(std::function<void(std::size_t)> hook) {
        on_thread_start_ = std::move(hook);
        return *this;
    }
    worker_pool_options& on_thread_stop(std::function<void(std::size_t)> hook) {
        on_thread_stop_ = std::move(hook);
        return *this;
    }
    /// Gets what a detached job or a hook threw, on the thread where it was thrown; what it throws
    /// itself is one line on standard error. Default: that line for what it gets.
    worker_pool_options& on_exception(std::function<void(std::exception_ptr)> handler) {
        if (!handler) throw std::invalid_argument("tidegate: worker_pool on_exception is empty");
        on_exception_ = std::move(handler);
        return *this;
    }

    std::size_t threads() const noexcept { return threads_; }
    std::size_t queue() const noexcept { return queue_; }
    when_full full() const noexcept { return full_; }
    std::uint32_t patience() const noexcept { return patience_; }
    std::chrono::nanoseconds spin() const noexcept { return spin_; }
    std::uint32_t measure_every() const noexcept { return measure_every_; }
    std::string const& name() const noexcept { return name_; }
    std::vector<unsigned> const& affinity() const noexcept { return affinity_; }
    std::function<void(std::size_t)> const& on_thread_start() const noexcept {
        return on_thread_start_;
    }
    std::function<void(std::size_t)> const& on_thread_stop() const noexcept {
        return on_thread_stop_;
    }
    std::function<void(std::exception_ptr)> const& on_exception() const noexcept {
        return on_exception_;
    }

private:
    static void print(std::exception_ptr thrown) {
        try {
            std::rethrow_exception(thrown);
        } catch (std::exception const& e) {
            std::fprintf(stderr, "tidegate: a detached job threw: %s\n", e.what());
        } catch (...) {
            std::fputs("tidegate: a detached job threw an unknown exception\n", stderr);
        }
    }

    std::size_t threads_ = std::max(1u, std::thread::hardware_concurrency());
    std::size_t queue_ = 1024;
    when_full full_ = when_full::wait;
    std::uint32_t patience_ = 16;
    std::chrono::nanoseconds spin_ = std::chrono::microseconds(10);
    std::uint32_t measure_every_ = 16;
    std::string name_ = "worker";
    std::vector<unsigned> affinity_;
    std::function<void(std::size_t)> on_thread_start_;
    std::function<void(std::size_t)> on_thread_stop_;
    std::function<void(std::exception_ptr)> on_exception_ = &worker_pool_options::print;
};

/// Times of the jobs that were measured.
struct job_times {
    std::uint64_t measured = 0;
    std::chrono::nanoseconds mean{0};
    std::chrono::nanoseconds p50{0};
    std::chrono::nanoseconds p95{0};
    std::chrono::nanoseconds p99{0};
    std::chrono::nanoseconds max{0};
};

/// A worker pool at one moment, and what it has done so far.
struct worker_pool_statistics {
    std::size_t threads = 0; ///< that have started and not ended
    std::size_t active = 0;  ///< jobs that run
    std::size_t queued = 0;
    std::size_t waiting = 0; ///< for room in the queue

    std::uint64_t started = 0;    ///< on threads of the pool
    std::uint64_t caller_ran = 0; ///< on the submitting thread, by `when_full::caller_runs`
    std::uint64_t rejected = 0;   ///< for want of room: `error::queue_full`, or false
    std::uint64_t dropped = 0;    ///< by `when_full::drop_oldest`
    std::uint64_t cancelled = 0;  ///< before they started

    job_times wait; ///< from submission to start
    job_times run;  ///< from start to end
};

TIDEGATE_END_NAMESPACE
