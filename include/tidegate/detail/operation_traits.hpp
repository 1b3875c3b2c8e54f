// SPDX-License-Identifier: BSL-1.0
// What kinds of operation a policy can guard, and what they result in.
#pragma once

#include <tidegate/call.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>

#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

namespace asio = boost::asio;

template <class T>
struct awaited_type {
    static constexpr bool is_awaitable = false;
};
template <class T, class Executor>
struct awaited_type<asio::awaitable<T, Executor>> {
    static constexpr bool is_awaitable = true;
    using type = T;
};

/// True if `op(context)`, or `op()`, returns an awaitable.
template <class Op, class... Arguments>
concept returns_awaitable = std::is_invocable_v<Op&, Arguments...> &&
                            awaited_type<std::invoke_result_t<Op&, Arguments...>>::is_awaitable;

/// Splits a completion signature into how it fails and what it results in.
template <class Signature>
struct signature_parts;

template <class... Results>
struct result_value {
    using type = std::tuple<Results...>;
};
template <class Result>
struct result_value<Result> {
    using type = Result;
};
template <>
struct result_value<> {
    using type = void;
};

template <class... Arguments>
struct signature_parts<void(Arguments...)> {
    static constexpr bool can_fail = false;
    using value = typename result_value<std::decay_t<Arguments>...>::type;
    using guarded_signature = void(std::exception_ptr, std::decay_t<Arguments>...);
};
template <class... Arguments>
struct signature_parts<void(error_code, Arguments...)> {
    static constexpr bool can_fail = true;
    using value = typename result_value<std::decay_t<Arguments>...>::type;
    using guarded_signature = void(error_code, std::decay_t<Arguments>...);
};
template <class... Arguments>
struct signature_parts<void(std::exception_ptr, Arguments...)> {
    static constexpr bool can_fail = true;
    using value = typename result_value<std::decay_t<Arguments>...>::type;
    using guarded_signature = void(std::exception_ptr, std::decay_t<Arguments>...);
};

template <class T>
struct awaitable_parts {
    using value = T;
    using guarded_signature = void(std::exception_ptr, T);
};
template <>
struct awaitable_parts<void> {
    using value = void;
    using guarded_signature = void(std::exception_ptr);
};

/// The ways to start `Op`, in the order in which they are looked for. What takes a completion token
/// comes first: a generic lambda must not be asked whether it takes a context.
enum class operation_kind { token, context_and_token, awaitable_of_context, awaitable };

template <class Op, class Context>
consteval operation_kind kind_of_operation() {
    if constexpr (asio::is_async_operation<Op&>::value) return operation_kind::token;
    else if constexpr (asio::is_async_operation<Op&, Context const&>::value)
        return operation_kind::context_and_token;
    else if constexpr (returns_awaitable<Op, Context const&>)
        return operation_kind::awaitable_of_context;
    else {
        static_assert(
            returns_awaitable<Op>,
            "a guarded operation takes a completion token or returns an awaitable, "
            "with the call context (by its type, not auto) as an optional first argument");
        return operation_kind::awaitable;
    }
}

template <class Op, class Context>
struct operation_traits {
    static constexpr operation_kind kind = kind_of_operation<Op, Context>();
    static constexpr bool takes_token =
        kind == operation_kind::token || kind == operation_kind::context_and_token;

    template <class Token>
    static decltype(auto) start(Op& op, Context const& context, Token&& token) {
        if constexpr (kind == operation_kind::token) {
            return op(std::forward<Token>(token));
        } else {
            return op(context, std::forward<Token>(token));
        }
    }
    static auto await(Op& op, Context const& context) {
        if constexpr (kind == operation_kind::awaitable_of_context) return op(context);
        else return op();
    }

private:
    static auto parts() {
        if constexpr (kind == operation_kind::token) {
            return signature_parts<asio::completion_signature_of_t<Op&>>();
        } else if constexpr (kind == operation_kind::context_and_token) {
            return signature_parts<asio::completion_signature_of_t<Op&, Context const&>>();
        } else {
            return awaitable_parts<typename awaited_type<decltype(await(
                std::declval<Op&>(), std::declval<Context const&>()))>::type>();
        }
    }

public:
    using value = typename decltype(parts())::value;
    using guarded_signature = typename decltype(parts())::guarded_signature;
};

/// Stores what an operation completed with.
template <class T>
void store(outcome<T>& result, std::tuple<>&&) {
    result.succeed();
}
template <class T, class First, class... Rest>
void store(outcome<T>& result, std::tuple<First, Rest...>&& completed) {
    auto succeed = [&](auto&&... values) { result.succeed(std::move(values)...); };
    if constexpr (std::is_same_v<First, error_code> || std::is_same_v<First, std::exception_ptr>) {
        if (std::get<0>(completed)) return result.fail(failure(std::get<0>(completed)));
        std::apply([&](auto&, auto&... values) { succeed(values...); }, completed);
    } else {
        std::apply([&](auto&... values) { succeed(values...); }, completed);
    }
}

} // namespace detail
TIDEGATE_END_NAMESPACE
