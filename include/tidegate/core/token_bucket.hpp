// SPDX-License-Identifier: BSL-1.0
// The arithmetic of a token bucket that counts what was granted, not what is left.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>

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

/// How fast units are earned: `multiplier * 2^-shift` a nanosecond. Exact if `shift` is 0.
class fill_rate {
public:
    static constexpr std::uint64_t never = std::uint64_t{1} << 62;

    fill_rate() = default;
    fill_rate(std::uint64_t multiplier, std::uint64_t shift) noexcept
        : multiplier_(multiplier), shift_(shift) {
        double const horizon = std::ldexp(std::ldexp(1.0, 54) / static_cast<double>(multiplier),
                                          static_cast<int>(shift));
        horizon_ =
            horizon < static_cast<double>(never) ? static_cast<std::uint64_t>(horizon) : never;
    }

    bool is_exact() const noexcept { return shift_ == 0; }

    /// The time that earns 2^54 units; later, one has to count from another epoch.
    std::uint64_t horizon() const noexcept { return horizon_; }

    std::uint64_t earned(std::uint64_t elapsed) const noexcept {
        return wide_product::of(elapsed, multiplier_).shifted(shift_);
    }

    /// The shortest time that earns `units`, and a little more where a new epoch lies in between,
    /// which may cost a fraction of a unit; at most `never`.
    std::uint64_t time_for(std::uint64_t units) const noexcept {
        if (is_exact()) return units / multiplier_ + (units % multiplier_ ? 1 : 0);
        std::uint64_t const time = search(units);
        return time > horizon_ ? std::min(never, time + 1 + search(1)) : time;
    }

    /// The same of more units than a word can hold, to within a part in 2^50.
    std::uint64_t rough_time_for(double units) const noexcept {
        double const about =
            std::ldexp(units / static_cast<double>(multiplier_), static_cast<int>(shift_));
        if (about >= static_cast<double>(never)) return never;
        return static_cast<std::uint64_t>(about);
    }

private:
    std::uint64_t search(std::uint64_t units) const noexcept {
        std::uint64_t const guess = rough_time_for(static_cast<double>(units));
        if (guess == never) return never;
        std::uint64_t const error = (guess >> 50) + 2;
        std::uint64_t low = guess > error ? guess - error : 0;
        for (std::uint64_t high = guess + error; low < high;) {
            std::uint64_t const middle = low + (high - low) / 2;
            if (earned(middle) >= units) high = middle;
            else low = middle + 1;
        }
        return low;
    }

    friend class bucket_terms;

    std::uint64_t multiplier_ = 1;
    std::uint64_t shift_ = 0;
    std::uint64_t horizon_ = 0;
};

/// A refusal as it was found. How long to wait costs a division, so it is worked out only for those
/// who ask.
class bucket_refusal {
public:
    bucket_refusal() = default;
    /// The wait is known: as if a unit a nanosecond were earned from now on.
    explicit bucket_refusal(std::int64_t wait) noexcept
        : bucket_refusal(fill_rate(1, 0), static_cast<std::uint64_t>(wait), 0) {}
    /// `wanted` units since the epoch of which `elapsed` nanoseconds have passed.
    bucket_refusal(fill_rate const& rate, std::uint64_t wanted, std::uint64_t elapsed) noexcept
        : rate_(rate), wanted_(wanted), elapsed_(elapsed) {}

    /// Nanoseconds until the request is admitted if nothing else is; the largest number for never.
    std::int64_t wait() const noexcept {
        std::uint64_t const time = rate_.time_for(wanted_);
        if (time >= fill_rate::never) return std::numeric_limits<std::int64_t>::max();
        return time > elapsed_ ? static_cast<std::int64_t>(time - elapsed_) : 0;
    }

private:
    fill_rate rate_;
    std::uint64_t wanted_ = 0;
    std::uint64_t elapsed_ = 0;
};

/// A token bucket of `burst` permits that fills at `permits` per `period`, as integers.
///
/// A permit is `per_permit` units. The bucket earns units with time; beside it there is one number,
/// the units granted so far. A request is admitted if what was granted with it does not exceed what
/// was earned, and what is not used within a burst is forfeited by raising the granted units. This
/// is the generic cell rate algorithm (ITU-T I.371) with the arrival time counted in units: there
/// is no interval between permits, so none is rounded. Where, in lowest terms, the permits are at
/// most `most_per_ns` and the period times the burst at most 2^52, a nanosecond earns a whole
/// number of units and all of it is exact; otherwise the rate is low by less than 2^-60 of itself,
/// and a permit is as many units as there is room for, at most 2^52 in a burst.
///
/// Plain values, no state that changes: the granted units are passed in and out, so that they can
/// live in an atomic word. Times are nanoseconds of any monotonic clock.
class bucket_terms {
public:
    using nanoseconds = std::int64_t;

    /// Limits on what the constructor takes: 1 <= permits <= period (a billion a second),
    /// period <= 2^62 ns, 1 <= burst. A burst above max_burst counts as that.
    static constexpr std::uint64_t max_burst = std::uint64_t{1} << 52;
    /// Bounds what a horizon lasts from below: 2^54 units at 2^24 a nanosecond are one second.
    static constexpr std::uint64_t max_units_per_ns = std::uint64_t{1} << 24;
    /// What `take` returns when it refuses.
    static constexpr std::uint64_t refused = ~std::uint64_t{0};
    /// Granted units stay below this, so that a word has room for flags.
    static constexpr std::uint64_t units_limit = std::uint64_t{1} << 56;

    bucket_terms() = default;

    /// `most_per_ns` bounds the units that a nanosecond earns, 2 or more: fewer are less exact and
    /// last longer. `most` permits can be asked for and owed, or a burst if that is more.
    bucket_terms(std::uint64_t permits, std::uint64_t period, std::uint64_t burst,
                 nanoseconds epoch, std::uint64_t most_per_ns = max_units_per_ns,
                 std::uint64_t most = 0) noexcept
        : epoch_(epoch) {
        burst = std::min(burst, max_burst);
        most = std::clamp(most, burst, max_burst);
        std::uint64_t const common = std::gcd(permits, period);
        if (period / common <= max_burst / most && permits / common <= most_per_ns) {
            per_permit_ = period / common;
            rate_ = fill_rate(permits / common, 0);
        } else {
            scale(permits, period, most, most_per_ns);
        }
        burst_ = burst * per_permit_;
    }

    /// Terms that need not be made anew for 146 years, for those who have 64 bits for the granted
    /// units: of two units a nanosecond at most.
    static bucket_terms lasting(std::uint64_t permits, std::uint64_t period, std::uint64_t burst,
                                nanoseconds epoch) noexcept {
        bucket_terms terms(permits, period, burst, epoch, 2);
        terms.rate_.horizon_ = fill_rate::never;
        return terms;
    }

    /// The same from another epoch.
    bucket_terms from_epoch(nanoseconds epoch) const noexcept {
        bucket_terms moved = *this;
        moved.epoch_ = epoch;
        return moved;
    }

    std::uint64_t units(std::uint64_t permits) const noexcept { return permits * per_permit_; }
    std::uint64_t permits(std::uint64_t units) const noexcept { return units / per_permit_; }
    std::uint64_t burst() const noexcept { return burst_; } // in units
    nanoseconds epoch() const noexcept { return epoch_; }

    /// False when `now` is before the epoch or so late that the terms have to be made anew, with
    /// `carry_over`.
    bool covers(nanoseconds now) const noexcept { return since_epoch(now) <= rate_.horizon(); }

    /// Units earned by `now`, which must be covered, or nearly. They start at a burst, so that a
    /// full bucket has granted nothing.
    [[gnu::always_inline]] std::uint64_t earned(nanoseconds now) const noexcept {
        return burst_ + rate_.earned(since_epoch(now));
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

    /// Units owed at `now`, which need not be covered but by later terms.
    std::uint64_t debt(std::uint64_t granted, nanoseconds now) const noexcept {
        if (all_repaid(now)) return 0;
        return granted - std::min(granted, earned(now));
    }

    /// The first time at which `take(granted, earned(time), need)` admits, if nothing else is
    /// granted until then; the latest time there is when that is too far away.
    nanoseconds when(std::uint64_t granted, std::uint64_t need) const noexcept {
        std::uint64_t const wanted = granted + std::min(need, burst_);
        if (wanted <= burst_) return epoch_;
        return time_after(rate_.time_for(wanted - burst_));
    }

    /// The same behind others that want `ahead` permits, however many.
    nanoseconds when(std::uint64_t granted, std::uint64_t ahead,
                     std::uint64_t need) const noexcept {
        std::uint64_t const own = granted + std::min(need, burst_);
        if (ahead <= (~std::uint64_t{0} - own) / per_permit_) {
            return when(granted + units(ahead), need);
        }
        double const others = static_cast<double>(ahead) * static_cast<double>(per_permit_);
        double const missing = static_cast<double>(own) - static_cast<double>(burst_);
        return time_after(rate_.rough_time_for(others + missing));
    }

    /// The same as a refusal, which works it out when asked.
    bucket_refusal refusal(std::uint64_t granted, std::uint64_t need,
                           nanoseconds now) const noexcept {
        return {rate_, granted + std::min(need, burst_) - burst_, since_epoch(now)};
    }

    /// Granted units at the epoch of these terms that leave what `old` left at `then`: permits in
    /// the bucket, at most a burst, or debt, at most `most_debt` units of `old`.
    std::uint64_t carry_over(bucket_terms const& old, std::uint64_t granted, nanoseconds then,
                             std::uint64_t most_debt) const noexcept {
        if (old.all_repaid(then)) return burst_ - converted(old.burst_, old, burst_);
        std::uint64_t const earned = old.earned(then);
        if (granted <= earned) {
            return burst_ - converted(std::min(earned - granted, old.burst_), old, burst_);
        }
        std::uint64_t const owed = std::min(granted - earned, most_debt);
        return burst_ + converted(owed, old, max_burst) + (old.per_permit_ == per_permit_ ? 0 : 1);
    }

    /// For publishing the terms to readers without a lock.
    static constexpr std::size_t word_count = 6;
    std::array<std::uint64_t, word_count> words() const noexcept {
        return {static_cast<std::uint64_t>(epoch_),
                rate_.multiplier_,
                rate_.shift_,
                rate_.horizon_,
                per_permit_,
                burst_};
    }
    static bucket_terms from_words(std::uint64_t epoch, std::uint64_t multiplier,
                                   std::uint64_t shift, std::uint64_t horizon,
                                   std::uint64_t per_permit, std::uint64_t burst) noexcept {
        bucket_terms terms;
        terms.epoch_ = static_cast<nanoseconds>(epoch);
        terms.rate_.multiplier_ = multiplier;
        terms.rate_.shift_ = shift;
        terms.rate_.horizon_ = horizon;
        terms.per_permit_ = per_permit;
        terms.burst_ = burst;
        return terms;
    }

private:
    // Not exact: as many units a permit as fit, and a multiplier of 62 bits or more.
    void scale(std::uint64_t permits, std::uint64_t period, std::uint64_t most,
               std::uint64_t most_per_ns) noexcept {
        per_permit_ = max_burst / most;
        while (per_permit_ > 1 && (per_permit_ > (std::uint64_t{1} << 62) / permits ||
                                   per_permit_ * permits / period >= most_per_ns)) {
            per_permit_ /= 2;
        }
        std::uint64_t const each_period = per_permit_ * permits;
        std::uint64_t multiplier = each_period / period;
        std::uint64_t shift = 0;
        for (std::uint64_t rest = each_period % period; multiplier < std::uint64_t{1} << 61;
             ++shift) { // 123 times at most
            rest *= 2;
            multiplier = multiplier * 2 + (rest >= period ? 1 : 0);
            if (rest >= period) rest -= period;
        }
        rate_ = fill_rate(multiplier, shift);
    }

    std::uint64_t converted(std::uint64_t units, bucket_terms const& from,
                            std::uint64_t most) const noexcept {
        if (units / from.per_permit_ > most / per_permit_) return most; // or it might not fit
        return std::min(most, wide_product::divided(units, per_permit_, from.per_permit_));
    }

    // So long after the last grant that there can be no debt, and too long to count.
    bool all_repaid(nanoseconds now) const noexcept {
        return since_epoch(now) / 4 > rate_.horizon();
    }

    std::uint64_t since_epoch(nanoseconds now) const noexcept {
        return static_cast<std::uint64_t>(now) - static_cast<std::uint64_t>(epoch_);
    }

    nanoseconds time_after(std::uint64_t elapsed) const noexcept {
        constexpr nanoseconds latest = std::numeric_limits<nanoseconds>::max();
        std::uint64_t const room =
            static_cast<std::uint64_t>(latest) - static_cast<std::uint64_t>(epoch_);
        if (elapsed >= fill_rate::never || elapsed >= room) return latest;
        return static_cast<nanoseconds>(static_cast<std::uint64_t>(epoch_) + elapsed);
    }

    // Earned units are rounded down, so a full bucket has to forget the fraction of one.
    std::uint64_t forfeited_fraction() const noexcept { return rate_.is_exact() ? 0 : 1; }

    nanoseconds epoch_ = 0;
    fill_rate rate_;
    std::uint64_t per_permit_ = 1;
    std::uint64_t burst_ = 0;
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
