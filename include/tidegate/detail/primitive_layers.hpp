// SPDX-License-Identifier: BSL-1.0
// How the primitives take part in a policy.
#pragma once

#include <tidegate/detail/layer.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>

#include <string>
#include <tuple>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A call takes a permit, waiting for it as long as its deadline and the limiter's own settings
/// allow. A permit goes back if a layer further in refused the call.
template <class Limiter>
class rate_limiter_layer {
public:
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
            auto const decision = limiter_->try_acquire(1, c.now());
            if (decision) return {};
            error_code const ec = decision.error();
            c.set_retry_after(decision.retry_after());
            return ec == error::rate_limited ? boost::asio::error::would_block : ec;
        }

        template <class Executor>
        boost::asio::awaitable<error_code, Executor> wait(context& c) {
            auto [ec] = co_await limiter_->async_acquire_until(
                c.deadline(), boost::asio::as_tuple(boost::asio::deferred));
            co_return ec;
        }

        template <class T>
        step leave(context&, outcome<T>& result) noexcept {
            if (!result && result.why().is_refusal()) limiter_->refund();
            return {};
        }

    private:
        Limiter* limiter_;
    };

private:
    Limiter* limiter_;
};

/// A call holds a permit while it is inside, waiting for it as long as its deadline and the
/// semaphore's own settings allow.
template <class Semaphore>
class bulkhead_layer {
public:
    using clock_type = typename Semaphore::clock_type;
    using context = basic_call_context<clock_type>;

    explicit bulkhead_layer(Semaphore& semaphore) noexcept : semaphore_(&semaphore) {}

    std::string describe() const { return "bulkhead " + std::to_string(semaphore_->capacity()); }

    class call : public layer_call {
    public:
        explicit call(bulkhead_layer const& layer) noexcept : semaphore_(layer.semaphore_) {}

        error_code enter(context&) {
            permit_ = semaphore_->try_acquire();
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

template <class T>
inline constexpr bool is_primitive = !std::is_same_v<typename layer_for<T>::type, T>;

} // namespace detail
TIDEGATE_END_NAMESPACE
