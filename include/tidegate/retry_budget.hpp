// SPDX-License-Identifier: BSL-1.0
// Bounds what retries and hedges may add to the load, whatever fails.
#pragma once

#include <tidegate/core/check_option.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE

/// A balance that every call pays into and every further attempt draws on, as Finagle's
/// RetryBudget. When all calls fail, attempts stay below `(1 + ratio) * calls + reserve`; without
/// it, each layer of three attempts triples the load on something that is down already.
///
/// Share one among all that call the same thing (std::shared_ptr): retries, hedges, and layers
/// inside each other, of which the outermost pays in. A withdrawal is reserved before the pause
/// that comes first, so those who pause are counted; it goes back if the attempt does not get as
/// far as what is called (refused by a layer, cancelled in a line). Thread-safe, lock-free; nothing
/// allocates.
class retry_budget {
public:
    /// `ratio` of calls that may be retried, 0 to 10 (a millionth is the smallest step); `reserve`
    /// attempts that are there from the start, 0 to 10^9. The balance never grows beyond `reserve`
    /// and `most` more, 0 to 10^9: a long good time must not pay for a flood.
    explicit retry_budget(double ratio = 0.2, std::uint32_t reserve = 10, std::uint32_t most = 100)
        : deposit_(static_cast<std::int64_t>(checked_ratio(ratio) * one)),
          most_((checked_count("retry_budget reserve", reserve) +
                 checked_count("retry_budget most", most)) *
                one),
          balance_(std::int64_t{reserve} * one) {}

    /// A call begins.
    void deposit() noexcept {
        std::int64_t now = balance_.load(std::memory_order_relaxed);
        while (now < most_ && !balance_.compare_exchange_weak(now, std::min(most_, now + deposit_),
                                                              std::memory_order_relaxed)) {
        }
    }

    /// A further attempt is wanted. False if the balance does not allow it. Any number of callers
    /// at once cannot draw more than there is.
    [[nodiscard]] bool try_withdraw() noexcept {
        std::int64_t now = balance_.load(std::memory_order_relaxed);
        while (now >= one) {
            if (balance_.compare_exchange_weak(now, now - one, std::memory_order_relaxed)) {
                return true;
            }
        }
        return false;
    }

    /// An attempt that was withdrawn for was not made.
    void refund() noexcept { balance_.fetch_add(one, std::memory_order_relaxed); }

    /// Attempts that could be withdrawn now.
    double balance() const noexcept {
        return static_cast<double>(balance_.load(std::memory_order_relaxed)) / one;
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_retry_budget_attempts", "Further attempts allowed now", balance());
    }

private:
    static constexpr std::int64_t one = 1'000'000;

    static double checked_ratio(double ratio) {
        detail::check_option<double>("retry_budget ratio", ratio, 0, 10);
        return ratio;
    }
    static std::int64_t checked_count(char const* option, std::uint32_t count) {
        detail::check_option<std::uint32_t>(option, count, 0, 1'000'000'000);
        return count;
    }

    std::int64_t const deposit_;
    std::int64_t const most_;
    std::atomic<std::int64_t> balance_;
};

TIDEGATE_END_NAMESPACE
