// SPDX-License-Identifier: BSL-1.0
// From a timeout to a deadline, and from a clock's durations to nanoseconds.
#pragma once

#include <tidegate/config.hpp>

#include <chrono>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Now plus `timeout`, without overflow; a timeout of zero or less is over at once.
template <class Clock>
typename Clock::time_point deadline_in(typename Clock::duration timeout) {
    using time_point = typename Clock::time_point;
    time_point const now = Clock::now();
    if (timeout <= Clock::duration::zero()) return now;
    return now > time_point::max() - timeout ? time_point::max() : now + timeout;
}

/// The most there are for a longer time, such as the largest duration of a coarser clock.
template <class Duration>
constexpr std::chrono::nanoseconds in_nanoseconds(Duration time) noexcept {
    constexpr auto most = std::chrono::nanoseconds::max();
    return time > std::chrono::floor<Duration>(most) ? most : std::chrono::nanoseconds(time);
}

} // namespace detail
TIDEGATE_END_NAMESPACE
