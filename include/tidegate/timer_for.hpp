// SPDX-License-Identifier: BSL-1.0
// Which timer a primitive uses to wait on a clock.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/basic_waitable_timer.hpp>

TIDEGATE_BEGIN_NAMESPACE

/// The timer that waits on `Clock`: Asio's own, unless specialised (as for the manual clock in
/// `tidegate/testing/`). A specialisation's `type` needs `explicit type(Executor)`, a move
/// constructor, `expires_at(time_point)`, `cancel()` and `async_wait(handler)` with Asio's meaning.
template <class Clock, class Executor>
struct timer_for {
    using type =
        boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Executor>;
};

template <class Clock, class Executor>
using timer_for_t = typename timer_for<Clock, Executor>::type;

TIDEGATE_END_NAMESPACE
