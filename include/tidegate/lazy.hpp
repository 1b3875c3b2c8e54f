// SPDX-License-Identifier: BSL-1.0
// A value that is loaded once, on first use, off the event loop.
#pragma once

#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/waiting_room.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class T, class Executor>
class lazy_state;
struct get_lazy;
} // namespace detail

/// A value that is loaded when it is first asked for, on a worker pool.
///
///     tidegate::lazy<model> detector(pool, [path] { return load(path); });
///     auto model = co_await detector.get();       // a std::shared_ptr<model>
///
/// Guarantees: however many ask, one load runs, and all get its value. A load that throws fails
/// those who wait with what it threw, and is not remembered: the next one to ask loads again. A
/// caller that is cancelled leaves alone; the load goes on for the others, and its value is kept.
///
/// Executors: the loader runs on the pool, handlers on their associated executor, by default the
/// pool's. Cancellation, thread safety and destruction are those of `basic_semaphore`. When the
/// pool is closed first, a load that has not started fails with `error::closed`; when it drops the
/// load
/// (`when_full::drop_oldest`), with `error::dropped`, and the next one to ask loads again.
template <class T, class Executor = boost::asio::any_io_executor>
class basic_lazy {
    using state = detail::lazy_state<T, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using value_type = T;
    using signature = void(std::exception_ptr, std::shared_ptr<T>);

    /// `load` returns a T, or a std::shared_ptr<T> that must not be null.
    template <class Load>
    basic_lazy(basic_worker_pool<Executor>& pool, Load load)
        : state_(state::make(pool, std::move(load))) {}

    /// The moved-from object may only be destroyed.
    basic_lazy(basic_lazy&&) noexcept = default;
    basic_lazy& operator=(basic_lazy&&) = delete;
    ~basic_lazy() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// The value if it is loaded, otherwise null; never waits or loads.
    std::shared_ptr<T> try_get() const noexcept { return state_->try_get(); }

    /// The value, after a load if need be. Completion signature:
    /// `void(std::exception_ptr, std::shared_ptr<T>)`. Failures: what the loader threw, or a
    /// boost::system::system_error with `operation_aborted`, `error::closed` or `error::dropped`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_get(Token&& token = Token()) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::get_lazy>(*state_), token);
    }

    /// For coroutines: as `async_get`, without suspending when the value is there.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> get() {
        if (auto value = try_get()) co_return value;
        co_return co_await async_get(boost::asio::deferred);
    }

private:
    std::shared_ptr<state> state_;
};

template <class T>
using lazy = basic_lazy<T>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/lazy.hpp>
