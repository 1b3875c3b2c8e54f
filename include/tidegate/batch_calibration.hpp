// SPDX-License-Identifier: BSL-1.0
// How large batches should be, and how many should run at once: measured, not believed.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/core/histogram.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What batches of one size on so many threads brought.
struct batch_measurement {
    std::size_t workers = 1;
    std::size_t batch = 1;
    double items_per_second = 0;
    std::chrono::nanoseconds p95{0}; ///< of one batch, from start to end
};

struct batch_calibration {
    batch_measurement chosen;
    std::vector<batch_measurement> measured; ///< in the order in which they were
};

/// Settings of a calibration, with their defaults.
class batch_calibration_options {
public:
    /// Batches that may run at once, 1 to 4096; default: the number of hardware threads.
    batch_calibration_options& max_workers(std::size_t n) {
        detail::check_option<std::size_t>("calibration max_workers", n, 1, 4096);
        max_workers_ = n;
        return *this;
    }
    /// The smallest and the largest batch to try, 1 to 65536; default 1 to 16.
    batch_calibration_options& batches(std::size_t smallest, std::size_t largest) {
        detail::check_option<std::size_t>("calibration smallest batch", smallest, 1, 65536);
        detail::check_option<std::size_t>("calibration largest batch", largest, smallest, 65536);
        smallest_ = smallest;
        largest_ = largest;
        return *this;
    }
    /// How long it may take, 1 ms to 1 hour; default 2 s. A batch that runs is waited for, and the
    /// first combination is always measured.
    batch_calibration_options& budget(std::chrono::nanoseconds time) {
        check_time("calibration budget in ns", time, std::chrono::milliseconds(1));
        budget_ = time;
        return *this;
    }
    /// Choose only from what took no longer a batch, 1 us to 1 hour, 95 times of 100. Default: any.
    /// If nothing is as quick, the quickest is chosen.
    batch_calibration_options& max_latency(std::chrono::nanoseconds time) {
        check_time("calibration max_latency in ns", time, std::chrono::microseconds(1));
        max_latency_ = time;
        return *this;
    }
    /// Called after each measurement, for those who watch. What it throws ends the calibration.
    batch_calibration_options& on_measured(std::function<void(batch_measurement const&)> watcher) {
        on_measured_ = std::move(watcher);
        return *this;
    }

    std::size_t max_workers() const noexcept { return max_workers_; }
    std::size_t smallest() const noexcept { return smallest_; }
    std::size_t largest() const noexcept { return largest_; }
    std::chrono::nanoseconds budget() const noexcept { return budget_; }
    std::chrono::nanoseconds max_latency() const noexcept { return max_latency_; }
    std::function<void(batch_measurement const&)> const& on_measured() const noexcept {
        return on_measured_;
    }

private:
    static void check_time(char const* option, std::chrono::nanoseconds time,
                           std::chrono::nanoseconds least) {
        detail::check_option<std::int64_t>(option, time.count(), least.count(),
                                           std::chrono::nanoseconds(std::chrono::hours(1)).count());
    }

    std::size_t max_workers_ = std::max(1u, std::thread::hardware_concurrency());
    std::size_t smallest_ = 1;
    std::size_t largest_ = 16;
    std::chrono::nanoseconds budget_ = std::chrono::seconds(2);
    std::chrono::nanoseconds max_latency_ = std::chrono::nanoseconds::max();
    std::function<void(batch_measurement const&)> on_measured_;
};

namespace detail {

/// What a larger batch, or one more worker, has to bring.
inline constexpr double worth_more = 1.05;

/// The best, or what is within 5 % of it with the smallest batch, then the fewest workers.
inline batch_measurement choose_batch(std::vector<batch_measurement> const& measured,
                                      std::chrono::nanoseconds max_latency) {
    std::optional<batch_measurement> best;
    for (batch_measurement const& m : measured) {
        if (m.p95 > max_latency) continue;
        if (!best || m.items_per_second > best->items_per_second) best = m;
    }
    if (!best) {
        return *std::ranges::min_element(measured, {}, [](auto const& m) { return m.p95; });
    }
    batch_measurement chosen = *best;
    for (batch_measurement const& m : measured) {
        if (m.p95 > max_latency || m.items_per_second * worth_more < best->items_per_second) {
            continue;
        }
        bool const smaller = m.batch < chosen.batch;
        bool const narrower = m.batch == chosen.batch && m.workers < chosen.workers;
        if (smaller || narrower) chosen = m;
    }
    return chosen;
}

/// Runs batches on some threads for about `time`, at least one each.
template <class Clock, class MakeWorker>
batch_measurement measure_batches(MakeWorker& make_worker, std::size_t workers, std::size_t batch,
                                  std::chrono::nanoseconds time) {
    std::mutex mutex;
    core::histogram times;
    std::exception_ptr thrown;
    auto const start = Clock::now();
    auto const end = start + std::chrono::duration_cast<typename Clock::duration>(time);
    auto const loop = [&] {
        try {
            auto run = make_worker(batch);
            auto begun = Clock::now();
            do {
                run();
                auto const now = Clock::now();
                std::chrono::nanoseconds const took = now - std::exchange(begun, now);
                std::lock_guard lock(mutex);
                times.record(static_cast<std::uint64_t>(took.count()));
            } while (begun < end);
        } catch (...) {
            std::lock_guard lock(mutex);
            thrown = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> others; // joined on every way out
        for (std::size_t i = 1; i < workers; ++i) others.emplace_back(loop);
        loop();
    }
    if (thrown) std::rethrow_exception(thrown);
    std::chrono::duration<double> const took = Clock::now() - start;
    return {workers, batch, static_cast<double>(times.count() * batch) / took.count(),
            std::chrono::nanoseconds(static_cast<std::int64_t>(times.percentile(0.95)))};
}

} // namespace detail

/// Measures batches of 1, 2, 4, ... items (from the smallest to the largest allowed) on 1, 2, 4,
/// ... threads, and chooses: of what is within 5 % of the most items a second, the smallest batch,
/// then the fewest workers. Larger batches are not tried any more once one brings less than 5 %:
/// they would only cost memory.
///
/// `make_worker(n)` is called on each thread that measures, and returns a callable that runs one
/// batch of `n` items, over and over; what both throw ends the calibration and is thrown here,
/// after all threads have ended. Each combination is measured twice, since whatever else the
/// machine does only ever makes it slower. The caller's thread is one of them: this blocks, for
/// start-up.
///
///     auto tuned = tidegate::calibrate_batches(make_worker, options);
///     batcher_options().max_size(tuned.chosen.batch).max_in_flight(tuned.chosen.workers);
template <class Clock = std::chrono::steady_clock, class MakeWorker>
batch_calibration calibrate_batches(MakeWorker make_worker,
                                    batch_calibration_options const& settings = {}) {
    batch_calibration result;
    auto const budget = std::chrono::duration_cast<typename Clock::duration>(settings.budget());
    auto const end = Clock::now() + budget;
    auto const share = budget / 8;
    auto const measure = [&](std::size_t workers, std::size_t batch, auto time) {
        return detail::measure_batches<Clock>(make_worker, workers, batch, time);
    };
    measure(1, settings.smallest(), share / 4); // the first run allocates
    double best_before = 0;
    for (std::size_t batch = settings.smallest();; batch *= 2) {
        batch = std::min(batch, settings.largest());
        double best = 0;
        for (std::size_t workers = settings.max_workers(); workers >= 1; workers /= 2) {
            if (!result.measured.empty() && Clock::now() + share > end) break;
            auto const first = measure(workers, batch, share / 2);
            auto const second = measure(workers, batch, share / 2);
            bool const better = second.items_per_second > first.items_per_second;
            result.measured.push_back(better ? second : first);
            best = std::max(best, result.measured.back().items_per_second);
            if (settings.on_measured()) settings.on_measured()(result.measured.back());
        }
        if (batch == settings.largest() || best <= best_before * detail::worth_more) break;
        best_before = best;
    }
    result.chosen = detail::choose_batch(result.measured, settings.max_latency());
    return result;
}

TIDEGATE_END_NAMESPACE
