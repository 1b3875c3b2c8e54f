// SPDX-License-Identifier: BSL-1.0
// The state of a cache: its parts, and its loads.
#pragma once

#include <tidegate/cache.hpp>
#include <tidegate/detail/cache_shard.hpp>
#include <tidegate/detail/quick_clock.hpp>
#include <tidegate/detail/thread_random.hpp>
#include <tidegate/timer_for.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/config.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <iterator>
#include <stdexcept>
#include <thread>
#include <unordered_map>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Locks: the room's mutex before a part's, never the other way round. Values leave under a part's
/// lock into a `removed_entries`, which is emptied after it.
template <class Types>
class cache_state final
    : public flight_room<
          cache_state<Types>, typename Types::key_type, shared_value<typename Types::value_type>,
          loaded<typename Types::value_type>, typename Types::hash_type, typename Types::equal_type,
          typename Types::clock_type, typename Types::executor_type> {
    using Key = typename Types::key_type;
    using V = typename Types::value_type;
    using Hash = typename Types::hash_type;
    using Equal = typename Types::equal_type;
    using Clock = typename Types::clock_type;
    using Executor = typename Types::executor_type;
    using base =
        flight_room<cache_state, Key, shared_value<V>, loaded<V>, Hash, Equal, Clock, Executor>;
    using typename base::flight_type;
    using options = cache_options<Key, V>;
    using clock = quick_clock<Clock>;
    using shard = cache_shard<Types>;
    using removed = removed_entries<Key, V>;
    using nanoseconds = std::chrono::nanoseconds;
    using time = std::int64_t;
    static constexpr time never = std::numeric_limits<time>::max();

public:
    using handle = shared_value<V>;
    using time_point = typename Clock::time_point;

    static std::shared_ptr<cache_state> make(Executor const& executor, options&& settings) {
        check(settings);
        auto state = std::make_shared<cache_state>(executor, std::move(settings));
        state->enroll();
        return state;
    }

    cache_state(Executor const& executor, options&& settings)
        : base(executor,
               settings.load_on_ ? settings.load_on_ : boost::asio::any_io_executor(executor),
               std::chrono::duration_cast<typename Clock::duration>(settings.load_timeout_)),
          settings_(std::move(settings)) {
        std::size_t const n = shard_count(settings_);
        shift_ = 64 - static_cast<unsigned>(std::bit_width(n) - 1);
        auto const capacity = settings_.max_weight_.value_or(settings_.max_entries_.value_or(0));
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t const share = capacity / n + (i < capacity % n ? 1 : 0);
            shards_.push_back(std::make_unique<shard>(share, features(settings_), clock::exact()));
        }
    }

    // Looking up ------------------------------------------------------------------------------

    template <class Q>
    handle get(Q const& key) {
        if (has_times_ || own_trace_.is_heard()) return get_by_looking(key);
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time now = expires() ? clock::now() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id != core::no_entry) [[likely]] {
            time const until = part.store.fresh_until(id);
            if (until > add_saturated(now, clock::lag) || until > clock::exact()) [[likely]] {
                part.store.touch(id);
                ++part.counts.hits;
                return part.handle_of(id);
            }
        }
        ++part.counts.misses;
        return {};
    }
    template <class Q>
    handle get(Q const& key, time_point now) {
        return look_at(key, ns(now), 0).fresh_value();
    }

    /// What there is for a key, and what to do about it.
    struct sighting {
        enum class what { nothing, fresh, stale };

        what is = what::nothing;
        bool worth_refreshing = false;
        bool usable_meanwhile = false; ///< stale, but good enough while it is loaded
        handle value{};

        bool is_enough() const noexcept { return is == what::fresh && !worth_refreshing; }
        handle fresh_value() && { return is == what::fresh ? std::move(value) : handle{}; }
    };

    template <class Q>
    sighting look(Q const& key) {
        if (!expires()) return look_at(key, 0, 0);
        if (settings_.time_to_idle_) return look_at(key, clock::exact(), 0);
        return look_at(key, clock::now(), clock::lag);
    }

    template <class Q>
    handle peek(Q const& key) const {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = expires() ? clock::exact() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        return id != core::no_entry && part.store.fresh_until(id) > now ? part.handle_of(id)
                                                                        : handle{};
    }

    template <class Q>
    bool contains(Q const& key) const {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = expires() ? clock::exact() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        return id != core::no_entry && part.store.fresh_until(id) > now;
    }

    // Loading ---------------------------------------------------------------------------------

    template <class CoroutineExecutor>
    static boost::asio::awaitable<handle, CoroutineExecutor> ready(handle value) {
        co_return value;
    }

    template <class CoroutineExecutor, class Load>
    static boost::asio::awaitable<handle, CoroutineExecutor>
    load(std::shared_ptr<cache_state> self, Key key, Load load, sighting seen) {
        if (seen.is == sighting::what::fresh || seen.usable_meanwhile) {
            self->begin_in_background(std::move(key), std::move(load));
            co_return std::move(seen.value);
        }
        bool const has_stale = seen.is == sighting::what::stale;
        auto joining =
            boost::asio::async_initiate<deferred_tuple const, void(std::exception_ptr, handle)>(
                initiation<cache_state, join_flight>(*self), deferred_tuple(), std::move(key),
                std::move(load), self->terms(has_stale));
        auto joined = co_await std::move(joining);
        std::exception_ptr const& failure = std::get<0>(joined);
        if (!failure) co_return std::move(std::get<1>(joined));
        if (has_stale && !is_the_callers_doing(failure)) co_return std::move(seen.value);
        std::rethrow_exception(failure);
    }

    /// What there is for several keys.
    struct sightings {
        std::vector<outcome<handle>> results; ///< nothing for what has to be waited for
        std::vector<handle> stale;            ///< for each key, if there is something
        std::vector<Key> missing;             ///< each once
        std::vector<Key> to_refresh;
        std::vector<std::size_t> place; ///< of each result without a value, in `missing`
    };

    template <class Keys>
    sightings look_all(Keys const& keys) {
        static_assert(std::is_copy_constructible_v<Key>, "loading several keys copies them");
        sightings all;
        std::unordered_map<Key, std::size_t, Hash, Equal> known;
        for (auto const& key : keys) {
            sighting seen = look(key);
            bool const usable = seen.is == sighting::what::fresh || seen.usable_meanwhile;
            if (usable && !seen.is_enough()) all.to_refresh.push_back(Key(key));
            all.stale.push_back(seen.value);
            all.place.push_back(0);
            auto& result = all.results.emplace_back();
            if (usable) {
                result.succeed(std::move(seen.value));
                continue;
            }
            auto const [it, is_new] = known.try_emplace(Key(key), all.missing.size());
            if (is_new) all.missing.push_back(it->first);
            all.place.back() = it->second;
        }
        return all;
    }

    template <class CoroutineExecutor, class Load>
    static boost::asio::awaitable<std::vector<outcome<handle>>, CoroutineExecutor>
    load_all(std::shared_ptr<cache_state> self, sightings seen, Load load) {
        bool const refreshes = !seen.to_refresh.empty() && !self->is_closed();
        if (refreshes) self->board(std::move(seen.to_refresh), load, true);
        if (seen.missing.empty()) co_return std::move(seen.results);
        auto const tickets =
            self->board(std::move(seen.missing), std::move(load), self->settings_.keep_loading_);
        std::vector<outcome<handle>> loaded(tickets.size());
        for (std::size_t i = 0; i < tickets.size(); ++i) {
            if (!tickets[i].load()) {
                loaded[i].succeed(tickets[i].found());
                continue;
            }
            auto waiting =
                boost::asio::async_initiate<deferred_tuple const, void(std::exception_ptr, handle)>(
                    initiation<cache_state, await_flight>(*self), deferred_tuple(),
                    tickets[i].load());
            auto done = co_await std::move(waiting);
            if (!std::get<0>(done)) loaded[i].succeed(std::move(std::get<1>(done)));
            else loaded[i].fail(failure(std::move(std::get<0>(done))));
        }
        for (std::size_t i = 0; i < seen.results.size(); ++i) {
            auto& result = seen.results[i];
            if (result) continue;
            auto const& got = loaded[seen.place[i]];
            if (got || !seen.stale[i] || is_the_callers_doing(got.why().exception())) result = got;
            else result.succeed(std::move(seen.stale[i]));
        }
        co_return std::move(seen.results);
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<std::vector<handle>, CoroutineExecutor>
    all_or_throw(boost::asio::awaitable<std::vector<outcome<handle>>, CoroutineExecutor> loading) {
        auto all = co_await std::move(loading);
        std::vector<handle> values;
        values.reserve(all.size());
        for (auto& one : all) values.push_back(std::move(one).get());
        co_return values;
    }

    // Changing --------------------------------------------------------------------------------

    bool put(Key key, handle value, std::optional<nanoseconds> time_to_live) {
        if (time_to_live) {
            check_option<std::int64_t>("cache put time_to_live in ns", time_to_live->count(), 1,
                                       315'576'000'000'000'000);
        }
        this->fence(key);
        return store_value(std::move(key), std::move(value), time_to_live, false);
    }

    bool put_if_absent(Key key, handle value) {
        if (contains(key)) return false;
        this->fence(key);
        return store_value(std::move(key), std::move(value), std::nullopt, true);
    }

    template <class Q>
    bool invalidate(Q const& key) {
        this->fence(key);
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        removed gone;
        bool was_there = false;
        {
            std::lock_guard lock(part.mutex);
            auto const id = part.store.find(tag(h), key, Equal{});
            was_there = id != core::no_entry;
            if (was_there) part.store.erase(id, removal_cause::explicit_, part.sink(gone, wants()));
        }
        tell(gone);
        return was_there;
    }

    void invalidate_all() {
        this->fence_all();
        for (auto& part : shards_) {
            removed gone;
            {
                std::lock_guard lock(part->mutex);
                part->store.clear(part->sink(gone, wants()));
            }
            tell(gone);
        }
    }

    template <class Condition>
    std::size_t invalidate_if(Condition& condition) {
        static_assert(std::is_copy_constructible_v<Key>, "invalidate_if copies keys");
        this->fence_all();
        std::size_t removed_ones = 0;
        for (auto& part : shards_) {
            // The condition is the user's: it sees copies, outside the lock.
            std::vector<std::pair<Key, handle>> all;
            {
                std::lock_guard lock(part->mutex);
                all.reserve(part->store.size());
                part->store.for_each([&](core::entry_id id) {
                    all.emplace_back(part->store.key(id), part->handle_of(id));
                });
            }
            for (auto const& [key, value] : all) {
                if (condition(std::as_const(key), std::as_const(value))) {
                    removed_ones += invalidate(key);
                }
            }
        }
        return removed_ones;
    }

    // Looking at it ---------------------------------------------------------------------------

    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        base::observe("cache", observer, name);
        own_trace_.attach("cache", std::move(observer), std::move(name));
    }

    cache_statistics statistics() const noexcept {
        cache_statistics sum;
        for (auto const& part : shards_) {
            std::lock_guard lock(part->mutex);
            part->counts.add_to(sum);
            sum.entries += part->store.size();
            sum.weight += part->store.total_weight();
            sum.bytes += part->store.bytes();
        }
        sum.loads = loads_.load(std::memory_order_relaxed);
        sum.load_failures = load_failures_.load(std::memory_order_relaxed);
        sum.load_time = nanoseconds(load_time_.load(std::memory_order_relaxed));
        sum.late_loads = this->late_loads();
        sum.loading = this->in_flight();
        return sum;
    }

    std::vector<Key> hottest_keys(std::size_t most) const {
        static_assert(std::is_copy_constructible_v<Key>, "hottest_keys copies keys");
        std::vector<std::vector<Key>> each;
        for (auto const& part : shards_) {
            std::lock_guard lock(part->mutex);
            auto& keys = each.emplace_back();
            part->store.visit_hottest_first([&](core::entry_id id) {
                if (keys.size() < most) keys.push_back(part->store.key(id));
            });
        }
        std::vector<Key> all;
        for (std::size_t rank = 0; all.size() < most; ++rank) {
            bool any = false;
            for (auto& keys : each) {
                if (rank >= keys.size() || all.size() == most) continue;
                all.push_back(std::move(keys[rank]));
                any = true;
            }
            if (!any) break;
        }
        return all;
    }

    void run_maintenance() {
        for (auto& part : shards_) {
            for (bool more = true; more;) {
                removed gone;
                std::size_t budget = maintenance_step;
                {
                    std::lock_guard lock(part->mutex);
                    part->store.expire(clock::exact(), budget, part->sink(gone, wants()));
                    more = budget == 0;
                    if (!more) part->store.release_memory();
                }
                tell(gone);
            }
        }
    }

    void shutdown() noexcept override {
        base::shutdown();
        std::lock_guard lock(this->mutex_);
        maintenance_.reset();
    }

    // For flight_room ---------------------------------------------------------------------------

    template <class T>
    static loaded<V> normalised(T&& result) {
        return loaded<V>(std::forward<T>(result));
    }

    struct leftovers {
        removed gone;
        std::uint64_t weight = 1;
        std::exception_ptr unheard; // by any caller
    };

    void prepare(flight_type const& one, loaded<V>& result, leftovers& rest) {
        if (result.is_to_be_stored()) rest.weight = weigh(one.key, result.value());
    }

    // Somebody's load may have ended after this caller looked.
    bool look_again(Key const& key, handle& found, std::exception_ptr&) {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = expires() ? clock::exact() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry || part.store.fresh_until(id) <= now ||
            is_worth_refreshing(part, id, now)) {
            return false;
        }
        found = part.handle_of(id);
        return true;
    }

    handle landed(flight_type& one, bool current, std::exception_ptr const& failure,
                  loaded<V>* result, leftovers& rest) {
        loads_.fetch_add(1, std::memory_order_relaxed);
        load_time_.fetch_add(clock::exact() - one.began, std::memory_order_relaxed);
        if (failure) {
            load_failures_.fetch_add(1, std::memory_order_relaxed);
            if (one.waiting.empty() && one.tickets == 0) rest.unheard = failure;
            if (current) put_off(one.key);
            return {};
        }
        handle value = result->value();
        if (!current || !result->is_to_be_stored()) return value;
        auto time_to_live = result->time_to_live();
        if (!value) {
            if (!time_to_live) time_to_live = settings_.negative_time_to_live_;
            if (!time_to_live) return value;
        }
        if (auto const most = result->time_to_live_at_most()) {
            time_to_live =
                std::min(time_to_live.value_or(settings_.time_to_live_.value_or(*most)), *most);
        }
        place(std::move(one.key), value, rest.weight, time_to_live, false, rest.gone);
        return value;
    }

    void overdue(flight_type& one) noexcept {
        loads_.fetch_add(1, std::memory_order_relaxed);
        load_failures_.fetch_add(1, std::memory_order_relaxed);
        if (one.findable) put_off(one.key);
    }

    void after_landing(leftovers& rest) noexcept {
        tell(rest.gone);
        if (rest.unheard && settings_.on_exception_) settings_.on_exception_(rest.unheard);
        keep_maintained();
    }

private:
    static constexpr std::size_t put_step = 16;          // entries that a put may have to remove
    static constexpr std::size_t maintenance_step = 256; // entries a lock

    using deferred_tuple = boost::asio::as_tuple_t<boost::asio::deferred_t>;

    // Settings --------------------------------------------------------------------------------

    static void check(options const& s) {
        auto const refuse = [](char const* what) { throw std::invalid_argument(what); };
        if (s.max_entries_.has_value() == s.max_weight_.has_value())
            refuse("tidegate: cache needs max_entries or max_weight, and not both");
        if (s.max_weight_ && !s.weigher_) refuse("tidegate: cache max_weight needs a weigher");
        if (s.refresh_after_ && !(s.time_to_live_ && *s.refresh_after_ < *s.time_to_live_))
            refuse("tidegate: cache refresh_after needs a longer time_to_live");
        if ((s.stale_if_error_.count() || s.stale_while_revalidate_.count()) && !s.time_to_live_)
            refuse("tidegate: cache stale_if_error and stale_while_revalidate need a time_to_live");
        if (s.soft_timeout_ && !s.stale_if_error_.count())
            refuse("tidegate: cache soft_timeout needs stale_if_error");
    }

    static std::size_t shard_count(options const& s) {
        std::size_t const most = static_cast<std::size_t>(
            std::min<std::uint64_t>(1024, s.max_weight_ ? *s.max_weight_ : *s.max_entries_));
        if (s.shards_) return std::bit_floor(std::min(*s.shards_, most));
        if (s.max_weight_) return 1;
        std::size_t const processors = std::max(1u, std::thread::hardware_concurrency());
        return std::bit_floor(std::clamp<std::size_t>(*s.max_entries_ / 4096, 1,
                                                      std::min<std::size_t>(64, processors * 4)));
    }

    static core::store_features features(options const& s) {
        core::store_features f;
        f.weighs = s.max_weight_.has_value();
        f.max_entries = s.max_entries_.value_or(0);
        f.expires = true; // a time to live may come with a value
        f.keeps_stale = s.stale_if_error_.count() > 0 || s.stale_while_revalidate_.count() > 0;
        f.keeps_times = f.keeps_stale || s.refresh_after_ || s.time_to_idle_;
        return f;
    }

    typename base::terms terms(bool has_stale) const {
        typename base::terms t;
        t.kept = settings_.keep_loading_;
        if (has_stale && settings_.soft_timeout_) {
            t.patience = deadline_in<Clock>(
                std::chrono::duration_cast<typename Clock::duration>(*settings_.soft_timeout_));
        }
        return t;
    }

    // Keys ------------------------------------------------------------------------------------

    // Two multiplications: std::hash of an integer is mostly the integer.
    template <class Q>
    static std::uint64_t hash(Q const& key) {
        std::uint64_t h = static_cast<std::uint64_t>(Hash{}(key)) * 0x9E3779B97F4A7C15u;
        h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
        return h ^ (h >> 32);
    }
    static std::uint32_t tag(std::uint64_t h) noexcept { return static_cast<std::uint32_t>(h); }
    shard& part_of(std::uint64_t h) const noexcept {
        return *shards_[shift_ == 64 ? 0 : static_cast<std::size_t>(h >> shift_)];
    }

    static time ns(time_point t) noexcept {
        return std::chrono::duration_cast<nanoseconds>(t.time_since_epoch()).count();
    }
    // False as long as no value had a time to live.
    bool expires() const noexcept { return expires_.load(std::memory_order_relaxed); }
    bool wants() const noexcept { return settings_.on_removal_ || own_trace_.is_heard(); }

    // Looking up ------------------------------------------------------------------------------

    template <class Q>
    BOOST_NOINLINE handle get_by_looking(Q const& key) {
        return look(key).fresh_value();
    }

    template <class Q>
    sighting look_at(Q const& key, time now, time lag) {
        // Asked first: after the lock's exchange the answer would have to wait for it.
        if (!own_trace_.is_heard()) [[likely]]
            return look_under_lock(key, now, lag);
        sighting seen = look_under_lock(key, now, lag);
        own_trace_.emit(seen.is == sighting::what::fresh ? trace_event::hit : trace_event::missed);
        return seen;
    }

    template <class Q>
    sighting look_under_lock(Q const& key, time now, time lag) {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry) {
            ++part.counts.misses;
            return {};
        }
        if (part.store.fresh_until(id) <= add_saturated(now, lag)) {
            if (lag) now = clock::exact();
            if (part.store.fresh_until(id) <= now) return stale_sighting(part, id, now);
        }
        sighting seen;
        seen.is = sighting::what::fresh;
        seen.value = part.handle_of(id);
        if (has_times_) note_use(part, id, now, seen);
        part.store.touch(id);
        ++part.counts.hits;
        return seen;
    }

    void note_use(shard& part, core::entry_id id, time now, sighting& seen) {
        auto const& when = part.store.when(id);
        seen.worth_refreshing = when.refresh_at <= now;
        if (auto const idle = settings_.time_to_idle_) {
            part.store.set_times(id, std::min(when.fresh_limit, add_saturated(now, idle->count())),
                                 when);
        }
    }

    sighting stale_sighting(shard& part, core::entry_id id, time now) {
        ++part.counts.misses;
        if (!keeps_stale_) return {};
        time const fresh_limit = part.store.when(id).fresh_limit;
        auto const within = [&](nanoseconds more) {
            return now < add_saturated(fresh_limit, more.count());
        };
        sighting seen;
        seen.usable_meanwhile = within(settings_.stale_while_revalidate_);
        if (!seen.usable_meanwhile && !within(settings_.stale_if_error_)) return {};
        seen.is = sighting::what::stale;
        seen.value = part.handle_of(id);
        return seen;
    }

    bool is_worth_refreshing(shard& part, core::entry_id id, time now) const noexcept {
        return has_times_ && part.store.when(id).refresh_at <= now;
    }

    // Cancelled, refused: what is stale would not help.
    static bool is_the_callers_doing(std::exception_ptr const& failure) {
        try {
            std::rethrow_exception(failure);
        } catch (boost::system::system_error const& e) {
            return e.code() == asio::error::operation_aborted || e.code() == error::closed ||
                   e.code() == error::recursive_load;
        } catch (...) { // the loader's
            return false;
        }
    }

    // Changing --------------------------------------------------------------------------------

    std::uint64_t weigh(Key const& key, handle const& value) const {
        return settings_.weigher_ && value ? settings_.weigher_(key, *value) : 1;
    }

    bool store_value(Key key, handle value, std::optional<nanoseconds> time_to_live,
                     bool only_if_absent) {
        std::uint64_t const weight = weigh(key, value);
        removed gone;
        bool const stored =
            place(std::move(key), std::move(value), weight, time_to_live, only_if_absent, gone);
        tell(gone);
        keep_maintained();
        return stored;
    }

    bool place(Key&& key, handle value, std::uint64_t weight,
               std::optional<nanoseconds> time_to_live, bool only_if_absent, removed& gone) {
        if (!time_to_live) time_to_live = settings_.time_to_live_;
        auto const limit = time_to_live ? time_to_live : settings_.time_to_idle_;
        if (limit && !expires()) expires_.store(true, std::memory_order_relaxed);
        time const now = !expires()                                        ? 0
                         : limit && *limit < nanoseconds(100 * clock::lag) ? clock::exact()
                                                                           : clock::now();
        std::uint64_t const h = hash(key);
        typename shard::store_type::fresh_entry fresh{
            tag(h), std::move(key), to_stored<V>(value), !value, weight, never, {}};
        set_times(fresh, now, time_to_live);
        shard& part = part_of(h);
        auto const sink = part.sink(gone, wants());
        std::lock_guard lock(part.mutex);
        std::size_t budget = put_step;
        part.store.expire(now, budget, sink);
        auto const id = part.store.find(tag(h), fresh.key, Equal{});
        bool const there = id != core::no_entry;
        if (there && only_if_absent && part.store.fresh_until(id) > now) return false;
        if (weight > part.store.capacity()) {
            ++part.counts.refused;
            if (there) part.store.erase(id, removal_cause::replaced, sink);
            return false;
        }
        if (there) part.store.replace(id, std::move(fresh), now, sink);
        else part.store.insert(std::move(fresh), now, sink);
        return true;
    }

    template <class Fresh>
    void set_times(Fresh& fresh, time now, std::optional<nanoseconds> time_to_live) const {
        auto& when = fresh.when;
        if (time_to_live) when.fresh_limit = add_saturated(now, jittered(*time_to_live));
        fresh.fresh_until = when.fresh_limit;
        if (auto const idle = settings_.time_to_idle_) {
            fresh.fresh_until = std::min(fresh.fresh_until, add_saturated(now, idle->count()));
        }
        if (settings_.refresh_after_) {
            when.refresh_at = add_saturated(now, settings_.refresh_after_->count());
        }
        when.stale_limit = add_saturated(
            when.fresh_limit,
            std::max(settings_.stale_if_error_, settings_.stale_while_revalidate_).count());
    }

    time jittered(nanoseconds time_to_live) const {
        if (settings_.jitter_ == 0) return time_to_live.count();
        double const off = settings_.jitter_ * std::uniform_real_distribution<>()(thread_random());
        return static_cast<time>(static_cast<double>(time_to_live.count()) * (1 - off));
    }

    // A load failed: what is there will do for a while.
    void put_off(Key const& key) {
        if (!has_times_) return;
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = clock::exact();
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry) return;
        auto when = part.store.when(id);
        time const again = add_saturated(now, settings_.throttle_.count());
        when.refresh_at = again;
        time until = part.store.fresh_until(id);
        time const usable = add_saturated(when.fresh_limit, settings_.stale_if_error_.count());
        if (keeps_stale_ && until <= now) until = std::min(again, usable);
        part.store.set_times(id, until, when);
    }

    // Telling and keeping up ----------------------------------------------------------------------

    void tell(removed& gone) noexcept {
        if (own_trace_.is_heard()) [[unlikely]]
            trace(gone);
        if (!settings_.on_removal_) return;
        for (auto const& one : gone) {
            try {
                settings_.on_removal_(one.key, from_stored<V>(one.value, one.absent), one.cause);
            } catch (...) {
                if (settings_.on_exception_) settings_.on_exception_(std::current_exception());
            }
        }
    }

    BOOST_NOINLINE void trace(removed const& gone) noexcept {
        static constexpr trace_event events[] = {trace_event::expired, trace_event::evicted,
                                                 trace_event::replaced, trace_event::removed};
        std::uint64_t left[std::size(events)] = {};
        for (auto const& one : gone) ++left[static_cast<std::size_t>(one.cause)];
        for (std::size_t i = 0; i < std::size(events); ++i) {
            if (left[i] > 0) own_trace_.emit(events[i], left[i]);
        }
    }

    bool is_empty() const noexcept {
        return std::all_of(shards_.begin(), shards_.end(), [](auto const& part) {
            std::lock_guard lock(part->mutex);
            return part->store.size() == 0;
        });
    }

    // The timer waits while there is something to expire.
    void keep_maintained() noexcept {
        if (!settings_.maintain_every_ || maintaining_.exchange(true)) return;
        std::lock_guard lock(this->mutex_);
        if (!this->closed_) wait_for_maintenance();
    }

    void wait_for_maintenance() {
        if (!maintenance_) maintenance_.emplace(this->executor());
        maintenance_->expires_at(deadline_in<Clock>(
            std::chrono::duration_cast<typename Clock::duration>(*settings_.maintain_every_)));
        maintenance_->async_wait([weak = this->weak_from_this()](error_code ec) {
            if (auto const self = weak.lock(); self && !ec) {
                static_cast<cache_state&>(*self).maintain();
            }
        });
    }

    void maintain() {
        run_maintenance();
        std::lock_guard lock(this->mutex_);
        if (this->closed_ || is_empty()) maintaining_ = false;
        else wait_for_maintenance();
    }

    void on_close() noexcept override {
        if (maintenance_) maintenance_->cancel();
    }

    options const settings_;
    bool const keeps_stale_ = features(settings_).keeps_stale;
    bool const has_times_ = features(settings_).keeps_times;
    unsigned shift_ = 64;
    [[no_unique_address]] trace_source own_trace_; // beside what each look-up reads
    std::vector<std::unique_ptr<shard>> shards_;
    std::atomic<bool> expires_{false};
    std::atomic<std::uint64_t> loads_{0};
    std::atomic<std::uint64_t> load_failures_{0};
    std::atomic<std::int64_t> load_time_{0};
    std::optional<timer_for_t<Clock, Executor>> maintenance_;
    std::atomic<bool> maintaining_{false};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
