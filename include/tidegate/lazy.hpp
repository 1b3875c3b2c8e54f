// SPDX-License-Identifier: BSL-1.0
// A value that is loaded once, on first use.
#pragma once

#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/lazy_loader.hpp>
#include <tidegate/impl/lazy_map.hpp>
#include <tidegate/lazy_options.hpp>

#include <memory>
#include <string>
#include <utility>
#include <variant>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class T, class Clock, class Executor>
class lazy_state;
} // namespace detail

/// A value that is loaded when it is first asked for.
///
///     tidegate::lazy<model> detector(pool, [path] { return load(path); });
///     auto model = co_await detector.get();       // a std::shared_ptr<model>
///
/// Guarantees, loaders, executors, cancellation, thread safety and destruction are those of
/// `basic_lazy_map`, of which this is one entry. While nothing is loaded it is small: what a load
/// needs is allocated for the first caller who does not find the value, and freed after the load
/// (with `keep_failure`, when a caller comes after that; not, if somebody observes).
template <class T, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor>
class basic_lazy {
    using state = detail::lazy_state<T, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using value_type = T;
    using signature = void(std::exception_ptr, std::shared_ptr<T>);

    /// `load()` returns an awaitable of a T, or of a std::shared_ptr<T>.
    template <class Load>
    basic_lazy(executor_type executor, Load load, lazy_options options = {})
        : state_(std::make_shared<state>(std::move(executor),
                                         detail::make_loader<T>(std::move(load)), options)) {}
    template <class Context, class Load>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_lazy(Context& context, Load load, lazy_options options = {})
        : basic_lazy(executor_type(context.get_executor()), std::move(load), options) {}
    /// `load()` returns a T, or a std::shared_ptr<T>, and runs on the pool (worker_pool.hpp). If
    /// that is closed first, who waits gets `error::closed`; if it drops the load,
    /// `error::dropped`.
    template <class Load>
    basic_lazy(basic_worker_pool<Executor>& pool, Load load, lazy_options options = {})
        : state_(std::make_shared<state>(
              pool.get_executor(), detail::make_loader_on<T>(pool, std::move(load)), options)) {}

    /// The moved-from object may only be destroyed.
    basic_lazy(basic_lazy&&) noexcept = default;
    basic_lazy& operator=(basic_lazy&&) = delete;
    ~basic_lazy() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// The value if it is there, else null; never waits or loads.
    std::shared_ptr<T> get_if_ready() const { return state_->get_if_ready(); }

    /// The value, after a load if need be, or after another one; see `basic_lazy_map`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_get(Token&& token = Token()) {
        return initiate<Token>(false, token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_reload(Token&& token = Token()) {
        return initiate<Token>(true, token);
    }

    /// For coroutines: as `async_get`, without suspending when the value is there.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> get() {
        if (auto value = state_->hit()) co_return value;
        co_return co_await async_get(boost::asio::deferred);
    }
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> reload() {
        co_return co_await async_reload(boost::asio::deferred);
    }

    /// Forgets the value, or the failure; see `basic_lazy_map::reset`.
    void reset() { state_->reset(); }

    /// Tells `observer` what happens here; the events are those of `basic_lazy_map`.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe(std::move(observer), std::move(name));
    }

    /// Completes all that wait with `operation_aborted`, and cancels the load.
    void cancel() noexcept { state_->cancel(); }
    /// As `cancel`, with `error::closed`, for all later ones too. The value stays.
    void close() noexcept { state_->close(); }

private:
    template <class Token>
    auto initiate(bool anew, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::get_lazy>(*state_), token, anew);
    }

    std::shared_ptr<state> state_;
};

template <class T>
using lazy = basic_lazy<T>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/lazy.hpp>
