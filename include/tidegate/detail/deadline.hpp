// SPDX-License-Identifier: BSL-1.0
// From a timeout to a deadline.
#pragma once

#include <tidegate/config.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Now plus `timeout`, without overflow; a timeout of zero or less is over at once.
template <class Clock>
typename Clock::time_point deadline_in(typename Clock::duration timeout) {
    using time_point = typename Clock::time_point;
    time_point const now = Clock::now();
    if (timeout > time_point::max() - now) return time_point::max();
    return timeout > Clock::duration::zero() ? now + timeout : now;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
