// SPDX-License-Identifier: BSL-1.0
// Heavy things, such as models, within a budget of memory.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/flight_room.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/lazy_loader.hpp>
#include <tidegate/unload_order.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What something takes of each kind of memory: host bytes and device bytes, say.
template <std::size_t kinds>
using resource_size = std::array<std::uint64_t, kinds>;

/// Settings of a resource_budget, with their defaults.
class resource_budget_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// Loads that wait for room at most, 0 to 2^32; 0 fails at once, with `error::queue_full`, what
    /// has no room. Default: 2^32.
    resource_budget_options& max_waiting_loads(std::size_t n) {
        detail::check_option<std::size_t>("resource_budget max_waiting_loads", n, 0,
                                          std::size_t{1} << 32);
        max_waiting_loads_ = n;
        return *this;
    }
    /// How long a load waits for room before it fails with `error::deadline_exceeded`. 1 ns to 10
    /// years; default: 30 s. There is always a limit: two callers that each hold one thing and want
    /// another would wait for ever.
    resource_budget_options& max_wait(nanoseconds time) {
        check("resource_budget max_wait in ns", time);
        max_wait_ = time;
        return *this;
    }
    /// How long a load may take besides `max_wait`: it fails, as by `lazy_options::load_timeout`,
    /// when it is not over, its wait for room included, that much later than `max_wait` after it
    /// began. Its room is free when the loader has ended. 1 ns to 10 years; default: 5 minutes.
    resource_budget_options& load_timeout(nanoseconds time) {
        check("resource_budget load_timeout in ns", time);
        load_timeout_ = time;
        return *this;
    }
    /// What nobody has used for that long is unloaded. The context has work meanwhile. 1 ns to 10
    /// years; default: only when its room is needed.
    resource_budget_options& time_to_idle(nanoseconds time) {
        check("resource_budget time_to_idle in ns", time);
        time_to_idle_ = time;
        return *this;
    }
    /// Default: idle_longest.
    resource_budget_options& unload_first(unload_order order) {
        unload_first_ = order;
        return *this;
    }
    /// Where loaders run, and where what is given up is destroyed. Default: the executor of the
    /// budget, and the thread that gave it up.
    resource_budget_options& load_on(boost::asio::any_io_executor executor) {
        load_on_ = std::move(executor);
        return *this;
    }
    resource_budget_options& unload_on(boost::asio::any_io_executor executor) {
        unload_on_ = std::move(executor);
        return *this;
    }

    std::size_t max_waiting_loads() const noexcept { return max_waiting_loads_; }
    nanoseconds max_wait() const noexcept { return max_wait_; }
    nanoseconds load_timeout() const noexcept { return load_timeout_; }
    std::optional<nanoseconds> time_to_idle() const noexcept { return time_to_idle_; }
    unload_order unload_first() const noexcept { return unload_first_; }
    boost::asio::any_io_executor const& load_on() const noexcept { return load_on_; }
    boost::asio::any_io_executor const& unload_on() const noexcept { return unload_on_; }

private:
    static void check(char const* option, nanoseconds time) {
        detail::check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
    }

    std::size_t max_waiting_loads_ = std::size_t{1} << 32;
    nanoseconds max_wait_ = std::chrono::seconds(30);
    nanoseconds load_timeout_ = std::chrono::minutes(5);
    std::optional<nanoseconds> time_to_idle_;
    unload_order unload_first_ = unload_order::idle_longest;
    boost::asio::any_io_executor load_on_;
    boost::asio::any_io_executor unload_on_;
};

/// What a resource_budget holds, and did so far.
template <std::size_t kinds>
struct resource_budget_statistics {
    resource_size<kinds> used{}; ///< by what is resident, being loaded, and being unloaded
    resource_size<kinds> limit{};
    std::size_t resident = 0;
    std::size_t leased = 0;  ///< of those, in use
    std::size_t waiting = 0; ///< loads that wait for room
    std::uint64_t loads = 0;
    std::uint64_t unloads = 0;
};

namespace detail {
template <class Key, class T, std::size_t kinds, class Hash, class Equal, class Clock,
          class Executor>
class resource_budget_state;
struct acquire_resource;
} // namespace detail

/// Named things that are loaded when somebody wants them, and unloaded when their room is needed.
///
///     tidegate::resource_budget<std::string, model> models(context, {4'000'000'000});
///     models.add("nano", {400'000'000}, pool, [] { return load("nano.onnx"); });
///     auto nano = co_await models.acquire("nano");      // a std::shared_ptr<model>, and a lease
///
/// Guarantees. What is resident, being loaded, being unloaded, and removed but still leased never
/// exceeds the budget, in any of its kinds of memory, as far as the sizes are right: one is an
/// estimate until the thing is loaded, and then what `measure` says. Should it turn out larger than
/// there is room for, it is destroyed, and loaded again when there is.
///
/// A lease is a shared pointer: the thing is in use until the last copy has gone, may outlive this
/// object, and is never unloaded under its user. Waiting for a thing and getting the lease are one
/// step. When room is needed, what has been idle longest goes first, or what is least missed (see
/// `unload_order`), only as much as is needed, and nothing if that would not be enough. Loads wait
/// for room in the order in which they began; who asks for what is resident waits for nobody. A
/// thing larger than the whole budget fails at once, with `error::over_budget`.
///
/// One load however many ask, with the rules of `basic_lazy_map`, whose kinds of loader it takes.
///
/// Executors: handlers run on their associated executor, by default this object's. Cancellation,
/// thread safety and destruction are those of `basic_semaphore`; destroying it does not wait for
/// loads: a loader owns what it uses, or that outlives the executor or pool that it runs on. Things
/// are destroyed with no lock held. O(1), but for making room: O(n) for n that go and the pinned
/// ones that have been idle longer, O(n log n) for all n idle things with
/// `unload_order::least_missed`; and with a time to idle, O(pinned idle things). A lease allocates
/// once.
template <class Key, class T, std::size_t kinds = 1, class Hash = std::hash<Key>,
          class Equal = std::equal_to<Key>, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor>
class basic_resource_budget {
    using state = detail::resource_budget_state<Key, T, kinds, Hash, Equal, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using value_type = T;
    using size = resource_size<kinds>;
    using lease = std::shared_ptr<T>;
    using signature = void(std::exception_ptr, lease);
    using measure = std::function<size(T const&)>;

    /// `limit`: of each kind of memory, 1 to 2^62; throws std::invalid_argument otherwise.
    basic_resource_budget(executor_type executor, size limit, resource_budget_options options = {})
        : state_(state::make(executor, limit, options)) {}
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_resource_budget(Context& context, size limit, resource_budget_options options = {})
        : basic_resource_budget(executor_type(context.get_executor()), limit, options) {}

    /// The moved-from object may only be destroyed.
    basic_resource_budget(basic_resource_budget&&) noexcept = default;
    basic_resource_budget& operator=(basic_resource_budget&&) = delete;
    ~basic_resource_budget() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// How `key` is loaded, and about how large it is. With `measure`, the size is corrected once
    /// it is loaded. What is loaded of that key already is used until it is unloaded.
    template <class Load>
    void add(Key key, size estimate, Load load, measure how_large = {}) {
        state_->add(std::move(key), estimate, detail::make_loader<T>(std::move(load)),
                    std::move(how_large));
    }
    template <class Load>
    void add(Key key, size estimate, basic_worker_pool<Executor>& pool, Load load,
             measure how_large = {}) {
        state_->add(std::move(key), estimate, detail::make_loader_on<T>(pool, std::move(load)),
                    std::move(how_large));
    }

    /// A pinned thing stays once it is loaded, however long it is idle. False if it is not known.
    bool pin(Key const& key, bool pinned = true) { return state_->pin(key, pinned); }

    /// A lease, if the thing is resident; otherwise empty.
    lease try_acquire(Key const& key) { return state_->try_acquire(key); }

    /// A lease, after a load if need be. Completion signature: `void(std::exception_ptr, lease)`.
    /// Failures: what the loader threw, or a boost::system::system_error with `operation_aborted`,
    /// `error::not_found`, `error::over_budget`, `error::queue_full`, `error::deadline_exceeded`,
    /// `error::recursive_load` or `error::closed`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(Key key, Token&& token = Token()) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::acquire_resource>(*state_), token, std::move(key));
    }
    /// For coroutines: as `async_acquire`, without suspending when the thing is resident.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<lease, CoroutineExecutor> acquire(Key key) {
        if (auto there = state_->hit(key)) co_return there;
        co_return co_await async_acquire(std::move(key), boost::asio::deferred);
    }

    /// Unloads it as soon as nobody uses it; who asks from now on has it loaded anew. False if it
    /// was not resident.
    bool unload(Key const& key) { return state_->unload(key); }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: hit and missed, once for each call that asks for a lease; loaded and load_failed,
    /// once a load, the wait for room included; evicted, expired, removed and replaced, one for
    /// each thing that is not to be found any more, when it is destroyed; of those who wait for a
    /// load and leave: cancelled, rejected (`close`); of loads that wait for room: timed_out,
    /// cancelled, rejected (`error::queue_full`, `close`).
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe_all(std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_resource_budget_resident", "Resources loaded",
                 static_cast<double>(all.resident));
        to.gauge("tidegate_resource_budget_leased", "Resources in use",
                 static_cast<double>(all.leased));
        to.gauge("tidegate_resource_budget_waiting", "Loads that wait for room",
                 static_cast<double>(all.waiting));
        to.counter("tidegate_resource_budget_loads", "Loads", static_cast<double>(all.loads));
        to.counter("tidegate_resource_budget_unloads", "Unloads", static_cast<double>(all.unloads));
        for (std::size_t kind = 0; kind < kinds; ++kind) {
            to.gauge("tidegate_resource_budget_used", "What resources take, by kind",
                     static_cast<double>(all.used[kind]), {{"kind", std::to_string(kind)}});
            to.gauge("tidegate_resource_budget_limit", "What they may take, by kind",
                     static_cast<double>(all.limit[kind]), {{"kind", std::to_string(kind)}});
        }
    }

    resource_budget_statistics<kinds> statistics() const { return state_->statistics(); }

    /// Completes all that wait with `operation_aborted`, and cancels the loads.
    void cancel() noexcept { state_->cancel(); }
    /// As `cancel`, with `error::closed`, for all later ones too; and unloads what is idle.
    void close() noexcept { state_->close(); }

private:
    std::shared_ptr<state> state_;
};

template <class Key, class T, std::size_t kinds = 1>
using resource_budget = basic_resource_budget<Key, T, kinds>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/resource_budget.hpp>
