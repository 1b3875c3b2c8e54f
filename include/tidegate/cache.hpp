// SPDX-License-Identifier: BSL-1.0
// A bounded cache whose misses are loaded once, whoever asks.
#pragma once

#include <tidegate/cache_options.hpp>
#include <tidegate/core/cache/adaptive.hpp>
#include <tidegate/core/cache/lfu.hpp>
#include <tidegate/core/cache/lru.hpp>
#include <tidegate/core/cache/soonest_expiry.hpp>
#include <tidegate/core/cache/store.hpp>
#include <tidegate/detail/flight_room.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/sequence_lock.hpp>
#include <tidegate/loaded.hpp>
#include <tidegate/null_mutex.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// How a cache chooses what to give up; see the classes for what each is good for.
namespace eviction {
using adaptive = core::adaptive_eviction;
using lru = core::lru_eviction;
using lfu = core::lfu_eviction;
using soonest_expiry = core::soonest_expiry_eviction;
} // namespace eviction

/// The hash of a cache's keys: std::hash, and for strings one that also takes string views, so that
/// looking up makes no string. Each cache mixes it from a random seed, so an identity for integers
/// will do, also where others choose them. Of strings, std::hash is the same in every process: give
/// a keyed hash where somebody may choose many that collide.
template <class Key>
struct cache_hash : std::hash<Key> {};
template <>
struct cache_hash<std::string> : std::hash<std::string_view> {
    using is_transparent = void;
};

/// What a cache did so far, and holds now.
struct cache_statistics {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::uint64_t loads = 0;
    std::uint64_t load_failures = 0;
    std::uint64_t late_loads = 0; ///< ended when nobody wanted them any more
    std::chrono::nanoseconds load_time{0};
    std::uint64_t expired = 0;     ///< entries that left because their time was over
    std::uint64_t evicted = 0;     ///< to make room
    std::uint64_t replaced = 0;    ///< because something newer came
    std::uint64_t invalidated = 0; ///< because the user said so
    std::uint64_t refused = 0;     ///< values heavier than what they had to fit into
    std::size_t entries = 0;       ///< with those that have expired and are not removed yet
    std::uint64_t weight = 0;
    std::size_t loading = 0;
    std::size_t bytes = 0; ///< of memory, about, without what keys and values have elsewhere

    double hit_ratio() const noexcept {
        return hits + misses == 0 ? 0
                                  : static_cast<double>(hits) / static_cast<double>(hits + misses);
    }
};

/// A bounded in-memory cache.
///
///     tidegate::cache<std::string, user> users(context, tidegate::cache_options<std::string,
///     user>()
///         .max_entries(10'000).time_to_live(5min));
///     auto fetch = [&](std::string const& name) -> awaitable<user> { ... };
///     auto who = co_await users.get_or_load("ada", fetch);    // a shared_value<user>
///
/// Values are handed out as `shared_value`: they stay valid when the entry leaves. An empty one
/// means that there is no such thing, or, where nothing is loaded, that it is not in the cache.
///
/// Guarantees. Never more than the bound, and no entry after its time. With less than 8192
/// entries allowed, all that fit are there; a larger cache is divided (see
/// `cache_options::shards`), and may give up an entry while a few per cent of its room is left.
/// Expired entries make room before living ones do, as far as a few steps find them. Removing what
/// has expired is spread over the calls of `put`: no call pays for all.
///
/// One load at a time for a key, however many ask. It runs detached, on the executor of the
/// options: a caller that is cancelled leaves alone, the last one to leave cancels the load, and
/// who asks then starts another. What the loader throws fails those who wait, once each, and is not
/// remembered. `put` or `invalidate` during a load fences it: those who had asked before get its
/// result, but it is not stored, and who asks afterwards starts another. A loader that asks for its
/// own key, be it by way of other keys or caches, gets `error::recursive_load` instead of waiting
/// for ever (seen as long as it awaits in its own coroutine, or what that awaits).
///
/// A hit costs no trip through the scheduler, allocates nothing (but a coroutine frame that Asio
/// recycles, in `get_or_load`) and does not grow the stack. Hash, equality, and copying and moving
/// a value's handle are called under a lock of the part of the cache that the key is in; loaders,
/// weighers, listeners, predicates and destructors of values never are, and must not destroy it.
/// Where keys are scalars compared by std::equal_to and values are copied, hits take no lock, with
/// the policies `adaptive` and `soonest_expiry`, unless they have more to do than to find a value
/// (`time_to_idle`, `refresh_after`, stale values, observers); then each thread that looks up costs
/// 32 bytes for each part of the cache.
///
/// Thread-safe; with `null_mutex` for one thread. Executors: handlers run on their associated
/// executor, by default the cache's. Cancellation and destruction are those of `basic_semaphore`;
/// destroying the cache cancels its loads and does not wait for them. A loader belongs to its load,
/// not to the caller: what it refers to, and what `std::ref` names, has to outlive the load, which
/// may run on after this object has gone. Look-ups and puts are O(1), amortised.
///
/// `Hash` and `Equal` that are transparent let look-ups take other types than `Key`. `Clock` has to
/// be steady. Keys and values must be movable without throwing, and need not be copyable.
template <class Key, class V, class Policy = eviction::adaptive, class Hash = cache_hash<Key>,
          class Equal = std::equal_to<>, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor, class Mutex = detail::sequence_lock>
class basic_cache {
    struct types {
        using key_type = Key;
        using value_type = V;
        using policy_type = Policy;
        using hash_type = Hash;
        using equal_type = Equal;
        using clock_type = Clock;
        using executor_type = Executor;
        using mutex_type = Mutex;
    };
    using state = detail::cache_state<types>;
    using default_token = detail::default_token_t<Executor>;
    using nanoseconds = std::chrono::nanoseconds;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using time_point = typename Clock::time_point;
    using key_type = Key;
    using value_type = V;
    using options = cache_options<Key, V>;
    using handle = shared_value<V>;
    using signature = void(std::exception_ptr, handle);

    /// Throws std::invalid_argument for settings that contradict each other.
    basic_cache(executor_type executor, options settings)
        : state_(state::make(executor, std::move(settings))) {}
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_cache(Context& context, options settings)
        : basic_cache(executor_type(context.get_executor()), std::move(settings)) {}

    /// The moved-from cache may only be destroyed.
    basic_cache(basic_cache&&) noexcept = default;
    basic_cache& operator=(basic_cache&&) = delete;
    ~basic_cache() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    // Looking up ------------------------------------------------------------------------------

    /// The value, if it is there and its time is not over; counts as a use. `now` saves a reading
    /// of the clock, or of the system's coarse clock, which decides unless the time is nearly over.
    template <class Q>
    handle get_if_present(Q const& key) {
        return state_->get(key);
    }
    template <class Q>
    handle get_if_present(Q const& key, time_point now) {
        return state_->get(key, now);
    }
    /// The same, without counting as a use, a hit or a miss.
    template <class Q>
    handle peek(Q const& key) const {
        return state_->peek(key);
    }
    /// True if there is an entry, be it a remembered "there is none".
    template <class Q>
    bool contains(Q const& key) const {
        return state_->contains(key);
    }

    // Loading ---------------------------------------------------------------------------------

    /// The value, loaded by `load(key)`, or `load()`, if it is not there; an awaitable of what
    /// `loaded` takes. The look-up is made at once, not when the result is awaited; the load begins
    /// then. Throws what the loader threw, or boost::system::system_error with
    /// `operation_aborted`, `error::deadline_exceeded`, `error::recursive_load` or `error::closed`.
    template <class CoroutineExecutor = executor_type, class Q, class Load>
    boost::asio::awaitable<handle, CoroutineExecutor> get_or_load(Q const& key, Load&& load) {
        static_assert(detail::survives_await_as_temporary<Load&&>,
                      "g++ before 12.3 destroys this temporary twice: name the loader, and pass "
                      "the name or std::ref(name)");
        auto seen = state_->look(key);
        if (seen.is_enough())
            return state::template ready<CoroutineExecutor>(std::move(seen.value));
        return state::template load<CoroutineExecutor>(
            state_, Key(key), std::decay_t<Load>(std::forward<Load>(load)), std::move(seen));
    }

    /// The values of `keys`, any range, in their order. Those that are not there, each once, are
    /// loaded by one call of `load(std::vector<Key> const& missing)`, or by several (see
    /// `cache_options::max_batch`), each on a copy of `load`: an awaitable of a range of as
    /// many results, in order, each of which is what `loaded` takes, or a tidegate::outcome of
    /// that, so that a key may fail alone. A key that is being loaded already is waited for. When
    /// this caller is cancelled, those loads go on that others wait for, and no further one begins.
    /// Once the cache is closed the rest of the keys is not loaded. Throws the failure of the
    /// first key that failed. Keys must be copyable.
    template <class CoroutineExecutor = executor_type, class Keys, class Load>
    boost::asio::awaitable<std::vector<handle>, CoroutineExecutor> get_or_load_all(Keys const& keys,
                                                                                   Load&& load) {
        static_assert(detail::survives_await_as_temporary<Load&&>,
                      "g++ before 12.3 destroys this temporary twice: name the loader, and pass "
                      "the name or std::ref(name)");
        return state::template all_or_throw<CoroutineExecutor>(
            state::template load_all<CoroutineExecutor>(
                state_, state_->look_all(keys), std::decay_t<Load>(std::forward<Load>(load))));
    }
    /// As `get_or_load_all`; each key has its value or its failure, that of a load which could not
    /// begin included: `error::closed`, or what copying a key threw.
    template <class CoroutineExecutor = executor_type, class Keys, class Load>
    boost::asio::awaitable<std::vector<outcome<handle>>, CoroutineExecutor>
    try_get_or_load_all(Keys const& keys, Load&& load) {
        static_assert(detail::survives_await_as_temporary<Load&&>,
                      "g++ before 12.3 destroys this temporary twice: name the loader, and pass "
                      "the name or std::ref(name)");
        return state::template load_all<CoroutineExecutor>(
            state_, state_->look_all(keys), std::decay_t<Load>(std::forward<Load>(load)));
    }

    // Changing --------------------------------------------------------------------------------

    /// Puts a value in, for the cache's time to live or for one of its own, 1 ns to 10 years. False
    /// if it is too heavy, in which case an older value of the key is removed all the same. If it
    /// throws, an older value stays; what made room for a new key by then has left, and is told.
    bool put(Key key, V value) {
        return state_->put(std::move(key), detail::share<V>(std::move(value)), std::nullopt);
    }
    bool put(Key key, V value, nanoseconds time_to_live) {
        return state_->put(std::move(key), detail::share<V>(std::move(value)), time_to_live);
    }
    /// False if there is one already.
    bool put_if_absent(Key key, V value) {
        return state_->put_if_absent(std::move(key), detail::share<V>(std::move(value)));
    }

    /// Removes the entry; whether there was one.
    template <class Q>
    bool invalidate(Q const& key) {
        return state_->invalidate(key);
    }
    void invalidate_all() { state_->invalidate_all(); }
    /// Removes the entries for which `condition(Key const&, shared_value<V> const&)` holds; returns
    /// how many. Keys must be copyable. What is put meanwhile may or may not be looked at.
    template <class Condition>
    std::size_t invalidate_if(Condition condition) {
        return state_->invalidate_if(condition);
    }

    // Looking at it ---------------------------------------------------------------------------

    /// Entries, with those that have expired and are not removed yet.
    std::size_t size() const noexcept { return state_->statistics().entries; }
    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: hit and missed, as they are counted; loaded and load_failed, once a load and key;
    /// expired, evicted, removed and replaced, those of one call in sum; and of callers that wait
    /// for a load and leave: cancelled, timed_out (`soft_timeout`), rejected (`close`).
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe(std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.counter("tidegate_cache_hits", "Look-ups that found a value",
                   static_cast<double>(all.hits));
        to.counter("tidegate_cache_misses", "Look-ups that did not",
                   static_cast<double>(all.misses));
        to.counter("tidegate_cache_loads", "Loads that ended", static_cast<double>(all.loads));
        to.counter("tidegate_cache_load_failures", "Loads that failed",
                   static_cast<double>(all.load_failures));
        to.counter("tidegate_cache_load_seconds", "Time spent loading",
                   static_cast<double>(std::chrono::duration<double>(all.load_time).count()));
        to.counter("tidegate_cache_expired", "Entries whose time was over",
                   static_cast<double>(all.expired));
        to.counter("tidegate_cache_evicted", "Entries that made room",
                   static_cast<double>(all.evicted));
        to.counter("tidegate_cache_replaced", "Entries that something newer replaced",
                   static_cast<double>(all.replaced));
        to.counter("tidegate_cache_invalidated", "Entries removed by the user",
                   static_cast<double>(all.invalidated));
        to.counter("tidegate_cache_refused", "Values too heavy to be kept",
                   static_cast<double>(all.refused));
        to.gauge("tidegate_cache_entries", "Entries now", static_cast<double>(all.entries));
        to.gauge("tidegate_cache_weight", "Their weight", static_cast<double>(all.weight));
        to.gauge("tidegate_cache_loading", "Loads now", static_cast<double>(all.loading));
        to.gauge("tidegate_cache_size_bytes", "Memory, without what values have elsewhere",
                 static_cast<double>(all.bytes));
    }

    cache_statistics statistics() const noexcept { return state_->statistics(); }
    /// Copies of up to `most` keys, those first that would be given up last; of a divided cache, in
    /// turn from each part.
    std::vector<Key> hottest_keys(std::size_t most = std::size_t(-1)) const {
        return state_->hottest_keys(most);
    }

    /// Removes everything that has expired, and gives back memory that is not used, all before it
    /// returns.
    void run_maintenance() { state_->run_maintenance(); }

    /// Completes all who wait for a load with `operation_aborted`, and cancels the loads.
    void cancel() noexcept { state_->cancel(); }
    /// As `cancel`, with `error::closed`, for later ones too. What is in the cache stays.
    void close() noexcept { state_->close(); }

private:
    template <class, class, class>
    friend struct detail::tiered_state;

    std::shared_ptr<state> state_;
};

/// `cache<Key, V, eviction::lru>` and so on.
template <class Key, class V, class Policy = eviction::adaptive>
using cache = basic_cache<Key, V, Policy>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/cache.hpp>
