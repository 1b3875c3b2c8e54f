// SPDX-License-Identifier: BSL-1.0
// What a circuit breaker should do, worked out anew from all that has happened.
#pragma once

#include <tidegate/circuit_breaker.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace test {

/// The settings that the model knows; no ramp and no jitter.
struct breaker_rules {
    double failure_rate = 50;
    std::optional<double> slow_rate;
    std::int64_t slow_after = 1;
    std::size_t consecutive = 0;
    std::size_t length = 10; // of the count window
    std::int64_t slice = 0;  // 0: no time window
    std::size_t slices = 1;
    std::size_t minimum = 1;
    std::size_t permitted = 1;
    std::int64_t probe_timeout = 1;
    std::int64_t open_time = 1;
    int growth = 1;
    std::int64_t cap = 1;

    tidegate::circuit_breaker_options options() const {
        using ns = std::chrono::nanoseconds;
        tidegate::circuit_breaker_options all;
        all.failure_rate(failure_rate).count_window(length).minimum_calls(minimum).jitter(0);
        all.permitted_probes(permitted)
            .probe_timeout(ns(probe_timeout))
            .open_duration(ns(open_time));
        all.open_growth(growth, ns(cap));
        if (slow_rate) all.slow_call_rate(*slow_rate, ns(slow_after));
        if (consecutive > 0) all.consecutive_failures(consecutive);
        if (slice > 0) all.time_window(ns(slice * static_cast<std::int64_t>(slices)), slices);
        return all;
    }
};

/// Slow and simple. Times are nanoseconds.
class breaker_model {
public:
    using state = tidegate::breaker_state;
    using counts_type = tidegate::core::call_counts;

    struct permit {
        std::uint64_t era = 0;
        bool probe = false;
        std::int64_t started = 0;
        bool timed = false;
        std::uint64_t number = 0;
    };

    explicit breaker_model(breaker_rules const& rules) : rules_(rules) {}

    std::optional<permit> acquire(std::int64_t now) {
        if (state_ == state::open && now >= open_until_) {
            become(state::half_open, now);
        }
        if (state_ == state::open || state_ == state::forced_open) return std::nullopt;
        permit p{era_, false, now, rules_.slow_rate.has_value(), ++last_};
        if (state_ == state::half_open) {
            if (in_flight(now) + results_.size() >= rules_.permitted) return std::nullopt;
            p.probe = p.timed = true;
            leases_.emplace_back(p.number, now + rules_.probe_timeout);
        }
        return p;
    }

    void report(permit const& p, bool failed, std::int64_t retry_after, std::int64_t now) {
        if (p.era != era_ || state_ == state::disabled) return;
        result const r{now, failed,
                       rules_.slow_rate && p.timed && now - p.started >= rules_.slow_after};
        if (p.probe) {
            if (!take_lease(p, now)) return;
            results_.push_back(r);
            decide(retry_after, now);
        } else {
            calls_.push_back(r);
            row_ = failed ? row_ + 1 : 0;
            if (state_ == state::closed && should_trip(now)) open(retry_after, now);
        }
    }

    void drop(permit const& p, std::int64_t now) {
        if (p.probe && p.era == era_) take_lease(p, now);
    }

    void become(state next, std::int64_t now) {
        if (next == state::closed || next == state::metrics_only) {
            calls_.clear();
            row_ = 0;
        }
        if (next == state::closed) closed_since_ = now;
        results_.clear();
        leases_.clear();
        ++era_;
        if (state_ != next) transitions.emplace_back(state_, next);
        state_ = next;
    }

    void open(std::int64_t retry_after, std::int64_t now) {
        if (state_ == state::closed && now - closed_since_ >= last_open_time_) trips_ = 0;
        ++trips_;
        std::int64_t time = rules_.open_time;
        for (int i = 1; i < std::min(trips_, 20); ++i) {
            time = std::max(rules_.open_time, std::min(time * rules_.growth, rules_.cap));
        }
        last_open_time_ = std::max(time, retry_after);
        open_until_ = now + last_open_time_;
        become(state::open, now);
    }

    void reconfigure(breaker_rules const& rules) {
        bool const was_row = rules_.consecutive > 0, is_row = rules.consecutive > 0;
        bool const timed = rules_.slice > 0 || rules.slice > 0;
        bool const same = timed ? rules_.slice == rules.slice && rules_.slices == rules.slices
                                : !was_row && rules_.length == rules.length;
        if (!same) calls_.clear();
        if (!was_row && is_row) row_ = 0;
        rules_ = rules;
        results_.clear(); // the leases stay
    }

    counts_type counts(std::int64_t now) const {
        if (state_ == state::half_open) return sum(results_, 0);
        if (rules_.slice > 0) {
            std::int64_t const first =
                now / rules_.slice - static_cast<std::int64_t>(rules_.slices);
            std::size_t old = 0;
            while (old < calls_.size() && calls_[old].at < (first + 1) * rules_.slice) ++old;
            return sum(calls_, old);
        }
        if (rules_.consecutive > 0) return {row_, row_, 0};
        return sum(calls_, calls_.size() - std::min(calls_.size(), rules_.length));
    }

    /// Of this half-open era.
    std::size_t in_flight(std::int64_t now) const {
        return static_cast<std::size_t>(std::count_if(
            leases_.begin(), leases_.end(), [&](auto const& lease) { return lease.second > now; }));
    }

    std::int64_t retry_after(std::int64_t now) const {
        if (state_ == state::forced_open) return std::numeric_limits<std::int64_t>::max();
        if (state_ == state::open) return std::max<std::int64_t>(0, open_until_ - now);
        if (state_ != state::half_open) return 0;
        if (in_flight(now) + results_.size() < rules_.permitted) return 0;
        std::int64_t first = last_open_time_; // or sooner, when a lease runs out
        for (auto const& lease : leases_) {
            if (lease.second > now) first = std::min(first, lease.second - now);
        }
        return first;
    }

    state current() const { return state_; }
    std::size_t permitted() const { return rules_.permitted; }

    std::vector<std::pair<state, state>> transitions;

private:
    struct result {
        std::int64_t at;
        bool failed;
        bool slow;
    };

    static counts_type sum(std::vector<result> const& all, std::size_t from) {
        counts_type c;
        for (std::size_t i = from; i < all.size(); ++i) {
            ++c.calls;
            c.failures += all[i].failed;
            c.slow += all[i].slow;
        }
        return c;
    }

    bool take_lease(permit const& p, std::int64_t now) {
        auto const lease = std::find_if(leases_.begin(), leases_.end(),
                                        [&](auto const& l) { return l.first == p.number; });
        bool const valid = lease != leases_.end() && lease->second > now;
        if (lease != leases_.end()) leases_.erase(lease);
        return valid;
    }

    bool is_too_much(counts_type const& c, std::uint64_t of) const {
        auto const share = [&](std::uint64_t n) {
            return static_cast<double>(n) * 100 / static_cast<double>(of);
        };
        return share(c.failures) >= rules_.failure_rate ||
               (rules_.slow_rate && share(c.slow) >= *rules_.slow_rate);
    }

    bool should_trip(std::int64_t now) const {
        if (rules_.consecutive > 0) return row_ >= rules_.consecutive;
        counts_type const c = counts(now);
        std::size_t const minimum =
            rules_.slice > 0 ? rules_.minimum : std::min(rules_.minimum, rules_.length);
        return c.calls >= minimum && is_too_much(c, c.calls);
    }

    void decide(std::int64_t retry_after, std::int64_t now) {
        counts_type const bad = sum(results_, 0);
        counts_type worst = bad;
        worst.failures += rules_.permitted - results_.size();
        worst.slow += rules_.permitted - results_.size();
        auto const sick = [&](counts_type const& c) {
            return (rules_.consecutive > 0 && c.failures > 0) || is_too_much(c, rules_.permitted);
        };
        if (sick(bad)) open(retry_after, now);
        else if (!sick(worst)) become(state::closed, now);
    }

    breaker_rules rules_;
    state state_ = state::closed;
    std::uint64_t era_ = 1;
    std::uint64_t last_ = 0;
    std::vector<result> calls_;   // of this era, or the last one that counted
    std::vector<result> results_; // of probes
    std::vector<std::pair<std::uint64_t, std::int64_t>> leases_;
    std::size_t row_ = 0;
    std::int64_t open_until_ = 0;
    std::int64_t closed_since_ = 0;
    std::int64_t last_open_time_ = 0;
    int trips_ = 0;
};

} // namespace test
