// SPDX-License-Identifier: BSL-1.0
// How a cache is set.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/cache/store.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/loaded.hpp>
#include <tidegate/shared_value.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class Types>
class cache_state;
template <class Types>
class cache_parts;
template <class Key, class V>
struct cache_settings;
template <class Key, class V, class Clock>
struct tiered_state;
} // namespace detail

/// Settings of a cache, with their defaults. Either `max_entries` or `max_weight` must be set. All
/// durations are 1 ns to 10 years; a setter throws std::invalid_argument for a value out of range,
/// the cache for settings that contradict each other.
template <class Key, class V>
class cache_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// Entries at most, 1 to 2^31.
    cache_options& max_entries(std::size_t n) {
        detail::check_option<std::size_t>("cache max_entries", n, 1, std::size_t{1} << 31);
        max_entries_ = n;
        return *this;
    }
    /// What all entries may weigh together, 1 to 2^62, and what one weighs: in bytes, say. The
    /// weigher is called once for each value, with no lock held, and may throw, which refuses the
    /// value: `put` throws that, and a load fails with it. An entry heavier than all that is
    /// allowed is refused; nothing is given up for it. Nothing bounds the number of entries that
    /// weigh 0: let what has a key or takes memory weigh something.
    cache_options& max_weight(std::uint64_t weight,
                              std::function<std::uint64_t(Key const&, V const&)> weigher) {
        detail::check_option<std::uint64_t>("cache max_weight", weight, 1, std::uint64_t{1} << 62);
        max_weight_ = weight;
        weigher_ = std::move(weigher);
        return *this;
    }

    /// How long a value may be used after it was put. Default: as long as there is room.
    cache_options& time_to_live(nanoseconds time) {
        return set("cache time_to_live in ns", time_to_live_, time);
    }
    /// How long after it was last used or put; what nobody used for so long is not stale, but gone.
    /// Costs a reading of the clock and a move in the timing wheel for each hit. Default: as long
    /// as there is room.
    cache_options& time_to_idle(nanoseconds time) {
        return set("cache time_to_idle in ns", time_to_idle_, time);
    }
    /// Takes a random part of up to this share, 0 to 1, off each time to live, so that what was put
    /// together does not expire together. Default: 0.
    cache_options& jitter(double share) {
        detail::check_option<double>("cache jitter", share, 0, 1);
        jitter_ = share;
        return *this;
    }

    /// A value older than this is loaded again in the background when it is asked for; meanwhile
    /// it is used. Should there be none any more, or should the loader say not to store it, it
    /// goes. That it is older may be noticed a tick of the system's coarse clock late: some
    /// milliseconds. Needs a longer time to live. Default: never.
    cache_options& refresh_after(nanoseconds age) {
        return set("cache refresh_after in ns", refresh_after_, age);
    }
    /// Refreshes, that is, loads in the background of what is older than `refresh_after` or stale
    /// (`stale_while_revalidate`), are gathered, whichever calls cause them, and made together: by
    /// one call of `load`, as that of `cache::get_or_load_all`, for up to `most` keys (1 to 65536),
    /// `delay` after the first of them was asked for at the latest. The loaders of the calls load
    /// what is not there only. Keys must be copyable. Default: each call's loader refreshes.
    template <class Load>
    cache_options& refresh_together(std::size_t most, nanoseconds delay, Load load) {
        detail::check_option<std::size_t>("cache refresh_together most", most, 1, 65536);
        set("cache refresh_together delay in ns", refresh_delay_, delay);
        most_refreshed_ = most;
        refresh_load_ = [load = std::make_shared<Load>(std::move(load))](auto const& keys) {
            return load_together(load, keys);
        };
        return *this;
    }
    /// A loader of several keys is called with that many at most, 1 to 65536, and so often as it
    /// takes: up to `at_once` calls at a time, 1 to 1024, for each `cache::get_or_load_all`, in the
    /// order of its keys; a later one begins when the keys of the earliest are there. Each has
    /// `load_timeout` to itself. Refreshes are split in the same way, and begin all together; those
    /// of `refresh_together` have a bound of their own. Default: one call for all keys.
    cache_options& max_batch(std::size_t keys, std::size_t at_once = 4) {
        detail::check_option<std::size_t>("cache max_batch", keys, 1, 65536);
        detail::check_option<std::size_t>("cache max_batch at_once", at_once, 1, 1024);
        max_batch_ = keys;
        batches_at_once_ = at_once;
        return *this;
    }
    /// For how long after its time to live a value is still handed out by `get_or_load`, while it
    /// is loaded again in the background; if that fails, again after the `throttle` of
    /// `stale_if_error`. To other look-ups it is not there. Default: not at all.
    cache_options& stale_while_revalidate(nanoseconds time) {
        return set("cache stale_while_revalidate in ns", stale_while_revalidate_, time);
    }
    /// For how long after its time to live a value is handed out by `get_or_load` when loading it
    /// anew fails, with whatever error. The next attempt is made after `throttle`, which goes for
    /// `stale_while_revalidate` and `refresh_after` as well; until then `get_or_load` hands out the
    /// value at once. To other look-ups it is not there, and it counts as a miss. Who is cancelled,
    /// and whom `cache::cancel` or `close` sends away, gets that error all the same. Default: not
    /// at all; 1 s.
    cache_options& stale_if_error(nanoseconds time,
                                  nanoseconds throttle = std::chrono::seconds(1)) {
        set("cache stale_if_error in ns", stale_if_error_, time);
        return set("cache stale_if_error throttle in ns", throttle_, throttle);
    }
    /// A caller for whom there is a stale value (see `stale_if_error`) waits for a load this long
    /// and then gets that; the load goes on. `get_or_load_all` waits. Default: it waits.
    cache_options& soft_timeout(nanoseconds time) {
        return set("cache soft_timeout in ns", soft_timeout_, time);
    }
    /// A load that takes longer fails with `error::deadline_exceeded` and is cancelled; its key can
    /// be loaded anew, even if it does not listen. Default: 30 s.
    cache_options& load_timeout(nanoseconds time) {
        return set("cache load_timeout in ns", load_timeout_, time);
    }
    /// How long it is remembered that a loader found nothing. With `max_weight`, what remembering
    /// that weighs, 1 to 2^62, in the unit of the weigher, which is not asked: say about what a key
    /// and an entry take, or else names that do not exist fill the memory. Default: not at all; 1.
    cache_options& negative_time_to_live(nanoseconds time, std::uint64_t weight = 1) {
        detail::check_option<std::uint64_t>("cache negative_time_to_live weight", weight, 1,
                                            std::uint64_t{1} << 62);
        set("cache negative_time_to_live in ns", negative_time_to_live_, time);
        negative_weight_ = weight;
        return *this;
    }
    /// A load goes on when the last caller has left, and is stored. Default: it is cancelled.
    cache_options& keep_loading(bool keep) {
        keep_loading_ = keep;
        return *this;
    }
    /// Where loads run. Default: the executor of the cache.
    cache_options& load_on(boost::asio::any_io_executor executor) {
        load_on_ = std::move(executor);
        return *this;
    }

    /// Called for each entry that leaves, and why; with no lock held, on the thread that caused it,
    /// which may be that of another key's call. Two threads that remove the same key one after the
    /// other may tell in the other order: what was told last need not be what left last. An empty
    /// value is a remembered "there is none".
    cache_options&
    on_removal(std::function<void(Key const&, shared_value<V> const&, removal_cause)> listener) {
        on_removal_ = std::move(listener);
        return *this;
    }
    /// Told of what listeners throw, and of failures that reach no caller: of loads in the
    /// background, `error::deadline_exceeded` of `load_timeout` included. Must not throw. Default:
    /// they are dropped.
    cache_options& on_exception(std::function<void(std::exception_ptr)> handler) {
        on_exception_ = std::move(handler);
        return *this;
    }

    /// Removes what has expired, and gives memory back, this often, without waiting for traffic; a
    /// few thousand entries at a time, so that the context gets to other things in between.
    /// The context has work as long as the cache is not empty. Default: whenever something is put,
    /// and by `run_maintenance`.
    cache_options& maintain_every(nanoseconds period) {
        return set("cache maintain_every in ns", maintain_every_, period);
    }
    /// Into how many parts, each with a lock and an equal share of the room, 1 to 1024; rounded
    /// down to a power of two. Parts of a cache are not used evenly, so small ones waste room.
    /// Default: one for each 4096 entries, up to four for each processor and 64 in all; 1 with
    /// `max_weight`,
    /// since no entry may weigh more than its part holds.
    cache_options& shards(std::size_t n) {
        detail::check_option<std::size_t>("cache shards", n, 1, 1024);
        shards_ = n;
        return *this;
    }

private:
    template <class>
    friend class detail::cache_state;
    template <class>
    friend class detail::cache_parts;
    template <class, class, class>
    friend struct detail::tiered_state;
    friend detail::cache_settings<Key, V>;

    using refreshed = std::vector<outcome<loaded<V>>>;

    template <class Load>
    static boost::asio::awaitable<refreshed> load_together(std::shared_ptr<Load> load,
                                                           std::vector<Key> const& keys) {
        auto results = co_await (*load)(keys);
        refreshed all;
        all.reserve(keys.size());
        for (auto&& one : results) detail::take_loaded<V>(all.emplace_back(), std::move(one));
        co_return all;
    }

    template <class Time>
    cache_options& set(char const* option, Time& to, nanoseconds time) {
        detail::check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
        to = time;
        return *this;
    }

    std::optional<std::size_t> max_entries_;
    std::optional<std::uint64_t> max_weight_;
    std::function<std::uint64_t(Key const&, V const&)> weigher_;
    std::optional<nanoseconds> time_to_live_;
    std::optional<nanoseconds> time_to_idle_;
    double jitter_ = 0;
    std::optional<nanoseconds> refresh_after_;
    std::function<boost::asio::awaitable<refreshed>(std::vector<Key> const&)> refresh_load_;
    std::size_t most_refreshed_ = 1;
    nanoseconds refresh_delay_{1};
    std::optional<std::size_t> max_batch_;
    std::size_t batches_at_once_ = 1;
    nanoseconds stale_while_revalidate_{0};
    nanoseconds stale_if_error_{0};
    nanoseconds throttle_{std::chrono::seconds(1)};
    std::optional<nanoseconds> soft_timeout_;
    nanoseconds load_timeout_{std::chrono::seconds(30)};
    std::optional<nanoseconds> negative_time_to_live_;
    std::uint64_t negative_weight_ = 1;
    bool keep_loading_ = false;
    boost::asio::any_io_executor load_on_;
    std::function<void(Key const&, shared_value<V> const&, removal_cause)> on_removal_;
    std::function<void(std::exception_ptr)> on_exception_;
    std::optional<nanoseconds> maintain_every_;
    std::optional<std::size_t> shards_;
};

TIDEGATE_END_NAMESPACE
