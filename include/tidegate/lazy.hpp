// SPDX-License-Identifier: BSL-1.0
// A value that is loaded once, on first use.
#pragma once

#include <tidegate/lazy_map.hpp>

#include <memory>
#include <string>
#include <utility>
#include <variant>

TIDEGATE_BEGIN_NAMESPACE

/// A value that is loaded when it is first asked for.
///
///     tidegate::lazy<model> detector(pool, [path] { return load(path); });
///     auto model = co_await detector.get();       // a std::shared_ptr<model>
///
/// Guarantees, loaders, executors, cancellation, thread safety and destruction are those of
/// `basic_lazy_map`, of which this is one entry.
template <class T, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor>
class basic_lazy {
    struct hash {
        std::size_t operator()(std::monostate) const noexcept { return 0; }
    };
    using map =
        basic_lazy_map<std::monostate, T, hash, std::equal_to<std::monostate>, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using value_type = T;
    using signature = typename map::signature;

    /// `load()` returns an awaitable of a T, or of a std::shared_ptr<T>.
    template <class Load>
    basic_lazy(executor_type executor, Load load, lazy_options options = {})
        : map_(std::move(executor), options) {
        map_.register_loader({}, std::move(load));
    }
    template <class Context, class Load>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_lazy(Context& context, Load load, lazy_options options = {})
        : basic_lazy(executor_type(context.get_executor()), std::move(load), options) {}
    /// `load()` returns a T, or a std::shared_ptr<T>, and runs on the pool. If that is closed
    /// first, who waits gets `error::closed`; if it drops the load, `error::dropped`.
    template <class Load>
    basic_lazy(basic_worker_pool<Executor>& pool, Load load, lazy_options options = {})
        : map_(pool.get_executor(), options) {
        map_.register_loader({}, pool, std::move(load));
    }

    executor_type get_executor() const noexcept { return map_.get_executor(); }

    /// The value if it is there, else null; never waits or loads.
    std::shared_ptr<T> get_if_ready() const { return map_.get_if_ready({}); }

    /// The value, after a load if need be, or after another one; see `basic_lazy_map`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_get(Token&& token = Token()) {
        return map_.async_get({}, std::forward<Token>(token));
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_reload(Token&& token = Token()) {
        return map_.async_reload({}, std::forward<Token>(token));
    }

    /// For coroutines: as `async_get`, without suspending when the value is there.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> get() {
        return map_.template get<CoroutineExecutor>({});
    }
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> reload() {
        return map_.template reload<CoroutineExecutor>({});
    }

    /// Forgets the value, or the failure; see `basic_lazy_map::reset`.
    void reset() { map_.reset({}); }

    /// Tells `observer` what happens here; the events are those of `basic_lazy_map`.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        map_.state_->observe("lazy", std::move(observer), std::move(name));
    }

    /// Completes all that wait with `operation_aborted`, and cancels the load.
    void cancel() noexcept { map_.cancel(); }
    /// As `cancel`, with `error::closed`, for all later ones too. The value stays.
    void close() noexcept { map_.close(); }

private:
    map map_;
};

template <class T>
using lazy = basic_lazy<T>;

TIDEGATE_END_NAMESPACE
