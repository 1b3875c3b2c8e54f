// SPDX-License-Identifier: BSL-1.0
// A layer that answers in place of a call that failed.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/detail/layer.hpp>
#include <tidegate/detail/operation_traits.hpp>

#include <string>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
/// For every failure.
struct always {
    bool operator()(failure const&) const noexcept { return true; }
};
} // namespace detail

/// Answers a failed call with `answer(failure const&)`, or `answer()`, which returns the value or
/// an awaitable of it (a second source, a cache that is out of date). What it throws becomes the
/// call's failure. The context says `degraded()` from then on. A call that succeeded is not
/// touched, and a cancelled one is never answered.
///
/// `when(failure const&)` chooses the failures; by default all.
template <class Answer, class Predicate = detail::always>
class fallback {
public:
    static constexpr detail::layer_kind kind = detail::layer_kind::fallback;

    explicit fallback(Answer answer, Predicate when = {})
        : answer_(std::move(answer)), when_(std::move(when)) {}

    std::string describe() const { return "fallback"; }

    class call : public detail::layer_call {
    public:
        explicit call(fallback const& layer) noexcept : layer_(&layer) {}

        template <class Context>
        error_code enter(Context&) noexcept {
            return {};
        }

        template <class Context, class T>
        detail::step leave(Context& c, outcome<T>& result) {
            if (result || result.why().is_cancellation() || !layer_->when_(result.why())) return {};
            if constexpr (is_awaitable) return {detail::step::what::settle, {}};
            if constexpr (!is_awaitable) give<T>(result, result.why());
            c.set_degraded();
            return {};
        }

        template <class Executor, class Context, class T>
        boost::asio::awaitable<void, Executor> settle(Context& c, outcome<T>& result) {
            if constexpr (is_awaitable) {
                c.set_degraded();
                failure const why = result.why();
                if constexpr (std::is_void_v<T>) {
                    co_await layer_->ask(why);
                    result.succeed();
                } else {
                    result.succeed(co_await layer_->ask(why));
                }
            }
            co_return;
        }

    private:
        template <class T>
        void give(outcome<T>& result, failure const& why) {
            if constexpr (std::is_void_v<T>) {
                layer_->ask(why);
                result.succeed();
            } else {
                result.succeed(layer_->ask(why));
            }
        }

        fallback const* layer_;
    };

private:
    static constexpr bool takes_failure = std::is_invocable_v<Answer const&, failure const&>;

    decltype(auto) ask([[maybe_unused]] failure const& why) const {
        if constexpr (takes_failure) return answer_(why);
        else return answer_();
    }

    static auto answer_type() {
        if constexpr (takes_failure) {
            return std::type_identity<std::invoke_result_t<Answer const&, failure const&>>();
        } else {
            return std::type_identity<std::invoke_result_t<Answer const&>>();
        }
    }
    static constexpr bool is_awaitable =
        detail::awaited_type<typename decltype(answer_type())::type>::is_awaitable;

    Answer answer_;
    Predicate when_;
};

TIDEGATE_END_NAMESPACE
