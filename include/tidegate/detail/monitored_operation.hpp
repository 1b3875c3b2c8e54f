// SPDX-License-Identifier: BSL-1.0
// What is recorded of one operation.
#pragma once

#include <tidegate/core/sliding_windows.hpp>
#include <tidegate/latency_recorder.hpp>
#include <tidegate/monitor_report.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The last so many operations, one by one.
class operation_log {
public:
    explicit operation_log(std::size_t most) noexcept : most_(most) {}

    bool keeps() const noexcept { return most_ > 0; }

    void note(std::string const& name, std::chrono::nanoseconds took,
              operation_outcome outcome) noexcept {
        std::lock_guard lock(mutex_);
        try {
            last_.push_back({name, std::chrono::system_clock::now(), took, outcome});
            if (last_.size() > most_) last_.pop_front();
        } catch (std::bad_alloc const&) { // it is counted; only this list does without it
            last_.clear();
        }
    }

    std::vector<finished_operation> all() const {
        std::lock_guard lock(mutex_);
        return {last_.begin(), last_.end()};
    }

private:
    std::size_t const most_;
    std::mutex mutable mutex_;
    std::deque<finished_operation> last_;
};

template <class Clock>
class monitored_operation {
    using duration = typename Clock::duration;
    using nanoseconds = std::chrono::nanoseconds;

public:
    monitored_operation(std::string name, operation_log& log) : name_(std::move(name)), log_(log) {}
    monitored_operation(monitored_operation const&) = delete;
    monitored_operation& operator=(monitored_operation const&) = delete;
    ~monitored_operation() {
        for (auto& one : others_) delete one.load(std::memory_order_relaxed);
    }

    std::string const& name() const noexcept { return name_; }

    void record(duration took, operation_outcome outcome) noexcept {
        if (outcome == operation_outcome::ok) [[likely]]
            ok_.record(took);
        else recorder_of(outcome).record(took);
        if (log_.keeps()) log_.note(name_, std::chrono::duration_cast<nanoseconds>(took), outcome);
    }

    void record_corrected(duration took, duration expected) noexcept {
        ok_.record(took);
        if (expected <= duration::zero()) return;
        for (int i = 0; i < 100'000 && took >= 2 * expected; ++i) ok_.record(took -= expected);
    }

    void hit() noexcept { hits_.fetch_add(1, std::memory_order_relaxed); }
    void miss() noexcept { misses_.fetch_add(1, std::memory_order_relaxed); }

    void record_memory(std::optional<memory_usage> const& before,
                       std::optional<memory_usage> const& after) noexcept {
        if (!before || !after) return;
        auto const grown = static_cast<std::int64_t>(after->resident - before->resident);
        std::lock_guard lock(mutex_);
        if (!memory_) memory_ = memory_growth{0, 0, grown, 0};
        ++memory_->count;
        memory_->last = grown;
        memory_->max = std::max(memory_->max, grown);
        memory_->total += grown;
    }

    core::histogram durations(operation_outcome outcome) const {
        if (outcome == operation_outcome::ok) return ok_.snapshot();
        auto const* const there = others_[index(outcome)].load(std::memory_order_acquire);
        return there ? there->snapshot() : core::histogram();
    }

    operation_summary summary() const { return summarise(durations_since_start()); }

    /// Of the last `window`, as far as it was told.
    operation_summary summary(std::int64_t now, nanoseconds window) {
        std::lock_guard lock(mutex_); // else who read before may tell it after
        auto const all = durations_since_start();
        by_outcome recent;
        for (std::size_t i = 0; i < operation_outcomes; ++i) {
            windows_[i].advance(now, all[i]);
            recent[i] = windows_[i].last(window.count());
        }
        return summarise(recent, false);
    }

    /// To be called now and then.
    void advance(std::int64_t now) {
        std::lock_guard lock(mutex_);
        auto const all = durations_since_start();
        for (std::size_t i = 0; i < operation_outcomes; ++i) windows_[i].advance(now, all[i]);
    }

private:
    using by_outcome = std::array<core::histogram, operation_outcomes>;

    static std::size_t index(operation_outcome outcome) noexcept {
        return static_cast<std::size_t>(outcome);
    }

    // Made on first use: most operations end well.
    latency_recorder& recorder_of(operation_outcome outcome) noexcept {
        auto& place = others_[index(outcome)];
        if (auto* const there = place.load(std::memory_order_acquire)) return *there;
        auto* const fresh = new (std::nothrow) latency_recorder;
        latency_recorder* there = nullptr;
        if (!fresh) return ok_; // rather in the wrong place than lost
        if (place.compare_exchange_strong(there, fresh, std::memory_order_acq_rel)) return *fresh;
        delete fresh;
        return *there;
    }

    by_outcome durations_since_start() const {
        by_outcome all;
        for (std::size_t i = 0; i < operation_outcomes; ++i)
            all[i] = durations(static_cast<operation_outcome>(i));
        return all;
    }

    std::uint64_t invalid() const noexcept {
        std::uint64_t sum = ok_.invalid();
        for (auto const& one : others_) {
            if (auto const* const there = one.load(std::memory_order_acquire))
                sum += there->invalid();
        }
        return sum;
    }

    operation_summary summarise(by_outcome const& all, bool since_start = true) const {
        auto const ns = [](auto value) { return nanoseconds(static_cast<std::int64_t>(value)); };
        core::histogram const& ok = all[index(operation_outcome::ok)];
        auto const count = [&](operation_outcome which) { return all[index(which)].count(); };
        operation_summary s;
        s.name = name_;
        s.count = ok.count();
        s.total = ns(std::min(ok.sum(), 9e18));
        s.mean = ns(ok.mean());
        s.min = ns(ok.min());
        s.p50 = ns(ok.percentile(0.50));
        s.p90 = ns(ok.percentile(0.90));
        s.p95 = ns(ok.percentile(0.95));
        s.p99 = ns(ok.percentile(0.99));
        s.p999 = ns(ok.percentile(0.999));
        s.max = ns(ok.max());
        s.errors = count(operation_outcome::error);
        s.cancelled = count(operation_outcome::cancelled);
        s.timed_out = count(operation_outcome::timed_out);
        s.abandoned = count(operation_outcome::abandoned);
        if (!since_start) return s;
        s.invalid = invalid();
        s.hits = hits_.load(std::memory_order_relaxed);
        s.misses = misses_.load(std::memory_order_relaxed);
        std::lock_guard lock(mutex_);
        s.memory = memory_;
        return s;
    }

    std::string const name_;
    operation_log& log_;
    latency_recorder ok_;
    std::array<std::atomic<latency_recorder*>, operation_outcomes> others_{};
    std::atomic<std::uint64_t> hits_{0};
    std::atomic<std::uint64_t> misses_{0};

    std::mutex mutable mutex_; // for what is read
    std::array<core::sliding_windows, operation_outcomes> windows_;
    std::optional<memory_growth> memory_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
