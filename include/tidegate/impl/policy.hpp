// SPDX-License-Identifier: BSL-1.0
// How a call goes through the layers of a policy.
#pragma once

#include <tidegate/detail/timed_attempt.hpp>
#include <tidegate/policy.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <cstddef>
#include <optional>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The calls in all layers, each addressed by its position.
template <class Context, class... Layers>
class layer_calls {
    using indices = std::index_sequence_for<Layers...>;

public:
    static constexpr std::size_t count = sizeof...(Layers);

    explicit layer_calls(std::tuple<Layers...> const& layers)
        : calls_(std::apply(
              [](auto const&... layer) {
                  return std::tuple<typename Layers::call...>(typename Layers::call(layer)...);
              },
              layers)) {}

    error_code enter(std::size_t i, Context& context) {
        error_code ec;
        visit(i, [&](auto& call) { ec = call.enter(context); }, indices());
        return ec;
    }

    template <class Executor>
    asio::awaitable<error_code, Executor> wait(std::size_t i, Context& context) {
        std::optional<asio::awaitable<error_code, Executor>> waiting;
        visit(
            i, [&](auto& call) { waiting.emplace(call.template wait<Executor>(context)); },
            indices());
        return std::move(*waiting);
    }

    template <class T>
    step leave(std::size_t i, Context& context, outcome<T>& result) {
        step s;
        visit(i, [&](auto& call) { s = call.leave(context, result); }, indices());
        return s;
    }

    template <class Executor, class T>
    asio::awaitable<void, Executor> settle(std::size_t i, Context& context, outcome<T>& result) {
        std::optional<asio::awaitable<void, Executor>> settling;
        visit(
            i,
            [&](auto& call) { settling.emplace(call.template settle<Executor>(context, result)); },
            indices());
        return std::move(*settling);
    }

private:
    template <class Function, std::size_t... I>
    void visit(std::size_t i, Function function, std::index_sequence<I...>) {
        static_cast<void>(((I == i && (function(std::get<I>(calls_)), true)) || ...));
    }

    std::tuple<typename Layers::call...> calls_;
};

/// One run of the operation, without a deadline: as if it were awaited by the caller.
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

template <class Clock, class Executor>
asio::awaitable<error_code, Executor> pause(std::chrono::nanoseconds time) {
    auto const executor = co_await asio::this_coro::executor;
    auto const room = alarm_room<Clock>::of(executor);
    auto const until = deadline_in<Clock>(std::chrono::ceil<typename Clock::duration>(time));
    auto waiting = room->async_wait_until(until, asio::as_tuple(asio::deferred));
    auto [ec] = co_await std::move(waiting);
    co_return ec == error::deadline_exceeded ? error_code() : ec;
}

} // namespace detail

// In and out through the layers. A code that is not thrown costs no exception; what throws is
// caught where it is awaited, since nothing may leave a layer out on the way back.
template <class Clock, class... Layers>
template <class Return, class Executor, class Op>
boost::asio::awaitable<Return, Executor>
basic_policy<Clock, Layers...>::call(std::shared_ptr<shared const> layers, Op op, context here) {
    using traits = detail::operation_traits<Op, context>;
    using calls_type = detail::layer_calls<context, Layers...>;
    using what = detail::step::what;

    calls_type calls(layers->layers);
    outcome<typename traits::value> result;
    std::size_t i = 0;
    for (detail::step wish;;) {
        try {
            error_code ec;
            if (wish.next == what::again) {
                ec = co_await detail::pause<Clock, Executor>(wish.pause);
                here.forget_now();
                if (!ec) here.next_attempt(result.why().code());
            }
            for (; !ec && i < calls.count; ++i) {
                ec = calls.enter(i, here);
                if (ec == boost::asio::error::would_block) {
                    ec = co_await calls.template wait<Executor>(i, here);
                    here.forget_now();
                }
                if (ec) break;
            }
            if (ec) {
                result.fail(ec);
            } else if (here.deadline() != context::no_deadline) {
                co_await detail::attempt_until_deadline<Executor>(op, here, result);
            } else if constexpr (traits::takes_token) {
                auto started =
                    traits::start(op, here, boost::asio::as_tuple(boost::asio::deferred));
                auto completed = co_await std::move(started);
                detail::store(result, std::move(completed));
            } else if constexpr (std::is_void_v<typename traits::value>) {
                co_await traits::await(op, here);
                result.succeed();
            } else {
                result.succeed(co_await traits::await(op, here));
            }
        } catch (...) {
            result.fail(failure(std::current_exception()));
        }
        here.forget_now();
        for (wish = {}; i > 0 && wish.next != what::again;) {
            try {
                wish = calls.leave(--i, here, result);
                if (wish.next == what::settle) {
                    co_await calls.template settle<Executor>(i, here, result);
                    here.forget_now();
                }
            } catch (...) {
                wish = {};
                result.fail(failure(std::current_exception()));
            }
        }
        if (wish.next != what::again) break;
        ++i; // inward again from the layer inside
    }
    co_return std::move(result).get();
}

template <class Clock, class... Layers>
std::string basic_policy<Clock, Layers...>::describe() const {
    std::string text = shared_->name;
    std::string_view separator = text.empty() ? "" : ": ";
    std::apply(
        [&](auto const&... layer) {
            ((text.append(separator).append(layer.describe()), separator = " > "), ...);
        },
        shared_->layers);
    return text;
}

TIDEGATE_END_NAMESPACE
