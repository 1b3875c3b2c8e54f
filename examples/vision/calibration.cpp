// SPDX-License-Identifier: BSL-1.0
#include "calibration.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fmt/format.h>
#include <mutex>
#include <thread>

namespace vision {

namespace {

using steady = std::chrono::steady_clock;

// What a larger batch, or one more worker, has to bring.
constexpr double worth = 1.05;

// Runs batches on `workers` threads for about `time`, at least one each after a warm-up.
double measure(const detector& model, std::size_t workers, std::size_t batch, steady::duration time,
               run_control& stop) {
    std::atomic<std::size_t> frames{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    auto const loop = [&](steady::time_point end) {
        try {
            detector_scratch scratch = model.make_scratch(batch);
            do {
                model.infer(batch, scratch, stop);
                frames += batch;
            } while (steady::now() < end);
        } catch (...) {
            std::lock_guard lock(failure_mutex);
            failure = std::current_exception();
        }
    };
    auto const start = steady::now();
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < workers; ++i) threads.emplace_back(loop, start + time);
    }
    if (failure) std::rethrow_exception(failure);
    std::chrono::duration<double> const took = steady::now() - start;
    return static_cast<double>(frames) / took.count();
}

// What else runs on the machine only ever slows a measurement down.
double measure_twice(const detector& model, std::size_t workers, std::size_t batch,
                     steady::duration time, run_control& stop) {
    double const first = measure(model, workers, batch, time / 2, stop);
    return std::max(first, measure(model, workers, batch, time / 2, stop));
}

throughput_point choose(const std::vector<throughput_point>& measured) {
    auto const best = std::max_element(measured.begin(), measured.end(), [](auto& a, auto& b) {
        return a.frames_per_second < b.frames_per_second;
    });
    throughput_point chosen = *best;
    for (const throughput_point& p : measured) {
        if (p.frames_per_second * worth < best->frames_per_second) continue;
        bool const smaller = p.batch < chosen.batch;
        bool const narrower = p.batch == chosen.batch && p.workers < chosen.workers;
        if (smaller || narrower) chosen = p;
    }
    return chosen;
}

} // namespace

calibration calibrate(const detector& model, const calibration_limits& limits, run_control& stop) {
    calibration result;
    auto const end = steady::now() + limits.budget;
    auto const share = limits.budget / 8;
    std::size_t const fixed = model.fixed_batch();
    std::size_t const largest = fixed ? fixed : limits.max_batch;
    measure(model, 1, fixed ? fixed : 1, share / 4, stop); // the first run allocates
    double best_before = 0;
    for (std::size_t batch = fixed ? fixed : 1; batch <= largest; batch *= 2) {
        double best = 0;
        for (std::size_t workers = limits.max_workers; workers >= 1; workers /= 2) {
            if (!result.measured.empty() && steady::now() + share > end) break;
            double const speed = measure_twice(model, workers, batch, share, stop);
            result.measured.push_back({workers, batch, speed});
            best = std::max(best, speed);
        }
        // Larger batches cost memory for good: try them only while they pay.
        if (best <= best_before * worth) break;
        best_before = best;
    }
    result.chosen = choose(result.measured);
    return result;
}

std::string calibration::table() const {
    std::string text;
    for (const throughput_point& p : measured) {
        bool const is_chosen = p.workers == chosen.workers && p.batch == chosen.batch;
        text += fmt::format("  {} workers x batch {}: {:7.1f} frames/s{}\n", p.workers, p.batch,
                            p.frames_per_second, is_chosen ? "  <- chosen" : "");
    }
    return text;
}

} // namespace vision
