// SPDX-License-Identifier: BSL-1.0
// Named values that are loaded on first use, each by a loader of its own.
#pragma once

#include <tidegate/detail/flight_room.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/lazy_loader.hpp>
#include <tidegate/lazy_options.hpp>
#include <tidegate/parallel.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {

template <class Key, class T, class Hash, class Equal, class Clock, class Executor>
class lazy_map_state;
struct get_lazy;

} // namespace detail

/// Values by key, each loaded when it is first asked for.
///
///     tidegate::lazy_map<std::string, model> models(context);
///     models.register_loader("nano", pool, [] { return load("nano.onnx"); });
///     auto nano = co_await models.get("nano");            // a std::shared_ptr<model>
///     co_await models.load_all([](std::size_t done, std::size_t of) { ... });
///
/// Guarantees, for each key: however many ask, on whatever executors, one load runs, and all get
/// its value. A load belongs to nobody who waits: a caller that is cancelled leaves alone, when the
/// last one has left the load is cancelled (see `lazy_options::keep_loading`), and who asks then
/// starts another. A load that throws fails those who wait with what it threw, and is forgotten
/// unless `lazy_options::keep_failure` says otherwise. A loader that asks for its own key, be it by
/// way of other lazy values or caches, gets `error::recursive_load`.
///
/// A loader is a function without arguments that returns an awaitable of a `T` or of a
/// `std::shared_ptr<T>`, not null; or, together with a worker pool (whose header is not included
/// here), one that returns such a thing, and runs there. It is copied for each load, and may run at
/// the same time as an older load of its key that was cancelled and does not listen.
///
/// Executors: handlers run on their associated executor, by default this object's. Cancellation,
/// thread safety and destruction are those of `basic_semaphore`; destroying it cancels the loads
/// and does not wait for them: a loader owns what it uses, or that outlives the executor or pool
/// that it runs on. Values live as long as somebody has them. Calls are O(1).
template <class Key, class T, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>,
          class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor>
class basic_lazy_map {
    using state = detail::lazy_map_state<Key, T, Hash, Equal, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using value_type = T;
    using signature = void(std::exception_ptr, std::shared_ptr<T>);

    explicit basic_lazy_map(executor_type executor, lazy_options options = {})
        : state_(state::make(executor, options)) {}
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    explicit basic_lazy_map(Context& context, lazy_options options = {})
        : basic_lazy_map(executor_type(context.get_executor()), options) {}

    /// The moved-from object may only be destroyed.
    basic_lazy_map(basic_lazy_map&&) noexcept = default;
    basic_lazy_map& operator=(basic_lazy_map&&) = delete;
    ~basic_lazy_map() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// How `key` is loaded from now on; what was loaded otherwise is forgotten.
    template <class Load>
    void register_loader(Key key, Load load) {
        state_->register_loader(std::move(key), detail::make_loader<T>(std::move(load)));
    }
    template <class Load>
    void register_loader(Key key, basic_worker_pool<Executor>& pool, Load load) {
        state_->register_loader(std::move(key), detail::make_loader_on<T>(pool, std::move(load)));
    }

    /// The value if it is there, else null; never waits or loads.
    std::shared_ptr<T> get_if_ready(Key const& key) const { return state_->get_if_ready(key); }

    /// The value, after a load if need be. Completion signature:
    /// `void(std::exception_ptr, std::shared_ptr<T>)`. Failures: what the loader threw, or a
    /// boost::system::system_error with `operation_aborted`, `error::not_found` if no loader is
    /// registered, `error::deadline_exceeded`, `error::recursive_load` or `error::closed`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_get(Key key, Token&& token = Token()) {
        return initiate<Token>(std::move(key), false, token);
    }
    /// The value, loaded anew: a load in progress is not enough.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_reload(Key key, Token&& token = Token()) {
        return initiate<Token>(std::move(key), true, token);
    }

    /// For coroutines: as `async_get`, without suspending when the value is there.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> get(Key key) {
        if (auto value = state_->hit(key)) co_return value;
        co_return co_await async_get(std::move(key), boost::asio::deferred);
    }
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::shared_ptr<T>, CoroutineExecutor> reload(Key key) {
        co_return co_await async_reload(std::move(key), boost::asio::deferred);
    }

    /// Loads all that have a loader, `at_once` at a time (1 to 65536); calls `progress(done, of)`,
    /// which may be null, after each, on this coroutine's executor: one call at a time, though on
    /// several threads if that has several. Throws the first failure, having cancelled its part in
    /// the others.
    boost::asio::awaitable<void>
    load_all(std::function<void(std::size_t, std::size_t)> progress = {}, std::size_t at_once = 4) {
        auto all = keys();
        load_progress loaded(std::move(progress), all.size());
        auto one = [&](Key const& key) { return load_one(key, loaded); };
        co_await parallel_for_each(all, at_once, one);
    }

    /// Forgets the value, or the failure. Those who wait get what is being loaded; who asks from
    /// now on has it loaded anew.
    void reset(Key const& key) { state_->reset(key); }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: hit and missed, once for each call that asks for a value and not for a new one;
    /// loaded and load_failed, once a load; removed, when a value is forgotten, and replaced; and
    /// of those who wait and leave: cancelled, rejected (`close`).
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("lazy_map", std::move(observer), std::move(name));
    }

    /// The keys with a loader, in no order.
    std::vector<Key> keys() const { return state_->keys(); }

    /// Values that are there, and loads in progress.
    std::size_t loaded() const noexcept { return state_->loaded(); }
    std::size_t loading() const noexcept { return state_->in_flight(); }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_lazy_map_loaded", "Values that are there",
                 static_cast<double>(loaded()));
        to.gauge("tidegate_lazy_map_loading", "Loads in progress", static_cast<double>(loading()));
    }

    /// Completes all that wait with `operation_aborted`, and cancels the loads.
    void cancel() noexcept { state_->cancel(); }
    /// As `cancel`, with `error::closed`, for all later ones too. What is loaded stays.
    void close() noexcept { state_->close(); }

private:
    class load_progress {
    public:
        load_progress(std::function<void(std::size_t, std::size_t)> tell, std::size_t of)
            : tell_(std::move(tell)), of_(of) {}

        void one_more() {
            std::lock_guard lock(mutex_); // the loads may end on several threads
            ++done_;
            if (tell_) tell_(done_, of_);
        }

    private:
        std::function<void(std::size_t, std::size_t)> tell_;
        std::size_t of_;
        std::size_t done_ = 0;
        std::mutex mutex_;
    };

    boost::asio::awaitable<void> load_one(Key key, load_progress& progress) {
        co_await get<boost::asio::any_io_executor>(std::move(key));
        progress.one_more();
    }

    template <class Token>
    auto initiate(Key key, bool anew, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::get_lazy>(*state_), token, std::move(key), anew);
    }

    std::shared_ptr<state> state_;
};

template <class Key, class T>
using lazy_map = basic_lazy_map<Key, T>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/lazy_map.hpp>
