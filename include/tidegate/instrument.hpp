// SPDX-License-Identifier: BSL-1.0
// A layer that tells what came of each call that passed it.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/detail/layer.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// What a call did inside an `instrument` layer.
struct call_event {
    /// The policy's name.
    std::string_view name;
    /// The attempt at which it ended; 1 if nothing was retried.
    std::uint32_t attempt;
    /// From its way in to its way out.
    std::chrono::nanoseconds took;
    /// Null if it succeeded.
    failure const* why;
    /// A fallback answered.
    bool degraded;
};

/// Calls a listener for each call that comes out of what is inside it: a monitor's timer, a
/// counter, a log. Put one outermost for whole calls, one inside a retry for attempts. Without a
/// listener it costs a comparison. The listener runs where the call does; what it throws fails the
/// call.
template <class Clock = std::chrono::steady_clock>
class basic_instrument {
public:
    using clock_type = Clock;
    using context = basic_call_context<Clock>;
    using listener = std::function<void(call_event const&)>;

    explicit basic_instrument(listener listen = {}) : listen_(std::move(listen)) {}

    std::string describe() const { return "instrument"; }

    class call : public detail::layer_call {
    public:
        explicit call(basic_instrument const& layer) noexcept : listen_(&layer.listen_) {}

        error_code enter(context& c) {
            if (*listen_) entered_ = c.now();
            return {};
        }

        template <class T>
        detail::step leave(context& c, outcome<T>& result) {
            if (*listen_) {
                (*listen_)({c.name(), c.attempt(), c.now() - entered_,
                            result ? nullptr : &result.why(), c.degraded()});
            }
            return {};
        }

    private:
        listener const* listen_;
        typename Clock::time_point entered_{};
    };

private:
    listener listen_;
};

using instrument = basic_instrument<>;

TIDEGATE_END_NAMESPACE
