// SPDX-License-Identifier: BSL-1.0
// Composes limits, breakers, retries, timeouts and fallbacks round any asynchronous operation.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/detail/compat.hpp>
#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/primitive_layers.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {

/// What a policy and its calls share.
template <class... Layers>
struct policy_layers {
    std::string name;
    std::tuple<Layers...> layers;
};

template <class Policy, class Signature>
class guarded_initiation;

/// True for layers that run what is inside them as calls of their own, several at a time.
template <class Layer>
inline constexpr bool races = false;

template <class Layer, class = void>
struct clock_of {
    using type = void;
};
template <class Layer>
struct clock_of<Layer, std::void_t<typename Layer::clock_type>> {
    using type = typename Layer::clock_type;
};

/// The clock of the first layer that has one; steady_clock if none has.
template <class... Layers>
struct common_clock {
    using type = std::chrono::steady_clock;
};
template <class First, class... Rest>
struct common_clock<First, Rest...> {
    using own = typename clock_of<First>::type;
    using type = typename std::conditional_t<std::is_void_v<own>, common_clock<Rest...>,
                                             std::type_identity<own>>::type;
};

} // namespace detail

/// A chain of layers round a call, outermost first:
///
///     tidegate::policy guarded(timeout(2s), retry(options), breaker, limiter, bulkhead);
///     auto reply = co_await guarded(fetch);
///
/// A call goes in through the layers from the left, and its result comes out through those that it
/// entered, from the right. Results, exceptions and cancellation pass through untouched, unless a
/// layer is there to change them. Primitives (limiter, semaphore, breaker) are passed as lvalues
/// and referred to: they must outlive the policy, its copies, and all calls through them.
/// Everything else is copied.
///
/// What can be guarded: any function object that returns an awaitable, and any that takes a
/// completion token, so every Asio operation (`socket.async_read_some(buffer, asio::deferred)` as
/// well as a lambda). It may take the context (`call_context const&`, by its type, not auto) as
/// its first argument, and is called once for each attempt, on the coroutine's executor.
///
/// Errors: what the operation fails with, or what a layer says: `error::deadline_exceeded`,
/// `rate_limited`, `queue_full`, `circuit_open`, `overloaded`, `closed`. An error code that was
/// never thrown stays a code between the layers and becomes an exception at the end only.
///
/// Cancellation: the caller's is handed to the operation, or to the layer that waits; it ends the
/// call in any pause at once, and is never retried, never answered by a fallback and never counted
/// as a failure. That holds for whatever the call fails with after it was cancelled, an error of
/// the operation's own, too, which comes out as it is, unless the operation reset the coroutine's
/// cancellation state: then it has to end with `operation_aborted`. (A coroutine that was cancelled
/// and goes on has to `reset_cancellation_state()` before its next call.) When a call completes,
/// its operation has ended, and all permits, probes and budget that it held were given back.
///
/// Executors: all of it runs in the calling coroutine, so on its executor; with a deadline, the
/// operation runs on a strand of it unless it is one, or is an io_context that was made for one
/// thread: so no strand has to be the caller's. (Only of `any_io_executor`: coroutines with another
/// type of executor have to be on a strand, or on one thread.) Copies of a policy share its layers;
/// different threads may use the same policy at the same time. Memory: one coroutine
/// frame a call, whatever the number of layers; one more for a layer that has to wait.
template <class Clock, class... Layers>
class basic_policy {
    using shared = detail::policy_layers<Layers...>;

public:
    using clock_type = Clock;
    using context = basic_call_context<Clock>;

    /// What `co_await guarded(op)` returns.
    template <class Op>
    using result_of = typename detail::operation_traits<std::decay_t<Op>, context>::value;

    /// The completion signature of `async_call(op)`.
    template <class Op>
    using signature_of =
        typename detail::operation_traits<std::decay_t<Op>, context>::guarded_signature;

    explicit basic_policy(Layers... layers)
        : shared_(std::make_shared<shared const>(
              shared{{}, std::tuple<Layers...>(std::move(layers)...)})) {}

    /// The same chain under a name, which the context carries.
    basic_policy named(std::string name) const {
        basic_policy copy(*this);
        copy.shared_ = std::make_shared<shared const>(shared{std::move(name), shared_->layers});
        return copy;
    }

    /// Calls `op` through the layers, from a coroutine. The operation is copied; use std::ref for
    /// one that must not be. With g++ 12.2 a lambda written directly into the awaited call would be
    /// destroyed twice: it has to be named first (a static_assert says so).
    template <class CoroutineExecutor = boost::asio::any_io_executor, class Op>
    boost::asio::awaitable<result_of<Op>, CoroutineExecutor> operator()(Op&& op) const {
        static_assert(detail::survives_await_as_temporary<Op&&>,
                      "g++ before 12.3 destroys this temporary twice: name the operation, and pass "
                      "the name or std::ref(name)");
        return call<0, result_of<Op>, CoroutineExecutor, context>(
            shared_, std::decay_t<Op>(std::forward<Op>(op)), context(shared_->name));
    }

    /// As above, for a call inside another guarded one: the outer deadline applies here too, and
    /// a budget that both share is paid into once.
    template <class CoroutineExecutor = boost::asio::any_io_executor, class Op>
    boost::asio::awaitable<result_of<Op>, CoroutineExecutor>
    operator()(Op&& op, context const& outer) const {
        static_assert(detail::survives_await_as_temporary<Op&&>,
                      "g++ before 12.3 destroys this temporary twice: name the operation, and pass "
                      "the name or std::ref(name)");
        return call<0, result_of<Op>, CoroutineExecutor, context>(
            shared_, std::decay_t<Op>(std::forward<Op>(op)), outer.inner(shared_->name));
    }

    /// As `operator()`, for any completion token. The layers run on `executor`, the handler on its
    /// associated executor, by default the same. Completion signature: the operation's own if that
    /// fails with an error code; otherwise `void(std::exception_ptr, T)`. Results must be default
    /// constructible.
    template <class Op, boost::asio::completion_token_for<signature_of<Op>> Token>
    auto async_call(boost::asio::any_io_executor const& executor, Op&& op, Token&& token) const {
        using signature = signature_of<Op>;
        return boost::asio::async_initiate<Token, signature>(
            detail::guarded_initiation<basic_policy, signature>(*this, executor), token,
            std::decay_t<Op>(std::forward<Op>(op)));
    }

    /// The chain on one line, outermost first.
    std::string describe() const;

    /// What is suspect about the order of the layers, a sentence each; empty if nothing is.
    std::vector<std::string> diagnose() const;

    /// The same as a number, for `static_assert(decltype(guarded)::suspicions() == 0)`.
    static consteval std::size_t suspicions() {
        std::size_t n = 0;
        for_each_suspicion([&](char const*) { ++n; });
        return n;
    }

private:
    template <class, class>
    friend class detail::guarded_initiation;

    template <class Function>
    static constexpr void for_each_suspicion(Function function) {
        constexpr detail::layer_kind kinds[] = {detail::kind_of<Layers>()...,
                                                detail::layer_kind::other};
        for (detail::suspect_order const& suspect : detail::suspect_orders) {
            bool found = false;
            for (std::size_t outer = 0; outer < sizeof...(Layers); ++outer) {
                for (std::size_t inner = outer + 1; inner < sizeof...(Layers); ++inner) {
                    found |= kinds[outer] == suspect.outer && kinds[inner] == suspect.inner;
                }
            }
            if (found) function(suspect.why);
        }
    }

    // As `operator()`, without an exception at the end; whatever cancels it reaches the operation.
    template <class Executor, class Op>
    static boost::asio::awaitable<outcome<result_of<Op>>, Executor>
    outcome_of(std::shared_ptr<shared const> layers, Op op) {
        co_await boost::asio::this_coro::reset_cancellation_state(
            boost::asio::enable_total_cancellation());
        context const here(layers->name);
        co_return co_await call<0, outcome<result_of<Op>>, Executor, context>(std::move(layers),
                                                                              std::move(op), here);
    }

    // `Context` is a reference for an attempt of a race, whose context the race reads afterwards.
    template <std::size_t First, class Return, class Executor, class Context, class Op>
    static boost::asio::awaitable<Return, Executor> call(std::shared_ptr<shared const> layers,
                                                         Op op, Context here);

    std::shared_ptr<shared const> shared_;
};

/// `basic_policy` with its types worked out from what it is made of.
template <class... Layers>
class policy : public basic_policy<typename detail::common_clock<Layers...>::type, Layers...> {
    using base = basic_policy<typename detail::common_clock<Layers...>::type, Layers...>;

public:
    template <class... Parts>
        requires(sizeof...(Parts) == sizeof...(Layers) &&
                 (... && !std::is_same_v<std::remove_cvref_t<Parts>, policy>))
    explicit policy(Parts&&... parts) : base(Layers(std::forward<Parts>(parts))...) {
        static_assert(
            (... &&
             !(detail::is_primitive<std::decay_t<Parts>> && std::is_rvalue_reference_v<Parts&&>)),
            "a primitive is referred to, so it has to be an lvalue that outlives the policy");
    }
};

template <class... Parts>
explicit policy(Parts&&...) -> policy<typename detail::layer_for<std::decay_t<Parts>>::type...>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/policy.hpp>
