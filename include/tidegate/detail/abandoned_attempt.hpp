// SPDX-License-Identifier: BSL-1.0
// Runs an operation so that its caller need not wait for its end.
#pragma once

#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/serial_executor.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// An operation that belongs to the call further out in the same policy.
template <class Op>
struct borrowed_operation : std::reference_wrapper<Op> {
    using std::reference_wrapper<Op>::reference_wrapper;
};

template <class Op>
borrowed_operation<Op> borrow(Op& op) noexcept {
    return {op};
}
template <class Op>
borrowed_operation<Op> borrow(borrowed_operation<Op>& op) noexcept {
    return op;
}

/// What has to be copied of an operation that is to outlive the call. What the user passes by
/// reference stays one.
template <class Op>
struct owned_operation {
    using type = Op;
};
template <class Op>
struct owned_operation<borrowed_operation<Op>> {
    using type = std::remove_const_t<Op>;
};
template <class Op>
using owned_operation_t = typename owned_operation<Op>::type;

/// What an operation that may outlive its call needs: it lives as long as the operation runs.
template <class T, class Op, class Context>
struct abandoned_attempt {
    std::shared_ptr<void const> layers; // whose names the context has
    Op op;
    Context context;
    asio::any_io_executor executor;
    outcome<T> result;
    asio::cancellation_signal signal;
    bool over = false; // changes where `executor` runs

    abandoned_attempt(std::shared_ptr<void const> kept, Op const& operation, Context const& c,
                      asio::any_io_executor e)
        : layers(std::move(kept)), op(operation), context(c), executor(std::move(e)) {}
};

template <class Executor, class State>
asio::awaitable<void, Executor> run_abandoned(std::shared_ptr<State> state) {
    using op_type = decltype(state->op);
    using traits = operation_traits<op_type, decltype(state->context)>;
    if constexpr (traits::takes_token) {
        auto started = traits::start(state->op, state->context, asio::as_tuple(asio::deferred));
        auto completed = co_await std::move(started);
        store(state->result, std::move(completed));
    } else if constexpr (std::is_void_v<typename traits::value>) {
        co_await traits::await(state->op, state->context);
        state->result.succeed();
    } else {
        state->result.succeed(co_await traits::await(state->op, state->context));
    }
}

/// Waits for the operation until the context's deadline; then cancels it and leaves it to itself.
template <class Executor, class T, class Op, class Context>
asio::awaitable<void, Executor> attempt_or_abandon(std::shared_ptr<void const> layers, Op& op,
                                                   Context& context, outcome<T>& result) {
    using clock = typename Context::clock_type;
    using state_type = abandoned_attempt<T, owned_operation_t<Op>, Context>;
    auto const own = co_await asio::this_coro::executor;
    auto const state =
        std::make_shared<state_type>(std::move(layers), op, context, serial_executors(own).next());
    basic_semaphore<clock> ended(own, 1);
    auto finish = [state, running = ended.try_acquire()](std::exception_ptr thrown) {
        state->over = true;
        if (thrown) state->result.fail(failure(thrown));
    };
    asio::co_spawn(state->executor, run_abandoned<asio::any_io_executor>(state),
                   asio::bind_cancellation_slot(state->signal.slot(), std::move(finish)));
    auto waiting = ended.async_acquire_until(context.deadline(), asio::as_tuple(asio::deferred));
    auto completed = co_await std::move(waiting);
    error_code const ec = std::get<0>(completed);
    if (!ec) {
        result = std::move(state->result);
        co_return;
    }
    result.fail(ec);
    asio::post(state->executor, [state] {
        if (!state->over) state->signal.emit(asio::cancellation_type::all);
    });
}

} // namespace detail
TIDEGATE_END_NAMESPACE
