// SPDX-License-Identifier: BSL-1.0
// What it costs to record a latency, on one thread and on two, and to read them; and how far off
// the percentiles are.
#include "bench.hpp"
#include "peers.hpp"
#include "rival_thread.hpp"

#include <tidegate/latency_recorder.hpp>
#include <tidegate/monitor.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <latch>
#include <malloc.h>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

class tidegate_recorder {
public:
    void record(std::uint64_t ns) { recorder_.record(std::chrono::nanoseconds(ns)); }
    double percentile(double fraction) const { return recorder_.snapshot().percentile(fraction); }

private:
    tidegate::latency_recorder recorder_;
};

using samples = std::vector<std::uint64_t>;
using generator = std::mt19937_64;

// Around 0.5 ms, as a remote call.
samples lognormal(std::size_t n) {
    generator random(42);
    std::lognormal_distribution<double> of(std::log(5e5), 1);
    samples all(n);
    for (auto& one : all) one = static_cast<std::uint64_t>(of(random)) + 1;
    return all;
}
// Hits and misses of a cache.
samples bimodal(std::size_t n) {
    generator random(42);
    std::normal_distribution<double> hit(1e5, 1e4), miss(2e7, 2e6);
    samples all(n);
    for (auto& one : all) {
        double const ns = random() % 20 ? hit(random) : miss(random);
        one = static_cast<std::uint64_t>(std::max(1.0, ns));
    }
    return all;
}
samples pareto(std::size_t n) {
    generator random(42);
    std::uniform_real_distribution<double> uniform(1e-9, 1);
    samples all(n);
    for (auto& one : all)
        one = static_cast<std::uint64_t>(std::min(1e5 * std::pow(uniform(random), -1 / 1.2), 3e13));
    return all;
}

samples const& usual() {
    static samples const all = lognormal(4096);
    return all;
}

// Recording ---------------------------------------------------------------------------------------

template <class Recorder>
void record(run& r) {
    auto const recorder = std::make_unique<Recorder>();
    samples const& all = usual();
    std::size_t i = 0;
    while (r.more()) recorder->record(all[i++ & 4095]);
}

template <class Recorder>
void record_2_threads(run& r) {
    auto const recorder = std::make_unique<Recorder>();
    samples const& all = usual();
    rival_thread rival([&, i = std::size_t{0}]() mutable { recorder->record(all[i++ & 4095]); });
    std::size_t i = 0;
    while (r.more()) recorder->record(all[i++ & 4095]);
}

group const recording{[] {
    row("record/tidegate", cpu_time, record<tidegate_recorder>);
    row("record/atomic_log_linear", cpu_time, record<atomic_log_linear>);
    row("record/prometheus_histogram", cpu_time, record<prometheus_histogram>);
    row("record/prometheus_summary", cpu_time, record<prometheus_summary>);
    row("record/sorted_vector", cpu_time, record<sorted_vector>);
    row("record_2_threads/tidegate", wall_time, record_2_threads<tidegate_recorder>);
    row("record_2_threads/atomic_log_linear", wall_time, record_2_threads<atomic_log_linear>);
    row("record_2_threads/prometheus_histogram", wall_time, record_2_threads<prometheus_histogram>);
    claim("record_ns", time_of("record/tidegate"), at_most(3));
    claim("record_2_threads", ratio_of("record_2_threads/tidegate", "record/tidegate"),
          at_most(1.3));
    claim("record_against_atomic", ratio_of("record/atomic_log_linear", "record/tidegate"),
          at_least(3));
    claim("record_against_prometheus", ratio_of("record/prometheus_histogram", "record/tidegate"),
          at_least(5));
    claim("record_2_threads_against_prometheus",
          ratio_of("record_2_threads/prometheus_histogram", "record_2_threads/tidegate"),
          at_least(10));
    claim("record_allocations", allocations_of("record/tidegate"), at_most(0));
}};

group const timing{[] {
    row("clock/steady_clock", cpu_time, [](run& r) {
        while (r.more()) benchmark::DoNotOptimize(clock_type::now());
    });
    row("scoped_timer/tidegate", cpu_time, [](run& r) {
        tidegate::monitor monitor;
        auto const operation = monitor.operation("x");
        while (r.more()) {
            auto const timer = operation.measure();
        }
    });
    row("scoped_timer_by_name/tidegate", cpu_time, [](run& r) {
        tidegate::monitor monitor;
        while (r.more()) {
            auto const timer = monitor.measure("operation");
        }
    });
    claim("scoped_timer", ratio_of("scoped_timer/tidegate", "clock/steady_clock"), at_most(2.3));
    claim("scoped_timer_allocations", allocations_of("scoped_timer/tidegate"), at_most(0));
}};

// Reading -----------------------------------------------------------------------------------------

/// 16 threads that have recorded, and wait.
class sixteen_writers {
public:
    explicit sixteen_writers(tidegate::latency_recorder& to) {
        for (int t = 0; t < 16; ++t) {
            threads_.emplace_back([&] {
                for (auto const ns : usual()) to.record(std::chrono::nanoseconds(ns));
                recorded_.count_down();
                end_.wait();
            });
        }
        recorded_.wait();
    }
    ~sixteen_writers() {
        end_.count_down();
        for (auto& one : threads_) one.join();
    }

private:
    std::latch recorded_{16}, end_{1};
    std::vector<std::thread> threads_;
};

group const reading{[] {
    row("snapshot_16_threads/tidegate", cpu_time, [](run& r) {
        tidegate::latency_recorder recorder;
        sixteen_writers const writers(recorder);
        while (r.more()) benchmark::DoNotOptimize(recorder.snapshot().percentile(0.99));
    });
    row("memory_a_thread/tidegate", cpu_time, [](run& r) {
        std::size_t bytes = 0;
        while (r.more()) {
            std::size_t const before = ::mallinfo2().uordblks;
            tidegate::latency_recorder recorder;
            for (auto const ns : usual()) recorder.record(std::chrono::nanoseconds(ns));
            bytes = ::mallinfo2().uordblks - before;
        }
        r.report("bytes", static_cast<double>(bytes));
    })->Iterations(10);
    // While somebody reads all the time.
    row("record_while_read/tidegate", cpu_time, [](run& r) {
        tidegate::latency_recorder recorder;
        rival_thread reader([&] { benchmark::DoNotOptimize(recorder.snapshot().count()); });
        samples const& all = usual();
        std::size_t i = 0;
        while (r.more()) recorder.record(std::chrono::nanoseconds(all[i++ & 4095]));
    });
    claim("snapshot_16_threads_us",
          ratio_of(time_of("snapshot_16_threads/tidegate"),
                   quantity{{}, [](results const&) { return 1000.0; }}),
          at_most(50));
    claim("bytes_a_thread", counter_of("memory_a_thread/tidegate", "bytes"), at_most(16 * 1024));
}};

// Accuracy ----------------------------------------------------------------------------------------

constexpr double fractions[] = {0.5, 0.9, 0.99, 0.999, 0.9999};

double exact(samples const& sorted, double fraction) {
    auto const rank = std::ceil(fraction * static_cast<double>(sorted.size()));
    return static_cast<double>(sorted[static_cast<std::size_t>(rank) - 1]);
}

/// The largest error of any percentile, and each of them, in per cent.
template <class Recorder>
void accuracy(run& r, samples (*make)(std::size_t)) {
    auto all = make(200'000);
    auto const recorder = std::make_unique<Recorder>();
    while (r.more()) {
        for (auto const ns : all) recorder->record(ns);
    }
    std::sort(all.begin(), all.end());
    double worst = 0;
    for (double const fraction : fractions) {
        double const off = 100 * (recorder->percentile(fraction) / exact(all, fraction) - 1);
        r.report("p" + std::to_string(fraction * 100).substr(0, 5) + "_off_%", off);
        worst = std::max(worst, std::abs(off));
    }
    r.report("worst_%", worst);
}

template <class Recorder>
void accuracy_rows(std::string const& who, bool summary = false) {
    struct sample_set {
        char const* name;
        samples (*make)(std::size_t);
    };
    for (auto const& [name, make] :
         {sample_set{"lognormal", lognormal}, {"bimodal", bimodal}, {"pareto", pareto}}) {
        row(std::string("accuracy_") + name + "/" + who, wall_time,
            [make = make](run& r) {
                r.skip_warm_up();
                accuracy<Recorder>(r, make);
            })
            ->Iterations(1)
            ->Repetitions(summary ? 1 : 3);
    }
}

group const accurate{[] {
    accuracy_rows<tidegate_recorder>("tidegate");
    accuracy_rows<atomic_log_linear>("atomic_log_linear");
    accuracy_rows<prometheus_histogram>("prometheus_histogram");
    accuracy_rows<prometheus_summary>("prometheus_summary", true);
    for (std::string const set : {"lognormal", "bimodal", "pareto"})
        claim("error_" + set + "_%", most_of("accuracy_" + set + "/tidegate", "worst_%"),
              at_most(0.28));
}};

} // namespace
