// SPDX-License-Identifier: BSL-1.0
// The arithmetic of a token bucket that counts what was granted, not what is left.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// A product of two 64-bit numbers, or as much of it as one asks for.
struct wide_product {
    std::uint64_t high;
    std::uint64_t low;

    static constexpr wide_product of(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
        __extension__ using wide = unsigned __int128;
        wide const product = static_cast<wide>(a) * b;
        return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
#else
        std::uint64_t const a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
        std::uint64_t const middle = a1 * b0 + (a0 * b0 >> 32);
        std::uint64_t const carry = (middle & 0xffffffff) + a0 * b1;
        return {a1 * b1 + (middle >> 32) + (carry >> 32), a * b};
#endif
    }

    /// The product shifted right; must fit. `shift` is 0 to 127.
    constexpr std::uint64_t shifted(std::uint64_t shift) const noexcept {
        if (shift == 0) return low;
        if (shift >= 64) return high >> (shift - 64);
        return high << (64 - shift) | low >> shift;
    }

    /// floor(a * b / divisor); must fit.
    static constexpr std::uint64_t divided(std::uint64_t a, std::uint64_t b,
                                           std::uint64_t divisor) noexcept {
        wide_product const p = of(a, b);
        std::uint64_t quotient = 0;
        std::uint64_t rest = p.high % divisor;
        for (int bit = 63; bit >= 0; --bit) { // schoolbook: not on any fast path
            bool const carry = rest >> 63;
            rest = rest << 1 | (p.low >> bit & 1);
            bool const one = carry || rest >= divisor;
            if (one) rest -= divisor;
            quotient = quotient << 1 | (one ? 1u : 0u);
        }
        return quotient;
    }
};

/// A token bucket of `burst` permits that fills at `permits` per `period`, as integers.
///
/// A permit is `per_permit` units. The bucket earns units with time; beside it there is one number,
/// the units granted so far. A request is admitted if what was granted with it does not exceed what
/// was earned, and what is not used within a burst is forfeited by raising the granted units. This
/// is the generic cell rate algorithm (ITU-T I.371) with the arrival time counted in units: there
/// is no interval between permits, so none is rounded. Where permits and period (in lowest terms),
/// times the burst, fit 53 bits, a nanosecond earns a whole number of units and all of it is exact;
/// otherwise the rate is low by less than 2^-60 of itself, and a unit is at most 2^-52 of a burst.
///
/// Plain values, no state that changes: the granted units are passed in and out, so that they can
/// live in an atomic word. Times are nanoseconds of any monotonic clock.
class bucket_terms {
public:
    using nanoseconds = std::int64_t;

    /// Limits on what the constructor takes: 1 <= permits <= period (a billion a second),
    /// period <= 2^62 ns, 1 <= burst <= max_burst.
    static constexpr std::uint64_t max_burst = std::uint64_t{1} << 52;
    /// What `take` returns when it refuses.
    static constexpr std::uint64_t refused = ~std::uint64_t{0};
    /// Granted units stay below this, so that a word has room for flags.
    static constexpr std::uint64_t units_limit = std::uint64_t{1} << 56;

    bucket_terms() = default;

    bucket_terms(std::uint64_t permits, std::uint64_t period, std::uint64_t burst,
                 nanoseconds epoch) noexcept
        : epoch_(epoch) {
        std::uint64_t const common = std::gcd(permits, period);
        if (period / common <= max_burst / burst && permits / common <= max_units_per_ns) {
            per_permit_ = period / common;
            multiplier_ = permits / common;
        } else {
            scale(permits, period, burst);
        }
        burst_ = burst * per_permit_;
        double const units_per_ns = std::ldexp(static_cast<double>(multiplier_), -shift());
        double const horizon = std::ldexp(1.0, 54) / units_per_ns;
        horizon_ = horizon < 9e18 ? static_cast<std::uint64_t>(horizon) : max_elapsed;
    }

    std::uint64_t units(std::uint64_t permits) const noexcept { return permits * per_permit_; }
    std::uint64_t permits(std::uint64_t units) const noexcept { return units / per_permit_; }
    std::uint64_t burst() const noexcept { return burst_; } // in units
    nanoseconds epoch() const noexcept { return epoch_; }

    /// False when `now` is before the epoch or so late that the terms have to be made anew, with
    /// `carry_over`.
    bool covers(nanoseconds now) const noexcept { return since_epoch(now) <= horizon_; }

    /// Units earned by `now`, which must be covered, or nearly. They start at a burst, so that a
    /// full bucket has granted nothing.
    std::uint64_t earned(nanoseconds now) const noexcept {
        return burst_ + wide_product::of(since_epoch(now), multiplier_).shifted(shift_);
    }

    /// True if the bucket holds a burst.
    bool full(std::uint64_t granted, std::uint64_t earned) const noexcept {
        return granted <= earned - burst_;
    }

    /// The granted units after `need` more, or `refused`. A need above the burst is admitted when
    /// the bucket is full, and repaid by those who come later.
    std::uint64_t take(std::uint64_t granted, std::uint64_t earned,
                       std::uint64_t need) const noexcept {
        if (full(granted, earned)) return earned - burst_ + forfeited_fraction() + need;
        return granted + std::min(need, burst_) <= earned ? granted + need : refused;
    }

    /// Units in the bucket; 0 in debt.
    std::uint64_t available(std::uint64_t granted, std::uint64_t earned) const noexcept {
        if (full(granted, earned)) return burst_;
        return granted < earned ? earned - granted : 0;
    }

    /// The first time at which `take(granted, earned(time), need)` admits, if nothing else is
    /// granted until then; the latest time there is when that is too far away.
    nanoseconds when(std::uint64_t granted, std::uint64_t need) const noexcept {
        std::uint64_t const wanted = granted + std::min(need, burst_);
        if (wanted <= burst_) return epoch_;
        std::uint64_t elapsed = elapsed_for(wanted - burst_);
        // New terms will be needed by then, which may cost a fraction of a unit.
        if (shift_ != 0 && elapsed > horizon_) elapsed += 1 + elapsed_for(1);
        if (elapsed >= max_elapsed) return std::numeric_limits<nanoseconds>::max();
        auto const room = static_cast<std::uint64_t>(std::numeric_limits<nanoseconds>::max()) -
                          static_cast<std::uint64_t>(epoch_);
        return elapsed < room
                   ? static_cast<nanoseconds>(static_cast<std::uint64_t>(epoch_) + elapsed)
                   : std::numeric_limits<nanoseconds>::max();
    }

    /// Granted units at the epoch of these terms that leave what `old` left at `then`: permits in
    /// the bucket, at most a burst, or debt, at most `most_debt` permits.
    std::uint64_t carry_over(bucket_terms const& old, std::uint64_t granted, nanoseconds then,
                             std::uint64_t most_debt) const noexcept {
        // So long after the last grant that any debt is repaid.
        if (old.since_epoch(then) / 4 > old.horizon_) return 0;
        std::uint64_t const earned = old.earned(then);
        if (granted <= earned) {
            std::uint64_t const left = std::min(earned - granted, old.burst_);
            return burst_ - std::min(burst_, converted(left, old));
        }
        std::uint64_t const owed = std::min(granted - earned, old.units(most_debt));
        return burst_ + converted(owed, old) + (old.per_permit_ == per_permit_ ? 0 : 1);
    }

private:
    static constexpr std::uint64_t max_elapsed = std::uint64_t{1} << 62;
    // Bounds what a horizon lasts from below: 2^54 units at 2^24 a nanosecond are one second.
    static constexpr std::uint64_t max_units_per_ns = std::uint64_t{1} << 24;

    // Not exact: as many units a permit as fit, and a multiplier of 62 bits or more.
    void scale(std::uint64_t permits, std::uint64_t period, std::uint64_t burst) noexcept {
        per_permit_ = max_burst / burst;
        while (per_permit_ > 1 && (per_permit_ > (std::uint64_t{1} << 62) / permits ||
                                   per_permit_ * permits / period >= max_units_per_ns)) {
            per_permit_ /= 2;
        }
        std::uint64_t const each_period = per_permit_ * permits;
        multiplier_ = each_period / period;
        std::uint64_t rest = each_period % period;
        while (multiplier_ < std::uint64_t{1} << 61 && shift_ < 120) {
            rest *= 2;
            multiplier_ = multiplier_ * 2 + (rest >= period ? 1 : 0);
            if (rest >= period) rest -= period;
            ++shift_;
        }
    }

    std::uint64_t converted(std::uint64_t units, bucket_terms const& from) const noexcept {
        return wide_product::divided(units, per_permit_, from.per_permit_);
    }

    std::uint64_t since_epoch(nanoseconds now) const noexcept {
        return static_cast<std::uint64_t>(now) - static_cast<std::uint64_t>(epoch_);
    }

    // The smallest elapsed time that earns `units`.
    std::uint64_t elapsed_for(std::uint64_t units) const noexcept {
        if (shift_ == 0) return units / multiplier_ + (units % multiplier_ ? 1 : 0);
        double const about =
            std::ldexp(static_cast<double>(units) / static_cast<double>(multiplier_), shift());
        if (about >= static_cast<double>(max_elapsed)) return max_elapsed;
        auto const guess = static_cast<std::uint64_t>(about);
        std::uint64_t const error = (guess >> 50) + 2;
        std::uint64_t low = guess > error ? guess - error : 0;
        for (std::uint64_t high = guess + error; low < high;) {
            std::uint64_t const middle = low + (high - low) / 2;
            if (wide_product::of(middle, multiplier_).shifted(shift_) >= units) high = middle;
            else low = middle + 1;
        }
        return low;
    }

    // Earned units are rounded down, so a full bucket has to forget the fraction of one.
    std::uint64_t forfeited_fraction() const noexcept { return shift_ == 0 ? 0 : 1; }

    int shift() const noexcept { return static_cast<int>(shift_); }

    nanoseconds epoch_ = 0;
    std::uint64_t multiplier_ = 0; // units a nanosecond, times 2^shift
    std::uint64_t per_permit_ = 1;
    std::uint64_t burst_ = 0;
    std::uint64_t horizon_ = 0;
    std::uint64_t shift_ = 0; // no padding: the object is copied word by word
};

/// A token bucket for one thread: `bucket_terms` together with the number that changes.
class token_bucket {
public:
    /// Starts full, or empty. See `bucket_terms` for what is allowed.
    token_bucket(std::uint64_t permits, std::chrono::nanoseconds period, std::uint64_t burst,
                 std::int64_t now, bool full = true) noexcept
        : terms_(permits, static_cast<std::uint64_t>(period.count()), burst, now),
          granted_(full ? 0 : terms_.burst()),
          permits_(permits),
          period_(static_cast<std::uint64_t>(period.count())),
          burst_(burst) {}

    /// Takes `n` permits, at most a burst, if they are there.
    bool take(std::uint64_t n, std::int64_t now) noexcept {
        settle(now);
        std::uint64_t const after = terms_.take(granted_, terms_.earned(now), terms_.units(n));
        if (after == bucket_terms::refused) return false;
        granted_ = after;
        return true;
    }

    /// Gives back `n` permits that were taken and not used. A bucket never holds more than a burst.
    void refund(std::uint64_t n) noexcept { granted_ -= std::min(granted_, terms_.units(n)); }

    /// When `n` permits can be taken, if nothing else is.
    std::int64_t when(std::uint64_t n, std::int64_t now) noexcept {
        settle(now);
        return std::max(now, terms_.when(granted_, terms_.units(n)));
    }

    /// Whole permits that are there.
    std::uint64_t available(std::int64_t now) noexcept {
        settle(now);
        return terms_.permits(terms_.available(granted_, terms_.earned(now)));
    }

    void set_rate(std::uint64_t permits, std::chrono::nanoseconds period, std::uint64_t burst,
                  std::int64_t now) noexcept {
        settle(now);
        permits_ = permits;
        period_ = static_cast<std::uint64_t>(period.count());
        burst_ = burst;
        renew(now);
    }

private:
    // Makes the terms cover `now`. A clock that went back before the epoch leaves the bucket as it
    // was then, and one that went back at all never holds up longer than filling a bucket takes.
    void settle(std::int64_t now) noexcept {
        if (!terms_.covers(now)) renew(now);
        if (granted_ > terms_.earned(now) + terms_.burst()) granted_ = terms_.earned(now);
    }

    void renew(std::int64_t now) noexcept {
        bucket_terms const before = terms_;
        terms_ = bucket_terms(permits_, period_, burst_, now);
        std::int64_t const then = std::max(now, before.epoch());
        granted_ = terms_.carry_over(before, granted_, then, 0);
    }

    bucket_terms terms_;
    std::uint64_t granted_;
    std::uint64_t permits_;
    std::uint64_t period_;
    std::uint64_t burst_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
