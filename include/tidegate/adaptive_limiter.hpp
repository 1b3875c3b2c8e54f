// SPDX-License-Identifier: BSL-1.0
// Bounds how many calls run at once by how the service bears them: an adaptive concurrency limit.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/core/concurrency_limit.hpp>
#include <tidegate/trace.hpp>

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Who is refused last.
enum class priority { low, normal, high };

/// How an adaptive limiter measures. Setters throw std::invalid_argument when out of range.
class adaptive_limiter_options {
public:
    /// How the limit moves; see there.
    adaptive_limiter_options& limit(concurrency_limit_options const& options) noexcept {
        limit_ = options;
        return *this;
    }
    /// The fewest calls that the limit is updated upon, 10 to 1'000'000; default 250. A window also
    /// has at least four times as many calls as were in at once. Where latencies vary as an
    /// exponential distribution does, take 500: the limit then wavers by less.
    adaptive_limiter_options& window_samples(std::uint32_t n) {
        detail::check_option<std::uint32_t>("adaptive limiter window_samples", n, 10, 1'000'000);
        window_samples_ = n;
        return *this;
    }
    /// The share of the limit up to which calls of a priority are let in, 0.01 to 1, rounded to
    /// thousandths; default 0.75 for low, 0.9 for normal, 1 for high. One call is always let in. A
    /// limit that sees only calls with a share below 0.5 does not grow. What settles is the number
    /// of calls that are in: with normal priority alone, the limit is a ninth above that.
    adaptive_limiter_options& share(priority p, double part) {
        detail::check_option<double>("adaptive limiter share", part, 0.01, 1);
        thousandths_[static_cast<std::size_t>(p)] =
            static_cast<std::uint32_t>(std::lround(part * 1000));
        return *this;
    }

    concurrency_limit_options const& limit() const noexcept { return limit_; }
    std::uint32_t window_samples() const noexcept { return window_samples_; }
    double share(priority p) const noexcept { return share_in_thousandths(p) / 1000.0; }
    std::uint32_t share_in_thousandths(priority p) const noexcept {
        return thousandths_[static_cast<std::size_t>(p)];
    }

private:
    concurrency_limit_options limit_;
    std::uint32_t window_samples_ = 250;
    std::array<std::uint32_t, 3> thousandths_{750, 900, 1000};
};

/// What an adaptive limiter has done so far.
struct adaptive_limiter_statistics {
    std::uint64_t refused = 0;            ///< calls that were not let in
    std::uint64_t windows = 0;            ///< updates of the limit
    std::uint64_t probes = 0;             ///< windows in which the limit dipped to measure
    std::chrono::nanoseconds latency{0};  ///< of the last window; see adaptive_limiter
    std::chrono::nanoseconds baseline{0}; ///< without a queue, as estimated; 0: unknown or unused
};

namespace detail {
template <class Clock>
class adaptive_limiter_state;
}

/// The right to make one call, given back with a verdict or, without one, when this object goes.
/// May outlive the limiter; the verdict may be given on any thread.
template <class Clock>
class [[nodiscard]] basic_adaptive_permit {
public:
    using time_point = typename Clock::time_point;

    /// Holds nothing.
    basic_adaptive_permit() noexcept = default;

    basic_adaptive_permit(basic_adaptive_permit&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)),
          epoch_(other.epoch_),
          start_(other.start_) {}
    basic_adaptive_permit& operator=(basic_adaptive_permit&& other) noexcept {
        if (this != &other) {
            ignore();
            state_ = std::exchange(other.state_, nullptr);
            epoch_ = other.epoch_;
            start_ = other.start_;
        }
        return *this;
    }
    ~basic_adaptive_permit() { ignore(); }

    /// True while the call is let in and has no verdict yet.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// The call succeeded: its latency counts.
    void success(time_point now = Clock::now()) noexcept;

    /// The call showed overload: it timed out, or the service refused it. Its latency does not
    /// count, its failure does.
    void dropped() noexcept;

    /// The call says nothing about load: it was cancelled, or failed for a reason of its own.
    void ignore() noexcept;

private:
    friend class detail::adaptive_limiter_state<Clock>;
    using state = detail::adaptive_limiter_state<Clock>;

    basic_adaptive_permit(state* s, std::uint32_t epoch, time_point start) noexcept
        : state_(s), epoch_(epoch), start_(start) {}

    state* state_ = nullptr; // not counted: see adaptive_limiter_state
    std::uint32_t epoch_ = 0;
    time_point start_{};
};

/// An adaptive concurrency limit, in front of a service whose capacity nobody knows.
///
///     auto permit = limiter.try_acquire();
///     if (!permit) return tidegate::error::overloaded;
///     ... the call ...
///     permit.success();
///
/// Guarantees: nobody is let in above the limit of that moment, and low priority is refused before
/// normal, and normal before high. A limit that goes down lets those that are in finish. The limit
/// does not grow without load. Probes lower the limit for a window to 70 % of the estimated
/// capacity (further only while that makes calls faster), and follow only upon windows in which
/// the limit refused more than one call for every 20 that ended: a limit that seldom binds is never
/// probed.
///
/// The limit moves by core::concurrency_limit, once a window. The latency of a window is the mean
/// of its fastest 95 %, so that 1 % of outliers does not count, however slow they are. It is kept
/// in buckets 3 % wide; a call above 18 minutes counts as that. A call counts only if it was let
/// in under the limit that still holds: what began under another limit says nothing about this
/// one.
///
/// The service measured may be anything that gets slower as more calls are in: the limiter belongs
/// at its client (one for each server) or at its entrance.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. Nothing waits: where a window ends, one thread updates the limit, and others go on
/// without it. Memory: one allocation at construction, none after it. O(1), and at a window's end
/// once through 1200 buckets.
///
/// `Clock` is read once when a call is let in and once when it succeeds, unless the time is given.
template <class Clock = std::chrono::steady_clock>
class basic_adaptive_limiter {
    using state = detail::adaptive_limiter_state<Clock>;

public:
    using clock_type = Clock;
    using time_point = typename Clock::time_point;
    using permit = basic_adaptive_permit<Clock>;

    explicit basic_adaptive_limiter(adaptive_limiter_options const& options = {})
        : state_(new state(options)) {}

    /// The moved-from limiter may only be destroyed or assigned to.
    basic_adaptive_limiter(basic_adaptive_limiter&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)) {}
    basic_adaptive_limiter& operator=(basic_adaptive_limiter&& other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~basic_adaptive_limiter() {
        if (state_) state_->abandon();
    }

    /// Lets a call in, or returns an empty permit: report error::overloaded then.
    permit try_acquire(priority p = priority::normal) noexcept {
        return state_->try_acquire(p, [] { return Clock::now(); });
    }
    permit try_acquire(time_point now) noexcept { return try_acquire(priority::normal, now); }
    permit try_acquire(priority p, time_point now) noexcept {
        return state_->try_acquire(p, [now] { return now; });
    }

    /// The limit at this moment.
    std::uint32_t limit() const noexcept { return state_->limit(); }

    /// Calls that are in at this moment; above the limit while it goes down.
    std::uint32_t in_flight() const noexcept { return state_->in_flight(); }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: acquired, rejected, limit_changed.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe(std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_adaptive_limiter_limit", "Calls that may be out",
                 static_cast<double>(limit()));
        to.gauge("tidegate_adaptive_limiter_in_flight", "Calls that are out",
                 static_cast<double>(in_flight()));
        to.counter("tidegate_adaptive_limiter_refused", "Calls not let in",
                   static_cast<double>(all.refused));
        to.counter("tidegate_adaptive_limiter_windows", "Updates of the limit",
                   static_cast<double>(all.windows));
        to.gauge("tidegate_adaptive_limiter_latency_seconds", "Latency of the last window",
                 static_cast<double>(std::chrono::duration<double>(all.latency).count()));
        to.gauge("tidegate_adaptive_limiter_baseline_seconds", "Latency without a queue",
                 static_cast<double>(std::chrono::duration<double>(all.baseline).count()));
    }

    adaptive_limiter_statistics statistics() const { return state_->statistics(); }

private:
    state* state_;
};

using adaptive_limiter = basic_adaptive_limiter<>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/adaptive_limiter.hpp>
