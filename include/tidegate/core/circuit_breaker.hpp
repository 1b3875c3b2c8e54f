// SPDX-License-Identifier: BSL-1.0
// What a circuit breaker decides: when to trip, for how long, and when to trust again.
#pragma once

#include <tidegate/core/unit_interval.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Calls, and how many of them failed or were slow.
struct call_counts {
    std::uint64_t calls = 0;
    std::uint64_t failures = 0;
    std::uint64_t slow = 0;

    friend bool operator==(call_counts const&, call_counts const&) = default;
};

/// Shares above which a breaker trips, in per cent; above 100 for never.
struct trip_rule {
    double failure_rate = 50;
    double slow_call_rate = 101;
    std::uint64_t minimum_calls = 1;

    bool trips(call_counts const& c) const noexcept {
        return c.calls >= minimum_calls && (reached(c.failures, c.calls, failure_rate) ||
                                            reached(c.slow, c.calls, slow_call_rate));
    }
    /// Whether `count` of `calls` are `percent` or more.
    static bool reached(std::uint64_t count, std::uint64_t calls, double percent) noexcept {
        return static_cast<double>(count) * 100 >= percent * static_cast<double>(calls);
    }
};

/// The calls of the last so many nanoseconds, to within one slice of that time. `record` and
/// `counts` are O(1), apart from slices that have passed since. Times must not go back; earlier
/// ones count as the latest.
class time_window {
public:
    using nanoseconds = std::int64_t;

    /// 1 slice or more, each 1 ns or more long.
    time_window(nanoseconds length, std::size_t slices)
        : slice_length_(std::max<nanoseconds>(1, length / static_cast<nanoseconds>(slices))),
          slices_(slices) {}

    void record(nanoseconds now, bool failed, bool slow) {
        move_to(now);
        call_counts& slice = slices_[static_cast<std::size_t>(current_) % slices_.size()];
        for (call_counts* c : {&slice, &total_}) {
            ++c->calls;
            c->failures += failed;
            c->slow += slow;
        }
    }

    call_counts counts(nanoseconds now) {
        move_to(now);
        return total_;
    }

    bool has_shape(nanoseconds length, std::size_t slices) const noexcept {
        return slices_.size() == slices &&
               slice_length_ == std::max<nanoseconds>(1, length / static_cast<nanoseconds>(slices));
    }

    void clear() {
        std::fill(slices_.begin(), slices_.end(), call_counts());
        total_ = {};
    }

private:
    void move_to(nanoseconds now) {
        nanoseconds const slice = now / slice_length_;
        if (slice <= current_) return;
        if (slice - current_ >= static_cast<nanoseconds>(slices_.size())) {
            clear();
            current_ = slice;
            return;
        }
        while (current_ < slice) {
            call_counts& oldest = slices_[static_cast<std::size_t>(++current_) % slices_.size()];
            total_.calls -= oldest.calls;
            total_.failures -= oldest.failures;
            total_.slow -= oldest.slow;
            oldest = {};
        }
    }

    nanoseconds slice_length_;
    std::vector<call_counts> slices_;
    nanoseconds current_ = 0;
    call_counts total_;
};

/// How long a breaker stays open: `base * growth^(n - 1)` at its n-th trip in a row, at most `cap`
/// or the base if that is longer, give or take a share for jitter, so that not all come back at the
/// same moment.
struct open_schedule {
    std::chrono::nanoseconds base = std::chrono::seconds(5);
    double growth = 1;
    std::chrono::nanoseconds cap = std::chrono::minutes(5);
    double jitter = 0;

    template <class Random>
    std::chrono::nanoseconds duration(std::uint32_t trips_in_a_row, Random& random) const {
        double const grown = static_cast<double>(base.count()) *
                             std::pow(growth, static_cast<double>(trips_in_a_row) - 1);
        double const capped = std::min(grown, static_cast<double>(std::max(base, cap).count()));
        double const factor = jitter > 0 ? 1 + jitter * (2 * in_unit_interval(random) - 1) : 1;
        return std::chrono::nanoseconds(
            static_cast<std::int64_t>(std::clamp(capped * factor, 1.0, 9.2e18)));
    }
};

/// The probes of a half-open breaker. At most `permitted` are out or have reported at any time. A
/// probe is a lease: one that does not report in time is forgotten, and its place is free again. A
/// probe that is taken back is no evidence.
class probes {
public:
    using nanoseconds = std::int64_t;
    enum class verdict { undecided, healthy, sick };

    /// Names a probe that is out; 0 is none.
    using id = std::uint64_t;

    probes(std::size_t permitted, nanoseconds lease_time)
        : permitted_(permitted), leases_(permitted), lease_(lease_time) {}

    /// Other rules: forgets what was reported. Probes that are out stay out, and nobody takes their
    /// places; if they are more than permitted now, none starts until they are fewer.
    void restart(std::size_t permitted, nanoseconds lease_time) {
        std::erase_if(leases_, [](lease const& one) { return one.state != lease::is_out; });
        leases_.resize(std::max(permitted, leases_.size()));
        permitted_ = permitted;
        lease_ = lease_time;
        counts_ = {};
    }

    /// 0 when all permitted probes are out or have reported.
    id start(nanoseconds now) {
        if (!has_place(now)) return 0;
        for (lease& one : leases_) {
            if (one.state == lease::is_out && one.expires <= now) one.state = lease::is_free;
            if (one.state != lease::is_free) continue;
            one = {lease::is_out, now > max_time - lease_ ? max_time : now + lease_, ++last_};
            return last_;
        }
        return 0;
    }

    /// False for a probe that is not out any more, be it that its lease has run out.
    bool report(id probe, nanoseconds now, bool failed, bool slow) {
        lease* const one = find(probe);
        if (!one || one->expires <= now) return false;
        one->state = lease::has_reported;
        ++counts_.calls;
        counts_.failures += failed;
        counts_.slow += slow;
        return true;
    }

    void take_back(id probe) {
        if (lease* const one = find(probe)) one->state = lease::is_free;
    }

    /// Decides as soon as the outstanding results cannot change it.
    verdict decide(trip_rule const& rule) const {
        std::uint64_t const all = permitted_;
        std::uint64_t const open = all - std::min(all, counts_.calls);
        auto const sick = [&](std::uint64_t more) {
            return trip_rule::reached(counts_.failures + more, all, rule.failure_rate) ||
                   trip_rule::reached(counts_.slow + more, all, rule.slow_call_rate);
        };
        if (sick(0)) return verdict::sick;
        return sick(open) ? verdict::undecided : verdict::healthy;
    }

    std::size_t out(nanoseconds now) const {
        return static_cast<std::size_t>(
            std::count_if(leases_.begin(), leases_.end(), [&](lease const& one) {
                return one.state == lease::is_out && one.expires > now;
            }));
    }
    /// Whether another one may start.
    bool has_place(nanoseconds now) const { return out(now) + counts_.calls < permitted_; }
    call_counts const& counts() const { return counts_; }

    /// When the next lease runs out; the latest time if none is out.
    nanoseconds next_expiry(nanoseconds now) const {
        nanoseconds first = max_time;
        for (lease const& one : leases_) {
            if (one.state == lease::is_out && one.expires > now) {
                first = std::min(first, one.expires);
            }
        }
        return first;
    }

private:
    static constexpr nanoseconds max_time = std::numeric_limits<nanoseconds>::max();

    struct lease {
        enum place { is_free, is_out, has_reported } state = is_free;
        nanoseconds expires = 0;
        id probe = 0;
    };

    lease* find(id probe) {
        auto const one = std::find_if(leases_.begin(), leases_.end(), [&](lease const& l) {
            return l.state == lease::is_out && l.probe == probe;
        });
        return one == leases_.end() ? nullptr : &*one;
    }

    std::size_t permitted_;
    std::vector<lease> leases_; // more than permitted only until those of a `restart` are back
    nanoseconds lease_;
    id last_ = 0;
    call_counts counts_;
};

/// Lets a growing share of calls through after a recovery, instead of all at once. In each step at
/// most one call more than the step's share of those that asked is admitted.
class ramp {
public:
    using nanoseconds = std::int64_t;

    /// Shares between 0 and 1, each for `step` nanoseconds; none for no ramp.
    ramp(std::vector<double> shares, nanoseconds step, nanoseconds start)
        : shares_(std::move(shares)), step_(step), start_(start) {}

    bool over(nanoseconds now) const { return step_of(now) >= shares_.size(); }

    /// When all calls are admitted again.
    nanoseconds end() const {
        if (step_ <= 0 || shares_.empty()) return start_;
        constexpr nanoseconds latest = std::numeric_limits<nanoseconds>::max();
        auto const steps = static_cast<nanoseconds>(shares_.size());
        return (latest - std::max<nanoseconds>(0, start_)) / step_ < steps ? latest
                                                                           : start_ + steps * step_;
    }

    bool admit(nanoseconds now) {
        std::size_t const step = step_of(now);
        if (step >= shares_.size()) return true;
        if (step != current_) {
            current_ = step;
            credit_ = 0;
        }
        credit_ += static_cast<std::uint64_t>(std::llround(shares_[step] * one));
        if (credit_ < one) return false;
        credit_ -= one;
        return true;
    }

private:
    std::size_t step_of(nanoseconds now) const {
        if (step_ <= 0 || shares_.empty()) return shares_.size();
        return now < start_ ? 0 : static_cast<std::size_t>((now - start_) / step_);
    }

    static constexpr std::uint64_t one = 1'000'000'000; // of which shares are counted

    std::vector<double> shares_;
    nanoseconds step_;
    nanoseconds start_;
    std::size_t current_ = 0;
    std::uint64_t credit_ = 0;
};

} // namespace core
TIDEGATE_END_NAMESPACE
