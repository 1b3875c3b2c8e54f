// SPDX-License-Identifier: BSL-1.0
// How the primitives take part in a policy.
#pragma once

#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/layer.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

// Who passes one to a policy has its header.
enum class priority;
template <class Clock, class Executor, class Mutex>
class basic_rate_limiter;
template <class Clock, class Executor, class Mutex>
class basic_semaphore;
template <class Clock>
class basic_adaptive_limiter;
template <class Clock>
class basic_circuit_breaker;

namespace detail {

/// A call takes a permit, waiting for it as long as its deadline and the limiter's own settings
/// allow. A permit goes back if a layer further in refused the call, or that was cancelled there,
/// before anything was begun.
template <class Limiter>
class rate_limiter_layer {
public:
    static constexpr layer_kind kind = layer_kind::limiter;
    using clock_type = typename Limiter::clock_type;
    using context = basic_call_context<clock_type>;

    explicit rate_limiter_layer(Limiter& limiter) noexcept : limiter_(&limiter) {}

    std::string describe() const {
        auto const s = limiter_->settings();
        return "rate_limiter " + std::to_string(s.permits()) + " per " + to_text(s.period()) +
               ", burst " + std::to_string(s.burst());
    }

    class call : public layer_call {
    public:
        explicit call(rate_limiter_layer const& layer) noexcept : limiter_(layer.limiter_) {}

        error_code enter(context& c) {
            starts_ = c.starts();
            auto& state = *limiter_->state_;
            auto const decision = state.try_before_waiting(1, c.now());
            if (decision) return {};
            error_code const ec = decision.error();
            c.set_retry_after(in_nanoseconds(decision.retry_after()));
            if (ec == error::rate_limited) return boost::asio::error::would_block;
            state.tell(decision, 1);
            return ec;
        }

        template <class Executor>
        boost::asio::awaitable<error_code, Executor> wait(context& c) {
            auto const result = co_await limiter_->async_acquire_until(
                c.deadline(), boost::asio::as_tuple(boost::asio::deferred));
            auto const& [ec] = result;
            if (!ec) c.set_retry_after({}); // that time is over
            co_return ec;
        }

        template <class T>
        step leave(context& c, outcome<T>& result) noexcept {
            // Of several attempts the last may have been refused, and another not.
            bool const begun = c.starts() != starts_;
            if (!result && result.why().is_refusal() && !begun) limiter_->refund();
            return {};
        }

    private:
        Limiter* limiter_;
        std::uint32_t starts_ = 0; // the call's, before
    };

private:
    Limiter* limiter_;
};

/// A call holds a permit while it is inside, waiting for it as long as its deadline and the
/// semaphore's own settings allow.
template <class Semaphore>
class bulkhead_layer {
public:
    static constexpr layer_kind kind = layer_kind::bulkhead;
    using clock_type = typename Semaphore::clock_type;
    using context = basic_call_context<clock_type>;

    explicit bulkhead_layer(Semaphore& semaphore) noexcept : semaphore_(&semaphore) {}

    std::string describe() const { return "bulkhead " + std::to_string(semaphore_->capacity()); }

    class call : public layer_call {
    public:
        explicit call(bulkhead_layer const& layer) noexcept : semaphore_(layer.semaphore_) {}

        error_code enter(context&) {
            permit_ = semaphore_->state_->try_before_waiting(1);
            if (permit_) return {};
            return boost::asio::error::would_block;
        }

        template <class Executor>
        boost::asio::awaitable<error_code, Executor> wait(context& c) {
            auto completed = co_await semaphore_->async_acquire_until(
                c.deadline(), boost::asio::as_tuple(boost::asio::deferred));
            permit_ = std::move(std::get<1>(completed));
            co_return std::get<0>(completed);
        }

        template <class T>
        step leave(context&, outcome<T>&) noexcept {
            permit_.release();
            return {};
        }

    private:
        Semaphore* semaphore_;
        typename Semaphore::permit permit_;
    };

private:
    Semaphore* semaphore_;
};

/// True if a predicate can be asked about what a call results in.
template <class Predicate, class T>
inline constexpr bool judges_results =
    !std::is_void_v<T> &&
    std::is_invocable_v<Predicate const&, typename outcome<T>::value_type const&>;

/// What an adaptive limiter takes for overload unless told otherwise: a deadline that passed while
/// the operation ran.
struct overload {
    bool operator()(failure const& f) const noexcept {
        return f.code() == error::deadline_exceeded && !f.is_refusal();
    }
};

/// A call has to fit into the limit, and its latency moves the limit. Failures show nothing, unless
/// the predicate knows them for overload; nor does cancellation.
template <class Limiter, class Predicate>
class adaptive_limiter_layer {
public:
    static constexpr layer_kind kind = layer_kind::bulkhead;
    using clock_type = typename Limiter::clock_type;
    using context = basic_call_context<clock_type>;

    template <class Priority = priority>
    explicit adaptive_limiter_layer(Limiter& limiter, Predicate is_overload = {},
                                    Priority p = Priority::normal)
        : limiter_(&limiter), priority_(p), is_overload_(std::move(is_overload)) {}

    std::string describe() const {
        return "adaptive_limiter (" + std::to_string(limiter_->limit()) + ")";
    }

    class call : public layer_call {
    public:
        explicit call(adaptive_limiter_layer const& layer) noexcept : layer_(&layer) {}

        error_code enter(context& c) {
            permit_ = layer_->limiter_->try_acquire(layer_->priority_, c.now());
            return permit_ ? error_code() : error_code(error::overloaded);
        }

        template <class T>
        step leave(context& c, outcome<T>& result) {
            auto permit = std::move(permit_); // goes if the predicate throws
            if (is_overload(result)) permit.dropped();
            else if (result) permit.success(c.now());
            else permit.ignore();
            return {};
        }

    private:
        template <class T>
        bool is_overload(outcome<T> const& result) const {
            if (!result)
                return !result.why().is_cancellation() && layer_->is_overload_(result.why());
            if constexpr (judges_results<Predicate, T>) return layer_->is_overload_(result.value());
            return false;
        }

        adaptive_limiter_layer const* layer_;
        typename Limiter::permit permit_;
    };

private:
    Limiter* limiter_;
    priority priority_;
    [[no_unique_address]] Predicate is_overload_;
};

/// What a breaker takes for a failure unless told otherwise: every failure but a refusal by another
/// layer further in, which says nothing about what is called.
struct breaker_failure {
    bool operator()(failure const& f) const noexcept { return !f.is_refusal(); }
};

/// Of what is called, which never asks for a delay.
struct no_delay {
    std::optional<std::chrono::nanoseconds> operator()(failure const&) const noexcept {
        return std::nullopt;
    }
};

/// A call has to be admitted by the breaker, which hears what came of it. Cancellation is no
/// evidence, nor is a refusal further in.
template <class Breaker, class Predicate, class Delay = no_delay>
class breaker_layer {
public:
    static constexpr layer_kind kind = layer_kind::breaker;
    using clock_type = typename Breaker::clock_type;
    using context = basic_call_context<clock_type>;

    explicit breaker_layer(Breaker& breaker, Predicate is_failure = {}, Delay delay_from = {})
        : breaker_(&breaker),
          is_failure_(std::move(is_failure)),
          delay_from_(std::move(delay_from)) {}

    std::string describe() const {
        return "circuit_breaker (" + std::string(to_string(breaker_->state())) + ")";
    }

    class call : public layer_call {
    public:
        explicit call(breaker_layer const& layer) noexcept : layer_(&layer) {}

        error_code enter(context& c) {
            auto& breaker = *layer_->breaker_;
            timed_ = breaker.measures_time();
            using states = decltype(breaker.state());
            bool const read = timed_ || breaker.state() == states::open; // the clock, once
            permit_ = read ? breaker.try_acquire(c.now()) : breaker.try_acquire();
            if (permit_) {
                probe_outside_ = c.is_probe();
                if (permit_.is_probe()) c.set_probe(true);
                waited_ = c.waited();
                return {};
            }
            c.set_retry_after(in_nanoseconds(breaker.retry_after(c.now())));
            return error::circuit_open;
        }

        template <class T>
        step leave(context& c, outcome<T>& result) {
            c.set_probe(probe_outside_);
            auto permit = std::move(permit_); // goes if the predicate throws
            if (timed_) permit.exclude(c.waited() - waited_);
            if (is_failure(result)) {
                permit.failure(result ? error_code() : result.why().code(), hint(c, result),
                               c.now());
            } else if (result) {
                if (timed_) permit.success(c.now());
                else permit.success();
            } else {
                permit.ignore();
            }
            return {};
        }

    private:
        template <class T>
        bool is_failure(outcome<T> const& result) const {
            if (!result)
                return !result.why().is_cancellation() && layer_->is_failure_(result.why());
            if constexpr (judges_results<Predicate, T>) return layer_->is_failure_(result.value());
            return false;
        }

        // For how long to leave alone what is called: as layers further in say, or the failure.
        template <class T>
        std::optional<typename Breaker::duration> hint(context const& c,
                                                       outcome<T> const& result) const {
            using std::chrono::nanoseconds;
            std::optional<nanoseconds> asked;
            if (!result) asked = layer_->delay_from_(result.why());
            else if constexpr (judges_results<Delay, T>)
                asked = layer_->delay_from_(result.value());
            // Never to come back is this call.
            if (asked == nanoseconds::max()) asked.reset();
            nanoseconds const time = std::max(c.retry_after(), asked.value_or(nanoseconds(0)));
            if (time.count() == 0) return std::nullopt;
            return std::chrono::ceil<typename Breaker::duration>(time);
        }

        breaker_layer const* layer_;
        typename Breaker::permit permit_;
        bool timed_ = false;
        bool probe_outside_ = false;
        typename Breaker::duration waited_{0};
    };

private:
    Breaker* breaker_;
    Predicate is_failure_;
    [[no_unique_address]] Delay delay_from_;
};

/// The layer that stands for what was passed to a policy: the thing itself, unless it is a
/// primitive.
template <class T>
struct layer_for {
    using type = T;
};
template <class Clock, class Executor, class Mutex>
struct layer_for<basic_rate_limiter<Clock, Executor, Mutex>> {
    using type = rate_limiter_layer<basic_rate_limiter<Clock, Executor, Mutex>>;
};
template <class Clock, class Executor, class Mutex>
struct layer_for<basic_semaphore<Clock, Executor, Mutex>> {
    using type = bulkhead_layer<basic_semaphore<Clock, Executor, Mutex>>;
};

template <class Clock>
struct layer_for<basic_circuit_breaker<Clock>> {
    using type = breaker_layer<basic_circuit_breaker<Clock>, breaker_failure>;
};

template <class Clock>
struct layer_for<basic_adaptive_limiter<Clock>> {
    using type = adaptive_limiter_layer<basic_adaptive_limiter<Clock>, overload>;
};

template <class T>
inline constexpr bool is_primitive = !std::is_same_v<typename layer_for<T>::type, T>;

} // namespace detail

/// A breaker in a policy with another idea of failure: `is_failure` is called with a
/// `failure const&` (never for a cancellation), and, if it can be, with the result of a call that
/// succeeded.
///
/// `delay_from` is asked about what was a failure in the same way: a time for which what was called
/// asks to be left alone (Retry-After), or none. A breaker that this failure opens stays open for
/// at least as long. It may be that of a retry: what means "do not come back" there, a negative
/// time and the largest, is about the one call and has no effect here.
template <class Clock, class Predicate, class Delay = detail::no_delay>
auto break_if(basic_circuit_breaker<Clock>& breaker, Predicate is_failure, Delay delay_from = {}) {
    return detail::breaker_layer<basic_circuit_breaker<Clock>, Predicate, Delay>(
        breaker, std::move(is_failure), std::move(delay_from));
}

/// An adaptive limiter in a policy with another idea of overload than a deadline that passed while
/// the operation ran: `is_overload` is called with a `failure const&` (never for a cancellation,
/// but for refusals further in: `is_refusal()`), and, if it can be, with the result of a call that
/// succeeded, such as an answer of 503. True is a drop; other failures show nothing, and other
/// results count with their latency. Calls are let in with priority `p`, normal unless given.
template <class Clock, class Predicate, class Priority = priority>
auto drop_if(basic_adaptive_limiter<Clock>& limiter, Predicate is_overload,
             Priority p = Priority::normal) {
    return detail::adaptive_limiter_layer<basic_adaptive_limiter<Clock>, Predicate>(
        limiter, std::move(is_overload), p);
}

TIDEGATE_END_NAMESPACE
