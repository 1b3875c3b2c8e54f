// SPDX-License-Identifier: BSL-1.0
// What an asynchronous call hands to its completion token.
#pragma once

#include <tidegate/detail/compat.hpp>

#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Starts `Operation` on the primitive's state once there is a handler. It names the primitive's
/// executor, which adapters such as `asio::cancel_after` ask for. As with Asio's own objects, an
/// operation that is started later (`deferred`) must be started while the primitive lives.
template <class State, class Operation>
class initiation {
public:
    using executor_type = typename State::executor_type;

    explicit initiation(State& state) noexcept : state_(&state) {}

    executor_type get_executor() const noexcept { return state_->executor(); }

    template <class Handler, class... Arguments>
    void operator()(Handler&& handler, Arguments&&... arguments) const {
        state_->start(Operation{}, std::forward<Handler>(handler),
                      std::forward<Arguments>(arguments)...);
    }

private:
    State* state_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
