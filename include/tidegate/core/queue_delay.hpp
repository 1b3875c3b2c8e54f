// SPDX-License-Identifier: BSL-1.0
// Tells a standing queue from a burst by how long its oldest entry has waited. No clock, no locks.
#pragma once

#include <tidegate/config.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The signal of CoDel (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012; RFC 8289):
/// a good queue absorbs a burst and drains, so that its delay falls below a small `target` now and
/// then; a queue whose delay stays above the target for a whole `interval` is of no use to anybody.
///
/// The delay of a queue is the time that its oldest entry has waited; zero when it is empty. The
/// queue is overloaded from the moment at which its delay has been above `target` for `interval`
/// without a break, until it has not been above it for `interval`. RFC 8289 ends an episode at the
/// first delay below the target; here those who shed old entries cut the delay themselves, so that
/// one low value says nothing about the load (at twice the capacity of a semaphore that sheds, the
/// rule of the RFC was seen to let a quarter of the work go to waste).
///
/// What happened between two samples is worked out from the samples: an entry that has waited for
/// longer than the target kept the delay above it all that time. So sampling whenever entries come
/// and go misses no break, and an idle queue needs no samples at all.
///
/// O(1), two time points of memory. Not thread-safe.
template <class TimePoint>
class queue_delay {
public:
    using time_point = TimePoint;
    using duration = typename TimePoint::duration;

    /// `target` and `interval` are positive.
    queue_delay(duration target, duration interval) noexcept
        : target_(target), interval_(interval) {}

    duration target() const noexcept { return target_; }
    duration interval() const noexcept { return interval_; }

    /// At `now`, not before that of the last call, the oldest entry has waited for `delay`. To be
    /// called before that entry leaves, and when entries join behind it. Returns `overloaded()`.
    bool sample(time_point now, duration delay) noexcept {
        if (delay > target_) above(now, now - (delay - target_));
        else below(now);
        return overloaded_;
    }

    /// As the last sample said.
    bool overloaded() const noexcept { return overloaded_; }

private:
    // Above the target since `from`, and maybe before.
    void above(time_point now, time_point from) noexcept {
        if (overloaded_ && from - last_above_ >= interval_) overloaded_ = false;
        if (from > last_above_) above_since_ = from;
        last_above_ = now;
        if (now - above_since_ >= interval_) overloaded_ = true;
    }

    void below(time_point now) noexcept {
        if (overloaded_ && now - last_above_ >= interval_) overloaded_ = false;
    }

    duration target_;
    duration interval_;
    time_point last_above_ = time_point::min(); // the last sample above the target
    time_point above_since_{};                  // without a break, until then
    bool overloaded_ = false;
};

} // namespace core
TIDEGATE_END_NAMESPACE
