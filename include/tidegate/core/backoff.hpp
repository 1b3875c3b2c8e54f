// SPDX-License-Identifier: BSL-1.0
// How long to pause before trying again.
#pragma once

#include <tidegate/core/unit_interval.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// How much of a pause is left to chance, so that callers that failed together do not come back
/// together. Names as in M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
enum class jitter {
    /// The pause itself.
    none,
    /// Anything from zero to the pause.
    full,
    /// Half of the pause, and anything up to the other half.
    equal,
    /// Anything from the base to three times the pause before, or the cap if that is less.
    decorrelated,
};

/// Pauses of `base * multiplier^(n - 1)`, at most `cap`, with jitter. The cap is applied before the
/// jitter: afterwards it would heap many of the random pauses on one value. O(1) for every retry
/// that a 32-bit number can count; no overflow.
class backoff {
public:
    using duration = std::chrono::nanoseconds;

    /// 1 <= base <= cap, 1 <= multiplier.
    backoff(duration base, double multiplier, duration cap, jitter kind) noexcept
        : base_(static_cast<double>(base.count())),
          multiplier_(multiplier),
          cap_(static_cast<double>(cap.count())),
          jitter_(kind) {}

    /// The pause before retry `n` (1 comes after the first attempt) without jitter.
    duration nominal(std::uint32_t n) const noexcept {
        return in_range(base_ * std::pow(multiplier_, static_cast<double>(n) - 1));
    }

    /// The pause before retry `n`; `previous` is the one before that, zero before the first.
    template <class Random>
    duration pause(std::uint32_t n, duration previous, Random& random) const {
        duration const whole = nominal(n);
        switch (jitter_) {
        case jitter::none: return whole;
        case jitter::full: return between(duration(0), whole, random);
        case jitter::equal: return between(whole / 2, whole, random);
        case jitter::decorrelated: break;
        }
        duration const base = in_range(base_);
        double const before = static_cast<double>(std::max(previous, base).count());
        return between(base, in_range(3 * before), random);
    }

private:
    duration in_range(double nanoseconds) const noexcept {
        constexpr double most = 9.2e18; // fits the integer
        return duration(static_cast<std::int64_t>(std::min({nanoseconds, cap_, most})));
    }

    template <class Random>
    static duration between(duration low, duration high, Random& random) {
        double const range = static_cast<double>((high - low).count()) + 1;
        auto const beyond = static_cast<std::int64_t>(range * in_unit_interval(random));
        return std::min(low + duration(beyond), high); // a long range may have been rounded up
    }

    double base_;
    double multiplier_;
    double cap_;
    jitter jitter_;
};

} // namespace core

using core::jitter;

TIDEGATE_END_NAMESPACE
