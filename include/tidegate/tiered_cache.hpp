// SPDX-License-Identifier: BSL-1.0
// A cache in memory before one that is further away and larger.
#pragma once

#include <tidegate/cache.hpp>
#include <tidegate/cache_tier.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/tier_link.hpp>
#include <tidegate/value_codec.hpp>

#include <charconv>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class Key, class V, class Clock>
struct tiered_state;
} // namespace detail

/// How a tiered cache uses its second level, with the defaults.
template <class Key, class V>
class tiered_cache_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// The name of a key in the second level; different keys need different names. Default: strings
    /// as they are, integers in decimal.
    tiered_cache_options& name_key(std::function<std::string(Key const&)> name) {
        name_key_ = std::move(name);
        if (!key_of_name_is_set_) key_of_name_ = {};
        return *this;
    }
    /// The key of a name, the other way round; nothing for a name that is no key's. For a second
    /// level that tells of changes others make. Default: for the keys that `name_key` has a default
    /// for, unless that was set; without it, the first level is emptied at each such change.
    tiered_cache_options& key_of_name(std::function<std::optional<Key>(std::string_view)> key) {
        key_of_name_ = std::move(key);
        key_of_name_is_set_ = true;
        return *this;
    }
    /// Put before each name, so that several caches may share a second level. Default: none.
    tiered_cache_options& prefix(std::string text) {
        prefix_ = std::move(text);
        return *this;
    }
    /// How values become bytes. Default: `default_codec`, for the types that have one.
    tiered_cache_options& codec(value_codec<V> codec) {
        codec_ = std::move(codec);
        return *this;
    }
    /// How long the second level keeps a value whose loader did not say, 1 ns to 10 years; default
    /// 1 h. The first level keeps what it read there for what is left of that, at most.
    tiered_cache_options& time_to_live(nanoseconds time) {
        detail::check_option<std::int64_t>("tiered_cache time_to_live in ns", time.count(), 1,
                                           315'576'000'000'000'000);
        link_.time_to_live = time;
        return *this;
    }
    /// What one call of the second level may take, 1 ns to 10 years; default 100 ms. A slower one
    /// is cancelled and counts as failed.
    tiered_cache_options& time_limit(nanoseconds time) {
        detail::check_option<std::int64_t>("tiered_cache time_limit in ns", time.count(), 1,
                                           315'576'000'000'000'000);
        link_.time_limit = time;
        return *this;
    }
    /// When the second level is left alone because it fails; default: that of circuit_breaker, with
    /// 5 failures in a row enough.
    tiered_cache_options& breaker(circuit_breaker_options settings) {
        link_.breaker = std::move(settings);
        return *this;
    }
    /// Writes that may be outstanding, 1 to 10 million; default 10,000. What comes when there are
    /// more is not written to the second level.
    tiered_cache_options& max_pending(std::size_t n) {
        detail::check_option<std::size_t>("tiered_cache max_pending", n, 1, 10'000'000);
        link_.max_pending = n;
        return *this;
    }
    /// Told of each failure of the second level and of the codec. Must not throw. Default: they are
    /// counted only.
    tiered_cache_options& on_exception(std::function<void(std::exception_ptr)> handler) {
        link_.on_exception = std::move(handler);
        return *this;
    }

private:
    template <class, class, class>
    friend struct detail::tiered_state;

    static auto default_name() -> std::function<std::string(Key const&)> {
        if constexpr (std::is_convertible_v<Key const&, std::string_view>) {
            return [](Key const& key) { return std::string(std::string_view(key)); };
        } else if constexpr (std::integral<Key>) {
            return [](Key const& key) { return std::to_string(key); };
        } else {
            return {};
        }
    }
    static auto default_key() -> std::function<std::optional<Key>(std::string_view)> {
        if constexpr (std::is_convertible_v<Key const&, std::string_view> &&
                      std::is_constructible_v<Key, std::string_view>) {
            return [](std::string_view name) { return std::optional<Key>(Key(name)); };
        } else if constexpr (std::integral<Key> && !std::same_as<Key, bool>) {
            return [](std::string_view name) -> std::optional<Key> {
                Key key{};
                auto const end = name.data() + name.size();
                auto const read = std::from_chars(name.data(), end, key);
                if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
                return key;
            };
        } else {
            return {};
        }
    }
    static value_codec<V> codec_if_any() {
        if constexpr (detail::has_default_codec<V>) return default_codec<V>();
        else return {};
    }

    std::function<std::string(Key const&)> name_key_ = default_name();
    std::function<std::optional<Key>(std::string_view)> key_of_name_ = default_key();
    bool key_of_name_is_set_ = false;
    std::string prefix_;
    value_codec<V> codec_ = codec_if_any();
    detail::tier_link_options link_;
};

/// A `cache` whose misses are looked for in a second level before they are loaded, and that writes
/// what it loads there:
///
///     auto files = co_await tidegate::file_cache_tier::open(pool, "cache");
///     tidegate::tiered_cache<std::string, std::string> pages(
///         context, tidegate::cache_options<std::string, std::string>()
///             .max_entries(1000).time_to_live(5min), files);
///     auto page = co_await pages.get_or_load("index", render);
///
/// What holds for `cache` holds here: one load for a key, which includes the look into the second
/// level, however many ask; detached, fenced by `put` and `invalidate`, and so on. A hit in memory
/// never touches the second level.
///
/// The second level is a help, never a need: its failures, and those of the codec, do not reach
/// callers (but of `put`, which fails at once where the codec does). A call of it has a time limit
/// and a circuit breaker; when it fails, values come from the loader. Writes go in the background,
/// together where several wait. What was loaded for a key that was invalidated or put meanwhile is
/// not written.
///
/// A second level that others change, too, may tell of that (`redis::cache_tier` and
/// `memory_cache_tier` do): such a key is removed from the first level, and what is being loaded
/// for it is fenced as by `invalidate`. If it was being put here at that moment, nobody knows which
/// of the two came last: it is invalidated there, too.
///
/// `refresh_after` and stale values are loaded anew, not read from the second level. That a loader
/// found nothing, and what it said not to store, is not written; if it was loaded anew, the older
/// value is removed from the second level, as by `invalidate`.
///
/// Thread safety and executors are those of `cache`; the second level is called on the executor
/// that loads run on, and the one of this object. Destroying it drops writes that are waiting:
/// `flush` first. It does not wait for what is under way: a loader or a call of the second level
/// goes on, keeps the second level alive, and may still call the functions that name keys and the
/// listeners of its breaker.
template <class Key, class V, class Clock = std::chrono::steady_clock>
class basic_tiered_cache {
    using state = detail::tiered_state<Key, V, Clock>;
    using nanoseconds = std::chrono::nanoseconds;

public:
    using first_level_type = typename state::first_level_type;
    using executor_type = typename first_level_type::executor_type;
    using handle = shared_value<V>;

    /// Throws std::invalid_argument where the first level does, without a second level, where
    /// there is no way to name keys or to encode values, and for `refresh_together`, whose loader
    /// would go past the second level.
    basic_tiered_cache(executor_type executor, cache_options<Key, V> first_level,
                       std::shared_ptr<cache_tier> second_level,
                       tiered_cache_options<Key, V> settings = {})
        : state_(std::make_shared<state>(std::move(executor), std::move(first_level), second_level,
                                         std::move(settings))) {
        second_level->add_listener(state_);
    }
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_tiered_cache(Context& context, cache_options<Key, V> first_level,
                       std::shared_ptr<cache_tier> second_level,
                       tiered_cache_options<Key, V> settings = {})
        : basic_tiered_cache(executor_type(context.get_executor()), std::move(first_level),
                             std::move(second_level), std::move(settings)) {}
    basic_tiered_cache(basic_tiered_cache&&) noexcept = default;
    basic_tiered_cache& operator=(basic_tiered_cache&&) = delete;
    ~basic_tiered_cache() {
        if (state_) close();
    }

    executor_type get_executor() const noexcept { return state_->first.get_executor(); }

    /// As `cache::get_or_load`. The loader is copied.
    template <class CoroutineExecutor = executor_type, class Load>
    boost::asio::awaitable<handle, CoroutineExecutor> get_or_load(Key const& key, Load&& load) {
        typename state::template read_through<std::decay_t<Load>> through{state_,
                                                                          std::forward<Load>(load)};
        return state_->first.template get_or_load<CoroutineExecutor>(key, through);
    }
    /// As `cache::get_or_load_all`: one call of the second level, and one of the loader for what is
    /// not there either.
    template <class CoroutineExecutor = executor_type, class Keys, class Load>
    boost::asio::awaitable<std::vector<handle>, CoroutineExecutor> get_or_load_all(Keys const& keys,
                                                                                   Load&& load) {
        typename state::template read_all_through<std::decay_t<Load>> through{
            state_, std::forward<Load>(load)};
        return state_->first.template get_or_load_all<CoroutineExecutor>(keys, through);
    }
    /// As `get_or_load_all`; each key has its value or its failure.
    template <class CoroutineExecutor = executor_type, class Keys, class Load>
    boost::asio::awaitable<std::vector<outcome<handle>>, CoroutineExecutor>
    try_get_or_load_all(Keys const& keys, Load&& load) {
        typename state::template read_all_through<std::decay_t<Load>> through{
            state_, std::forward<Load>(load)};
        return state_->first.template try_get_or_load_all<CoroutineExecutor>(keys, through);
    }

    /// What is in memory; see `cache`.
    template <class Q>
    handle get_if_present(Q const& key) {
        return state_->first.get_if_present(key);
    }

    /// Puts the value into the first level at once, and into the second in the background. Throws
    /// what the codec throws, before anything was changed. Of two that put a key at the same time,
    /// the first level may keep the value of the one, and the second that of the other.
    bool put(Key key, V value) { return state_->put(std::move(key), std::move(value), {}); }
    bool put(Key key, V value, nanoseconds time_to_live) {
        return state_->put(std::move(key), std::move(value), time_to_live);
    }

    /// Removes the key from the first level, at once, and from the second, which is what can be
    /// awaited. From the call on, whoever asks gets neither the old value nor what was being loaded
    /// for it. False if the second level could not be told: until it can, with one of the writes
    /// that follow, this cache does not read the key there, but others do. Cancelled, it goes on in
    /// the background; not awaited, it goes with the next write.
    boost::asio::awaitable<bool> invalidate(Key const& key) { return state_->invalidate(key); }

    /// Completes when what was put or loaded before has been written to the second level, or given
    /// up; what comes later does not hold it up.
    boost::asio::awaitable<void> flush() { return state::link_type::flush(state_->link); }

    /// For everything else that a cache can do; what is changed there does not reach the second
    /// level.
    first_level_type& first_level() noexcept { return state_->first; }
    cache_statistics statistics() const noexcept { return state_->first.statistics(); }
    tier_statistics second_level_statistics() const { return state_->link->statistics(); }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        state_->first.report_metrics(to);
        auto const all = second_level_statistics();
        to.counter("tidegate_tiered_cache_tier_hits", "Values found in the second level",
                   static_cast<double>(all.hits));
        to.counter("tidegate_tiered_cache_tier_misses", "Values not found there",
                   static_cast<double>(all.misses));
        to.counter("tidegate_tiered_cache_tier_failed_reads",
                   "Readings of the second level that failed",
                   static_cast<double>(all.failed_reads));
        to.counter("tidegate_tiered_cache_tier_undecodable",
                   "Values found there that could not be decoded",
                   static_cast<double>(all.undecodable));
        to.counter("tidegate_tiered_cache_tier_written", "Values written there",
                   static_cast<double>(all.written));
        to.counter("tidegate_tiered_cache_tier_not_written",
                   "Values that could not be written there", static_cast<double>(all.not_written));
        to.gauge("tidegate_tiered_cache_tier_pending_writes", "Values waiting to be written",
                 static_cast<double>(all.pending_writes));
        to.gauge("tidegate_tiered_cache_tier_owed_invalidations",
                 "Keys whose invalidation it has not heard of",
                 static_cast<double>(all.owed_invalidations));
    }

    /// As `cache::close`; what is waiting to be written is dropped.
    void close() noexcept {
        state_->first.close();
        state_->link->close();
    }

private:
    std::shared_ptr<state> state_;
};

template <class Key, class V>
using tiered_cache = basic_tiered_cache<Key, V>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/tiered_cache.hpp>
