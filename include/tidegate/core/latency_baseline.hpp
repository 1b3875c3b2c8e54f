// SPDX-License-Identifier: BSL-1.0
// What a window of calls showed, and the estimate of the latency without a queue.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// What happened between two updates of a concurrency limit.
struct limit_window {
    double latency = 0;        ///< of the successful calls, in any unit; 0: none
    std::uint32_t samples = 0; ///< calls that ended, successful or dropped
    std::uint32_t drops = 0;   ///< calls that showed overload: timed out, refused by the server
    std::uint32_t max_in_flight = 0; ///< the most calls at once
    std::uint64_t refused = 0;       ///< calls that the limit kept out

    /// The limit was the bottleneck, not merely reached once in a while.
    bool limited() const noexcept { return refused * 20 > samples; }
};

/// Keeps an estimate of the latency that calls have without a queue.
///
/// The estimate follows lower latencies, at once when they are much lower, and small changes of the
/// latency while hardly anybody is refused. It rises further in two ways only, since a latency that
/// rises is a queue at first sight:
/// - fewer calls did not help: when the calls in flight went down by 40 % and the latency did not
///   follow, it was no queue, and what is measured then is the new estimate;
/// - a probe, in which the limit dips below the estimated capacity for a window, measured more.
///
/// A probe also finds an estimate that was made in a queue: as long as the latency falls with the
/// limit, the dip goes on. Probes follow only upon windows that were `limited()`, so a limit
/// that is not the bottleneck never refuses anybody for a probe's sake; their interval doubles
/// while they find nothing, from 4 windows to 32.
///
/// Probing is as in Envoy's adaptive concurrency filter and in BBR (Cardwell 2016), with a dip to
/// 70 % of the capacity where those go down to 3 calls or 4 packets.
class latency_baseline {
public:
    /// The estimate, 0 before the first window.
    double latency() const noexcept { return base_; }

    bool probing() const noexcept { return probe_ > 0; }

    /// Takes in a window that was no probe.
    void observe(limit_window const& w) noexcept {
        if (base_ == 0 || w.latency < far_below * base_) jump_to(w.latency);
        else if (!w.limited() && w.latency < 1.15 * base_) base_ += 0.05 * (w.latency - base_);
        else if (w.latency < base_) base_ += 0.02 * (w.latency - base_);
        watch_response(w);
        if (w.limited()) ++windows_since_probe_;
    }

    /// What to dip to from `limit`, after a window that was no probe; 0 if no probe is due.
    double start_probe(limit_window const& w, double limit) noexcept {
        if (!w.limited() || windows_since_probe_ < probe_interval_) return 0;
        windows_since_probe_ = 0;
        before_probe_ = limit;
        found_queue_ = false;
        return probe_ = dip * limit * std::max(0.7, base_ / w.latency);
    }

    /// Takes in the window of a probe. Returns the limit to go on with: a deeper dip while
    /// `probing()`, the limit from before the probe otherwise, or less if there was a queue.
    double end_probe(limit_window const& w) noexcept {
        if (w.latency < far_below_in_probe * base_ && probe_ > 1) {
            found_queue_ = true;
            base_ = w.latency;
            return probe_ *= dip;
        }
        double const change = w.latency / base_ - 1;
        bool const doubtful = found_queue_ || probe_interval_ == first_interval;
        base_ += (doubtful || std::abs(change) > 0.5 ? 1 : 0.5) * (w.latency - base_);
        bool const confirmed = !found_queue_ && std::abs(change) < 0.1;
        probe_interval_ = confirmed ? std::min(2 * probe_interval_, 32u) : 4u;
        double const after = found_queue_ ? std::min(before_probe_, probe_ / 0.6) : before_probe_;
        give_up_probe();
        return after;
    }

    /// Ends a probe without taking in its window.
    void give_up_probe() noexcept {
        probe_ = 0;
        peak_in_flight_ = 0;
    }

private:
    static constexpr double dip = 0.7;
    // The first estimate, and each after a jump, may be made in a queue.
    static constexpr unsigned first_interval = 2;
    static constexpr double far_below = 0.7;
    // A queue makes the latency fall as the dip, to 0.7; without one it stays.
    static constexpr double far_below_in_probe = 0.82;

    // What is measured while the service changes may be half of the truth: ask again soon.
    void jump_to(double latency) noexcept {
        base_ = latency;
        probe_interval_ = first_interval;
        windows_since_probe_ = 0;
    }

    void watch_response(limit_window const& w) noexcept {
        if (w.latency <= 1.05 * base_) {
            peak_in_flight_ = 0;
        } else if (w.max_in_flight >= peak_in_flight_) {
            peak_in_flight_ = w.max_in_flight;
            peak_latency_ = w.latency;
        } else if (w.max_in_flight <= 0.6 * peak_in_flight_) {
            if (w.latency > 0.8 * peak_latency_) jump_to(w.latency);
            peak_in_flight_ = 0;
        }
    }

    double base_ = 0;
    // The most calls since the latency left the estimate, and the latency then.
    double peak_in_flight_ = 0;
    double peak_latency_ = 0;
    double probe_ = 0; // the limit of the probe that runs
    double before_probe_ = 0;
    bool found_queue_ = false;
    unsigned windows_since_probe_ = 0;
    unsigned probe_interval_ = first_interval;
};

} // namespace core
TIDEGATE_END_NAMESPACE
