// SPDX-License-Identifier: BSL-1.0
// One run of an operation that a policy guards, with a deadline.
#pragma once

#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/timed_attempt.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The deadline is the context's. When it passes, the operation is cancelled and waited for.
template <class Executor, class T, class Op, class Context>
asio::awaitable<void, Executor> attempt_until_deadline(Op& op, Context& context,
                                                       outcome<T>& result) {
    using traits = operation_traits<Op, Context>;
    auto const executor = co_await asio::this_coro::executor;
    auto const state = co_await asio::this_coro::cancellation_state;
    timed_attempt<typename Context::clock_type> timed(executor, context.deadline(), state.slot());
    if constexpr (traits::takes_token) {
        auto started = traits::start(
            op, context,
            asio::bind_cancellation_slot(timed.slot(), asio::as_tuple(asio::deferred)));
        auto completed = co_await std::move(started);
        store(result, std::move(completed));
    } else {
        auto spawned = asio::co_spawn(
            executor, traits::await(op, context),
            asio::bind_cancellation_slot(timed.slot(), asio::as_tuple(asio::deferred)));
        auto completed = co_await std::move(spawned);
        store(result, std::move(completed));
    }
    if (!result && timed.expired()) result.fail(error::deadline_exceeded);
}

} // namespace detail
TIDEGATE_END_NAMESPACE
