// SPDX-License-Identifier: BSL-1.0
// How many calls at once are good for a service, from what windows of calls showed: three
// algorithms. No clock, no locks.
#pragma once

#include <tidegate/config.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/core/latency_baseline.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE

/// How a concurrency limit follows its measurements.
enum class limit_algorithm {
    gradient, ///< in proportion to how much the latency rose
    vegas,    ///< by the number of calls that queue
    aimd,     ///< up by one, down by a factor on drops; no use of latency but for a threshold
};

/// How a concurrency limit moves. Setters throw std::invalid_argument when out of range.
class concurrency_limit_options {
public:
    /// The largest limit.
    static constexpr std::uint32_t most = 1'000'000;

    /// Default gradient.
    concurrency_limit_options& algorithm(limit_algorithm a) noexcept {
        algorithm_ = a;
        return *this;
    }
    /// The limit at first, 1 to 1'000'000; default 20. Kept between the smallest and the largest.
    concurrency_limit_options& initial(std::uint32_t n) {
        detail::check_option<std::uint32_t>("concurrency limit initial", n, 1, most);
        initial_ = n;
        return *this;
    }
    /// Default 1.
    concurrency_limit_options& smallest(std::uint32_t n) {
        detail::check_option<std::uint32_t>("concurrency limit smallest", n, 1, most);
        smallest_ = n;
        return *this;
    }
    /// Default 1000. Below the smallest it counts as that.
    concurrency_limit_options& largest(std::uint32_t n) {
        detail::check_option<std::uint32_t>("concurrency limit largest", n, 1, most);
        largest_ = n;
        return *this;
    }
    /// The share of drops in a window above which the limit shrinks, 0 to 1; default 0.01.
    concurrency_limit_options& drop_tolerance(double share) {
        detail::check_option<double>("concurrency limit drop_tolerance", share, 0, 1);
        drop_tolerance_ = share;
        return *this;
    }
    /// What the limit is multiplied with after a window with drops, 0.1 to 0.99; default 0.9.
    concurrency_limit_options& drop_factor(double factor) {
        detail::check_option<double>("concurrency limit drop_factor", factor, 0.1, 0.99);
        drop_factor_ = factor;
        return *this;
    }
    /// For aimd: a latency above this counts as drops. 0, the default: none does.
    concurrency_limit_options& latency_threshold(std::chrono::nanoseconds d) {
        detail::check_option<std::int64_t>("concurrency limit latency_threshold in ns", d.count(),
                                           0, std::chrono::nanoseconds::max().count());
        latency_threshold_ = d;
        return *this;
    }

    limit_algorithm algorithm() const noexcept { return algorithm_; }
    std::uint32_t initial() const noexcept { return std::clamp(initial_, smallest_, largest()); }
    std::uint32_t smallest() const noexcept { return smallest_; }
    std::uint32_t largest() const noexcept { return std::max(largest_, smallest_); }
    double drop_tolerance() const noexcept { return drop_tolerance_; }
    double drop_factor() const noexcept { return drop_factor_; }
    std::chrono::nanoseconds latency_threshold() const noexcept { return latency_threshold_; }

private:
    limit_algorithm algorithm_ = limit_algorithm::gradient;
    std::uint32_t initial_ = 20;
    std::uint32_t smallest_ = 1;
    std::uint32_t largest_ = 1000;
    double drop_tolerance_ = 0.01;
    double drop_factor_ = 0.9;
    std::chrono::nanoseconds latency_threshold_{0};
};

namespace core {

/// The next limit from how much the latency rose: a queue of k times the capacity multiplies the
/// latency by k, so the capacity is limit * baseline / latency. The limit stays 4 % above that, and
/// the latency may rise by 3 % before it counts.
///
/// Source: the gradient of Netflix's concurrency-limits (Gradient2) and of Envoy's adaptive
/// concurrency filter; the headroom is in proportion here, where theirs is 4 or the square root,
/// which is far too much for a capacity of ten.
struct gradient_rule {
    static bool queue_seen(limit_window const& w, double base) noexcept {
        return w.latency > tolerance * base;
    }
    static double shrink(limit_window const& w, double base, double limit) noexcept {
        double const gradient = std::max(0.5, tolerance * base / w.latency);
        double const wanted = limit * (gradient + headroom);
        // A small excess may be chance: half of the way then.
        return gradient < sure ? wanted : 0.5 * (limit + wanted);
    }

private:
    static constexpr double tolerance = 1.03;
    static constexpr double headroom = 0.04;
    static constexpr double sure = 0.75;
};

/// The next limit from the number of calls that queue, in flight * (1 - baseline / latency): more
/// than `alpha` stop its growth, more than `beta` shrink it, by a step or by half of the excess.
///
/// Source: TCP Vegas (Brakmo, O'Malley and Peterson 1994), with thresholds in proportion to the
/// limit, 3 % and 8 %, since a service's limit may be 5 or 5000.
struct vegas_rule {
    static bool queue_seen(limit_window const& w, double base) noexcept {
        return queued(w, base) > alpha * w.max_in_flight;
    }
    static double shrink(limit_window const& w, double base, double limit) noexcept {
        double const excess = queued(w, base) - beta * w.max_in_flight;
        if (excess <= 0) return limit;
        return limit - std::max(0.02 * limit, 0.5 * excess);
    }

private:
    static double queued(limit_window const& w, double base) noexcept {
        return w.max_in_flight * (1 - base / w.latency);
    }
    static constexpr double alpha = 0.03;
    static constexpr double beta = 0.08;
};

/// A concurrency limit that moves with every window it is shown.
///
/// Guarantees, for all algorithms: the limit is always within its range; it does not grow to
/// more than twice the calls that were in flight, other than back from a probe; it shrinks by
/// `drop_factor` after a window with more drops than tolerated.
///
/// *Gradient* and *vegas* look for the largest limit without a queue. In front of simulated
/// saturated servers both are within 20 % of it after 20 windows, from starts four times too high
/// or too low, and again after the number of servers doubled or halved or the service got five
/// times slower or faster. With fixed service times that holds in every window; with exponential
/// ones, where 500 samples still say little, on average, and in about nine windows of ten. They
/// grow by 5 % in a window, and twice as much with each further one, up to 40 %, and slow down at
/// the first sign of a queue.
///
/// *Aimd* (Chiu and Jain 1989) adds one call after each window and multiplies by `drop_factor`
/// after drops. It finds no optimum by itself: without drops and without a latency threshold it
/// grows to its largest value, and a move up by n calls takes n windows. With them it stays
/// between drop_factor times the limit at which they begin, and one above it.
///
/// Takes and returns plain values; not thread-safe. `update` is O(1).
class concurrency_limit {
public:
    explicit concurrency_limit(concurrency_limit_options const& options = {}) noexcept
        : options_(options), limit_(options.initial()) {}

    concurrency_limit_options const& options() const noexcept { return options_; }

    /// At least 1; its whole part is the number of calls.
    double limit() const noexcept { return limit_; }

    /// The latency without a queue, as estimated; 0 if unknown or not used.
    double baseline() const noexcept { return baseline_.latency(); }

    /// True while the limit is lowered for a window to measure the baseline.
    bool probing() const noexcept { return baseline_.probing(); }

    /// Takes in a window, with latencies in nanoseconds; returns the limit of the next one.
    double update(limit_window w) noexcept {
        // Calls from before the limit shrank are none of its own.
        w.max_in_flight = std::min(w.max_in_flight, static_cast<std::uint32_t>(limit_));
        limit_ = std::clamp(next(w), double(options_.smallest()), double(options_.largest()));
        return limit_;
    }

private:
    double next(limit_window const& w) noexcept {
        bool const dropped = w.drops > options_.drop_tolerance() * w.samples;
        if (options_.algorithm() == limit_algorithm::aimd) return next_aimd(w, dropped);
        if (dropped) return next_dropped(w);
        if (w.latency <= 0) return limit_;
        if (baseline_.probing()) return baseline_.end_probe(w);
        baseline_.observe(w);
        double const wanted = options_.algorithm() == limit_algorithm::vegas
                                  ? follow<vegas_rule>(w)
                                  : follow<gradient_rule>(w);
        if (wanted > limit_) return wanted;
        double const probe = baseline_.start_probe(w, limit_);
        return probe > 0 ? probe : wanted;
    }

    // The end of a probe brings back the limit from before it, which would be too much now.
    double next_dropped(limit_window const& w) noexcept {
        if (baseline_.probing()) baseline_.give_up_probe();
        else if (w.latency > 0) baseline_.observe(w);
        return restart(limit_ * options_.drop_factor());
    }

    double next_aimd(limit_window const& w, bool dropped) const noexcept {
        auto const threshold = static_cast<double>(options_.latency_threshold().count());
        if (dropped || (threshold > 0 && w.latency > threshold))
            return limit_ * options_.drop_factor();
        return grown_by(1, w);
    }

    template <class Rule>
    double follow(limit_window const& w) noexcept {
        double const base = baseline_.latency();
        if (Rule::queue_seen(w, base)) {
            // A limit that keeps hardly anybody out makes no queue: this may be chance.
            if (!w.limited() && w.latency < unmistakable * base) return limit_;
            return restart(Rule::shrink(w, base, limit_));
        }
        if (!uses_limit(w)) return limit_;
        double const growth = growth_;
        growth_ = std::min(0.4, 2 * growth_);
        return grown_by(std::max(1.0, growth * limit_), w);
    }

    double restart(double limit) noexcept {
        growth_ = 0.05;
        return limit;
    }

    // Never above twice of what was in use.
    double grown_by(double calls, limit_window const& w) const noexcept {
        return std::max(limit_, std::min(limit_ + calls, 2.0 * w.max_in_flight));
    }

    bool uses_limit(limit_window const& w) const noexcept { return 2 * w.max_in_flight >= limit_; }

    static constexpr double unmistakable = 1.3;

    concurrency_limit_options options_;
    double limit_;
    double growth_ = 0.4; // of the next growth: there is no queue known of yet
    latency_baseline baseline_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
