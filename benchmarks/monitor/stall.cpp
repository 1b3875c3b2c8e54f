// SPDX-License-Identifier: BSL-1.0
// What it costs to be watched for stalls, and whether they are found.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/stall_detector.hpp>
#include <tidegate/watched_executor.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace {

using namespace bench;
using namespace std::chrono_literals;

constexpr int handlers = 1000;

// `make_executor(context)` is what the handlers run on.
template <class MakeExecutor>
void post_handlers(run& r, MakeExecutor make_executor) {
    asio::io_context context{1};
    auto const executor = make_executor(context);
    int ran = 0;
    while (r.more(handlers)) {
        for (int i = 0; i < handlers; ++i) asio::post(executor, [&ran] { ++ran; });
        context.restart();
        context.run();
    }
    benchmark::DoNotOptimize(ran);
}

group const cost{[] {
    row("handler/asio", cpu_time, [](run& r) {
        post_handlers(r, [](asio::io_context& context) { return context.get_executor(); });
    });
    row("handler/watched", cpu_time, [](run& r) {
        tidegate::stall_detector const detector;
        post_handlers(r, [](asio::io_context& context) {
            return tidegate::watched(context.get_executor(), "bench");
        });
    });
    // All that the tracking header adds to a handler.
    row("tracked_invocation/tidegate", cpu_time, [](run& r) {
        while (r.more()) {
            tidegate::detail::tracked_invocation invocation;
            invocation.begin();
            std::atomic_signal_fence(std::memory_order_seq_cst);
            invocation.end();
        }
    });
    claim("stall_wrapper_ns", difference_of(time_of("handler/watched"), time_of("handler/asio")),
          at_most(12));
    claim("stall_tracking_ns", time_of("tracked_invocation/tidegate"), at_most(5));
    claim("stall_wrapper_allocations",
          difference_of(allocations_of("handler/watched"), allocations_of("handler/asio")),
          at_most(0));
}};

constexpr auto threshold = 20ms;
constexpr int planted = 90;

// Handlers that block or compute in turn, with others in between.
void plant(run& r, std::chrono::nanoseconds length) {
    r.skip_warm_up();
    std::uint64_t found = 0;
    while (r.more(planted)) {
        tidegate::stall_detector const detector(
            tidegate::stall_detector_options().threshold(threshold).max_reports_per_minute(0));
        asio::io_context context{1};
        auto const executor = tidegate::watched(context.get_executor());
        for (int i = 0; i < planted; ++i) {
            asio::post(executor, [i, length] {
                auto const end = std::chrono::steady_clock::now() + length;
                if (i % 2) std::this_thread::sleep_until(end);
                else
                    while (std::chrono::steady_clock::now() < end) {
                    }
            });
            asio::post(executor, [] {});
        }
        context.run();
        std::this_thread::sleep_for(threshold); // the end of the last one is seen
        found = detector.statistics().count();
    }
    r.report("found", static_cast<double>(found));
}

group const finding{[] {
    row("stalls_of_1.5_thresholds/tidegate", wall_time, [](run& r) { plant(r, threshold * 3 / 2); })
        ->Iterations(planted)
        ->Repetitions(3);
    row("handlers_of_0.5_thresholds/tidegate", wall_time, [](run& r) { plant(r, threshold / 2); })
        ->Iterations(planted)
        ->Repetitions(3);
    claim("stalls_found_of_90", least_of("stalls_of_1.5_thresholds/tidegate", "found"),
          at_least(planted));
    claim("false_stalls_of_90", most_of("handlers_of_0.5_thresholds/tidegate", "found"),
          at_most(0));
}};

} // namespace
