// SPDX-License-Identifier: BSL-1.0
// How fast a line moves, from what was seen of it. No clock, no locks.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <cstddef>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Foretells how long somebody will stand in a first in, first out line: as many turns as there are
/// waiters up to and with that one, at the average time of a turn while the line has been there.
/// Of customers who know how long the line is this is the usual estimate (QL in Ibrahim and Whitt,
/// "Real-Time Delay Estimation Based on Delay History", M&SOM 2009).
///
/// Those served come in bunches where servers work in step. So nothing is foretold before two
/// rounds of all `servers`, and 16 turns, and about as many are remembered, the newest with most
/// weight: a line that speeds up or slows down is known to after that. A line that was empty is a
/// new one.
///
/// O(1), a time point and two numbers of memory. Not thread-safe.
template <class TimePoint>
class line_pace {
public:
    using time_point = TimePoint;
    using duration = typename TimePoint::duration;

    /// Somebody waits, and nobody did before.
    void begin(time_point now) noexcept {
        last_ = now;
        time_ = turns_ = 0;
        known_ = false;
    }

    /// `waiters` of the line had their turn, one or more.
    void served(std::size_t waiters, std::size_t servers, time_point now) noexcept {
        time_ += static_cast<double>((now - last_).count());
        turns_ += static_cast<double>(waiters);
        last_ = now;
        double const memory = std::max(16.0, 2 * static_cast<double>(servers));
        if (turns_ < memory) return;
        known_ = true;
        time_ *= memory / turns_;
        turns_ = memory;
    }

    /// True if the turn of the last of `waiters` is not to be expected within `left`; false while
    /// too little is known.
    bool takes_longer(std::size_t waiters, duration left) const noexcept {
        return known_ &&
               time_ * static_cast<double>(waiters) > turns_ * static_cast<double>(left.count());
    }

private:
    time_point last_{}; // when the last turn was, or the line began
    double time_ = 0;   // that
    double turns_ = 0;  // so many took
    bool known_ = false;
};

} // namespace core
TIDEGATE_END_NAMESPACE
