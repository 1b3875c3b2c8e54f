// SPDX-License-Identifier: BSL-1.0
// How a call goes through the layers of a policy.
#pragma once

#include <tidegate/detail/abandoned_attempt.hpp>
#include <tidegate/detail/attempt.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <cstddef>
#include <optional>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The calls in layers `First` to `Last - 1` of a tuple of layers, addressed from 0.
template <class Layers, std::size_t First, class Indices>
class layer_calls;

template <class Layers, std::size_t First, std::size_t... I>
class layer_calls<Layers, First, std::index_sequence<I...>> {
    template <std::size_t N>
    using layer = std::tuple_element_t<First + N, Layers>;
    using indices = std::index_sequence<I...>;

public:
    static constexpr std::size_t count = sizeof...(I);

    explicit layer_calls(Layers const& layers)
        : calls_(typename layer<I>::call(std::get<First + I>(layers))...) {}

    /// Enters from layer `i` on, which is then the one that did not let the call pass, or `count`.
    template <class Context>
    error_code enter_from(std::size_t& i, Context& context) {
        error_code ec;
        [[maybe_unused]] auto one = [&](auto n, auto& call) {
            if (n < i) return true;
            ec = call.enter(context);
            if (!ec) i = n + 1;
            return !ec;
        };
        static_cast<void>((one(position<I>(), std::get<I>(calls_)) && ...));
        return ec;
    }

    /// Leaves from the layer before `i` on, outward; `i` is then the last one left.
    template <class Context, class T>
    step leave_from(std::size_t& i, Context& context, outcome<T>& result) {
        step wish;
        [[maybe_unused]] auto one = [&](auto n, auto& call) {
            if (n >= i) return true;
            i = n; // before the call: what throws has been left
            wish = call.leave(context, result);
            return wish.next == step::what::pass;
        };
        static_cast<void>((one(position<count - 1 - I>(), std::get<count - 1 - I>(calls_)) && ...));
        return wish;
    }

    /// What it means that layer `i` did not let the call pass.
    failure failure_to_enter(std::size_t i, error_code const& ec) {
        return refuses(i) ? failure::before_start(ec) : failure(ec);
    }

    /// False for a layer that stands for what is called.
    bool refuses(std::size_t i) {
        bool is_limit = false;
        visit(i, [&](auto& call) { is_limit = call.refuses; });
        return is_limit;
    }

    template <class Executor, class Context>
    asio::awaitable<error_code, Executor> wait(std::size_t i, Context& context) {
        std::optional<asio::awaitable<error_code, Executor>> waiting;
        visit(i, [&](auto& call) { waiting.emplace(call.template wait<Executor>(context)); });
        return std::move(*waiting);
    }

    template <class Executor, class Context, class T>
    asio::awaitable<void, Executor> settle(std::size_t i, Context& context, outcome<T>& result) {
        std::optional<asio::awaitable<void, Executor>> settling;
        visit(i, [&](auto& call) {
            settling.emplace(call.template settle<Executor>(context, result));
        });
        return std::move(*settling);
    }

private:
    template <std::size_t N>
    using position = std::integral_constant<std::size_t, N>;

    template <class Function>
    void visit([[maybe_unused]] std::size_t i, [[maybe_unused]] Function function) {
        static_cast<void>(((I == i && (function(std::get<I>(calls_)), true)) || ...));
    }

    std::tuple<typename layer<I>::call...> calls_;
};

/// The position of the next layer from `First` on that runs what is inside it as calls of their own
/// (a hedge), or the number of layers.
template <class Layers, std::size_t First>
consteval std::size_t next_racing_layer() {
    if constexpr (First < std::tuple_size_v<Layers>) {
        if constexpr (!races<std::tuple_element_t<First, Layers>>) {
            return next_racing_layer<Layers, First + 1>();
        }
    }
    return First;
}

inline bool is_cancelled(asio::cancellation_state const& state) noexcept {
    return state.cancelled() != asio::cancellation_type::none;
}

/// Why a call that has waited need not go on: what let it pass may have told it too late.
template <class Context>
error_code in_vain(Context& context, bool cancelled) {
    if (cancelled) return asio::error::operation_aborted;
    return context.deadline() <= context.now() ? error::deadline_exceeded : error_code();
}

} // namespace detail

// In and out through the layers. A code that is not thrown costs no exception; what throws is
// caught where it is awaited, since nothing may leave a layer out on the way back.
template <class Clock, class... Layers>
template <std::size_t First, class Return, class Executor, class Context, class Op>
boost::asio::awaitable<Return, Executor>
basic_policy<Clock, Layers...>::call(std::shared_ptr<shared const> layers, Op op, Context here) {
    using traits = detail::operation_traits<Op, context>;
    using value = typename traits::value;
    using tuple = std::tuple<Layers...>;
    using what = detail::step::what;
    constexpr std::size_t last = detail::next_racing_layer<tuple, First>();
    using owned = detail::owned_operation_t<Op>;

    detail::layer_calls<tuple, First, std::make_index_sequence<last - First>> calls(layers->layers);
    outcome<value> result;
    std::size_t i = 0;
    bool begun = false; // the operation, in this attempt
    for (detail::step wish;;) {
        try {
            error_code ec;
            begun = false;
            std::size_t at = i - 1; // the layer that did not let the call pass, or too late
            for (bool waited = wish.next == what::again; !ec; waited = true) {
                if (waited) {
                    bool const stops = co_await boost::asio::this_coro::throw_if_cancelled();
                    auto const state = co_await boost::asio::this_coro::cancellation_state;
                    ec = detail::in_vain(here, stops && detail::is_cancelled(state));
                    if (ec) break;
                }
                if (wish.next == what::again) {
                    wish.next = what::pass;
                    here.set_last_error(result ? error_code() : result.why().code());
                    result.reset(); // what it holds may be what the next attempt needs
                    ec = co_await detail::pause_until<Clock, Executor>(detail::deadline_in<Clock>(
                        std::chrono::ceil<typename Clock::duration>(wish.pause)));
                    here.forget_now();
                    if (!ec) here.next_attempt();
                    continue;
                }
                ec = calls.enter_from(i, here);
                at = i;
                if (ec != boost::asio::error::would_block) break;
                auto const since = here.now();
                ec = co_await calls.template wait<Executor>(i, here);
                here.forget_now();
                if (calls.refuses(i)) here.set_waited(here.waited() + (here.now() - since));
                if (!ec) ++i;
            }
            if (ec) {
                result.fail(calls.failure_to_enter(at, ec));
            } else if constexpr (last < sizeof...(Layers)) {
                auto start = [&layers](auto& each, context& one) {
                    return call<detail::next_racing_layer<tuple, First>() + 1, outcome<value>,
                                Executor, context&>(layers, detail::borrow(each), one);
                };
                co_await std::get<last>(layers->layers)
                    .template race<Executor>(op, here, result, start);
            } else {
                begun = true;
                here.count_start();
                if (here.abandons() && std::is_copy_constructible_v<owned>) {
                    if constexpr (std::is_copy_constructible_v<owned>) {
                        co_await detail::attempt_or_abandon<Executor>(layers, op, here, result);
                    }
                } else if (here.deadline() != context::no_deadline) {
                    co_await detail::attempt_until_deadline<Executor>(op, here, result);
                } else if constexpr (traits::takes_token) {
                    auto started =
                        traits::start(op, here, boost::asio::as_tuple(boost::asio::deferred));
                    auto completed = co_await std::move(started);
                    detail::store(result, std::move(completed));
                } else if constexpr (std::is_void_v<value>) {
                    co_await traits::await(op, here);
                    result.succeed();
                } else {
                    result.succeed(co_await traits::await(op, here));
                }
            }
        } catch (...) {
            result.fail(failure(std::current_exception()));
        }
        here.forget_now();
        // An operation that was refused itself (it is another policy's call) has done nothing.
        if (begun && !result && result.why().is_refusal()) here.uncount_start();
        for (wish = {}; i > 0 && wish.next != what::again;) {
            if (!result) { // which may be with anything, when it was cancelled
                auto const state = co_await boost::asio::this_coro::cancellation_state;
                if (detail::is_cancelled(state)) result.set_cancelled();
            }
            try {
                wish = calls.leave_from(i, here, result);
                if (wish.next == what::settle) {
                    auto settling = [&] {
                        return calls.template settle<Executor>(i, here, result);
                    };
                    if (here.deadline() == context::no_deadline) {
                        co_await settling();
                    } else {
                        outcome<void> settled;
                        co_await detail::attempt_until_deadline<Executor>(settling, here, settled);
                        if (!settled) result.fail(settled.why());
                    }
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
    if constexpr (std::is_same_v<Return, outcome<value>>) co_return result;
    else co_return std::move(result).get();
}

namespace detail {

template <class Failure, class T>
Failure failure_of(outcome<T> const& result) {
    if (result) return {};
    failure const& why = result.why();
    if constexpr (std::is_same_v<Failure, error_code>) {
        return why.code() ? why.code() : error_code(error::exception_thrown);
    } else {
        if (why.exception()) return why.exception();
        return std::make_exception_ptr(boost::system::system_error(why.code()));
    }
}

/// Hands what came of a guarded call to a handler with the operation's own signature.
template <class T, class Handler, class Failure, class... Results>
void complete_with(outcome<T>& result, Handler& handler,
                   std::type_identity<void(Failure, Results...)>) {
    auto const why = failure_of<Failure>(result);
    if constexpr (sizeof...(Results) == 0) {
        std::move(handler)(why);
    } else if constexpr (sizeof...(Results) == 1) {
        std::move(handler)(why, result ? std::move(result.value()) : T());
    } else {
        std::apply([&](auto&... values) { std::move(handler)(why, std::move(values)...); },
                   result ? result.value() : (result.succeed(), result.value()));
    }
}

/// Starts a guarded call for a completion handler.
template <class Policy, class Signature>
class guarded_initiation {
public:
    using executor_type = asio::any_io_executor;

    guarded_initiation(Policy const& policy, executor_type const& executor)
        : policy_(policy), executor_(executor) {}

    executor_type get_executor() const noexcept { return executor_; }

    template <class Handler, class Op>
    void operator()(Handler&& handler, Op op) const {
        auto const to = asio::get_associated_executor(handler, executor_);
        auto const slot = asio::get_associated_cancellation_slot(handler);
        auto const allocator = asio::get_associated_allocator(handler);
        auto finish = [handler = std::decay_t<Handler>(std::forward<Handler>(handler))](
                          std::exception_ptr thrown, auto result) mutable {
            if (thrown) result.fail(failure(thrown));
            complete_with(result, handler, std::type_identity<Signature>());
        };
        asio::co_spawn(
            executor_, Policy::template outcome_of<executor_type>(policy_.shared_, std::move(op)),
            asio::bind_executor(to, asio::bind_cancellation_slot(
                                        slot, asio::bind_allocator(allocator, std::move(finish)))));
    }

private:
    Policy policy_;
    executor_type executor_;
};

} // namespace detail

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

template <class Clock, class... Layers>
std::vector<std::string> basic_policy<Clock, Layers...>::diagnose() const {
    std::vector<std::string> found;
    for_each_suspicion([&](char const* why) { found.emplace_back(why); });
    return found;
}

TIDEGATE_END_NAMESPACE
