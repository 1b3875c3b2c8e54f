// SPDX-License-Identifier: BSL-1.0
// Measures how long named operations take.
#pragma once

#include <tidegate/config.hpp>
#include <tidegate/core/histogram.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What is known of one operation at a moment.
struct operation_summary {
    std::string name;
    std::uint64_t count = 0;
    std::chrono::nanoseconds total{0};
    std::chrono::nanoseconds mean{0};
    std::chrono::nanoseconds p50{0};
    std::chrono::nanoseconds p95{0};
    std::chrono::nanoseconds p99{0};
    std::chrono::nanoseconds max{0};
};

/// Durations of named operations, with percentiles (relative error at most 0.8 %, see
/// `core::histogram`).
///
///     auto timer = monitor.measure("decode");   // records when it goes
///
/// Guarantees: count, total, mean and max are exact; what is recorded is never lost. Operations are
/// made on first use and stay.
///
/// Thread safety: all members may be called from any thread. A timer may be stopped on another
/// thread than it was started on, so it may live across `co_await`. It must not outlive the
/// monitor. Cost: two clock readings and one short lock a measurement, plus a look-up by name; no
/// allocation once the operation is known.
template <class Clock = std::chrono::steady_clock>
class basic_monitor {
    struct operation {
        std::mutex mutex;
        core::histogram durations;
    };

public:
    using clock_type = Clock;
    using duration = typename Clock::duration;

    /// Records the time from its making to its end.
    class [[nodiscard]] scoped_timer {
    public:
        scoped_timer(scoped_timer&& other) noexcept
            : operation_(std::exchange(other.operation_, nullptr)), start_(other.start_) {}
        scoped_timer& operator=(scoped_timer&&) = delete;
        ~scoped_timer() { stop(); }

        /// Records now instead of at the end.
        void stop() noexcept {
            if (auto* const op = std::exchange(operation_, nullptr)) {
                basic_monitor::record(*op, Clock::now() - start_);
            }
        }

        /// Records nothing.
        void discard() noexcept { operation_ = nullptr; }

    private:
        friend class basic_monitor;
        scoped_timer(operation& op, typename Clock::time_point start) noexcept
            : operation_(&op), start_(start) {}

        operation* operation_;
        typename Clock::time_point start_;
    };

    basic_monitor() = default;
    basic_monitor(basic_monitor const&) = delete;
    basic_monitor& operator=(basic_monitor const&) = delete;

    /// Starts a timer for the operation `name`.
    scoped_timer measure(std::string_view name) { return {find(name), Clock::now()}; }

    /// Records a duration measured elsewhere; a negative one counts as zero.
    void record(std::string_view name, duration took) { record(find(name), took); }

    /// All operations so far, by name.
    std::vector<operation_summary> summary() const {
        std::vector<operation_summary> all;
        std::lock_guard lock(mutex_);
        all.reserve(operations_.size());
        for (auto const& [name, op] : operations_) all.push_back(summarise(name, *op));
        return all;
    }

private:
    static void record(operation& op, duration took) noexcept {
        auto const ns = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
        std::lock_guard lock(op.mutex);
        op.durations.record(ns > 0 ? static_cast<std::uint64_t>(ns) : 0);
    }

    operation& find(std::string_view name) {
        std::lock_guard lock(mutex_);
        auto found = operations_.find(name);
        if (found == operations_.end()) {
            found = operations_.emplace(std::string(name), std::make_unique<operation>()).first;
        }
        return *found->second;
    }

    static operation_summary summarise(std::string const& name, operation& op) {
        using std::chrono::nanoseconds;
        auto const ns = [](auto value) { return nanoseconds(static_cast<std::int64_t>(value)); };
        std::lock_guard lock(op.mutex);
        core::histogram const& d = op.durations;
        return {name,
                d.count(),
                ns(d.sum()),
                ns(d.mean()),
                ns(d.percentile(0.50)),
                ns(d.percentile(0.95)),
                ns(d.percentile(0.99)),
                ns(d.max())};
    }

    mutable std::mutex mutex_; // guards the map, not the operations
    std::map<std::string, std::unique_ptr<operation>, std::less<>> operations_;
};

using monitor = basic_monitor<>;

TIDEGATE_END_NAMESPACE
