// SPDX-License-Identifier: BSL-1.0
// One run of an operation that a policy guards, with a deadline.
#pragma once

#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/timed_attempt.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// `co_spawn` lets a coroutine hear of terminal cancellation only. Who passes other types on was
/// asked to: what the caller does not hear does not come this far.
template <class T, class Executor>
asio::awaitable<T, Executor> hearing_all(asio::awaitable<T, Executor> running) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    co_return co_await std::move(running);
}

/// The deadline is the context's. When it passes, the operation is cancelled and waited for. On an
/// executor that may run functions at the same time, the alarm could ring while the operation is
/// being started or ends: there all of it goes to a strand.
template <class Executor, class T, class Op, class Context>
asio::awaitable<void, Executor> attempt_until_deadline(Op& op, Context& context, outcome<T>& result,
                                                       bool on_strand = false) {
    using traits = operation_traits<Op, Context>;
    using clock = typename Context::clock_type;
    auto const executor = co_await asio::this_coro::executor;
    auto room = alarm_room<clock>::of(executor);
    if constexpr (std::is_same_v<Executor, asio::any_io_executor>) {
        if (!on_strand && !room->runs_in_turn(executor)) {
            auto const callers = co_await asio::this_coro::cancellation_state;
            timed_attempt<clock> untimed(std::move(room), executor, context.no_deadline,
                                         callers.slot());
            auto on_a_strand = attempt_until_deadline<Executor>(op, context, result, true);
            auto spawned = asio::co_spawn(
                serial_executors(executor).next(), std::move(on_a_strand),
                asio::bind_cancellation_slot(untimed.slot(), asio::as_tuple(asio::deferred)));
            auto const completed = co_await std::move(spawned);
            untimed.end();
            if (std::get<0>(completed)) std::rethrow_exception(std::get<0>(completed));
            co_return;
        }
        if (on_strand) // what the caller does not hear did not come this far
            co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    }
    auto const state = co_await asio::this_coro::cancellation_state;
    timed_attempt<clock> timed(std::move(room), executor, context.deadline(), state.slot());
    if constexpr (traits::takes_token) {
        auto started = traits::start(
            op, context,
            asio::bind_cancellation_slot(timed.slot(), asio::as_tuple(asio::deferred)));
        auto completed = co_await std::move(started);
        timed.end();
        store(result, std::move(completed));
    } else {
        auto running = hearing_all(traits::await(op, context));
        auto spawned = asio::co_spawn(
            executor, std::move(running),
            asio::bind_cancellation_slot(timed.slot(), asio::as_tuple(asio::deferred)));
        auto completed = co_await std::move(spawned);
        timed.end();
        store(result, std::move(completed));
    }
    if (!result && timed.expired()) result.fail(error::deadline_exceeded);
}

/// The same for an operation that no policy guards, such as the making of an object.
template <class Executor, class Clock, class T, class Op>
asio::awaitable<void, Executor> attempt_within(std::chrono::nanoseconds limit, Op& op,
                                               outcome<T>& result) {
    basic_call_context<Clock> context({});
    context.set_deadline(
        deadline_in<Clock>(std::chrono::duration_cast<typename Clock::duration>(limit)));
    co_await attempt_until_deadline<Executor>(op, context, result);
}

/// An object from `make`, a function that returns an awaitable of a T or of a pointer to one.
template <class T, class Make>
asio::awaitable<std::unique_ptr<T>> make_later(std::shared_ptr<Make> make) {
    auto made = co_await (*make)();
    if constexpr (std::is_convertible_v<decltype(made), std::unique_ptr<T>>) {
        if (!made) throw std::logic_error("tidegate: what makes a pool's objects returned null");
        co_return std::move(made);
    } else {
        co_return std::make_unique<T>(std::move(made));
    }
}

} // namespace detail
TIDEGATE_END_NAMESPACE
