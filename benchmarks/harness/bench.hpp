// SPDX-License-Identifier: BSL-1.0
// What a scenario includes: rows (benchmarks), groups of them, and claims about them.
#pragma once

#include "allocations.hpp"
#include "claims.hpp"
#include "results.hpp"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace bench {

// One run of a benchmark. The body sets up, then loops while more() says so:
//
//     while (r.more())
//         operation();
//
// The first laps warm up: they are neither timed nor counted. Several coroutines of one thread
// may share a run; all of them leave their loops once one was told that no more is wanted.
class run {
public:
    explicit run(benchmark::State& state) : state_(state) {}
    run(run const&) = delete;
    run& operator=(run const&) = delete;

    // Says whether another lap is wanted. Times and allocations are reported an operation, so a
    // lap of many operations says how many.
    bool more(std::int64_t operations = 1) {
        if (phase_ == phase::measuring && state_.KeepRunningBatch(operations)) [[likely]]
            return true;
        return more_at_the_edges(operations);
    }

    // Between these two neither time nor allocations count. A pair costs about 150 ns of the
    // time measured, so put many operations between two pauses.
    void pause();
    void resume();

    // For operations that take seconds, or that warm up on their own.
    void skip_warm_up() { warm_up_operations_ = 0; }

    // Adds a figure of the benchmark's own, which counter_of() finds.
    void report(std::string const& counter, double value) { state_.counters[counter] = value; }

private:
    enum class phase { fresh, warming_up, measuring, over };

    bool more_at_the_edges(std::int64_t operations);

    benchmark::State& state_;
    phase phase_ = phase::fresh;
    std::int64_t warm_up_operations_ = 2000;
    std::chrono::steady_clock::time_point warm_up_ends_{};
    std::int64_t allocations_before_ = 0;
    std::int64_t allocations_ = 0;
};

// Adds a benchmark. Its name is "<what>/<who>", for example "wake_1000/asio_channel". The result
// takes Google Benchmark's own settings: row(...)->Iterations(1)->Repetitions(3).
benchmark::internal::Benchmark* row(std::string const& name, timing judged_by,
                                    std::function<void(run&)> body);

// Rows and the claims about them, added before main() starts:
//
//     const bench::group waking{[] {
//         row("wake_1000/tidegate", cpu_time, wake<tidegate_gate>);
//         row("wake_1000/asio_channel", cpu_time, wake<asio_channel_gate>);
//         claim("wake_1000", ratio_of("wake_1000/tidegate", "wake_1000/asio_channel"),
//               at_most(0.5));
//     }};
struct group {
    template <class Describe>
    explicit group(Describe describe) {
        describe();
    }
};

inline constexpr auto cpu_time = timing::cpu;
inline constexpr auto wall_time = timing::wall;

// The main() of every scenario.
int run_scenario(std::string const& scenario, int argc, char** argv);

} // namespace bench
