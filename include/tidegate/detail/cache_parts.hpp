// SPDX-License-Identifier: BSL-1.0
// The parts of a cache: looking up, changing and expiring, without loading.
#pragma once

#include <tidegate/core/unit_interval.hpp>
#include <tidegate/detail/cache_readers.hpp>
#include <tidegate/detail/cache_settings.hpp>
#include <tidegate/detail/cache_shard.hpp>
#include <tidegate/detail/key_mixing.hpp>
#include <tidegate/detail/quick_clock.hpp>
#include <tidegate/detail/thread_random.hpp>
#include <tidegate/detail/trace_source.hpp>

#include <boost/config.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Values leave under a part's lock into a `removed_entries`, which is emptied after it. Keys are
/// found in a part by their hash.
///
/// Where keys and values allow it (`cache_shard::is_readable`), a look-up goes beside the lock: it
/// believes what it saw if the lock's count is the same before and after. What it may look at
/// meanwhile is atomic, and freed only when all who were looking have left (cache_readers.hpp). It
/// writes to nothing that other threads read, but to the use count of an entry that has few.
template <class Types>
class cache_parts {
    using Key = typename Types::key_type;
    using V = typename Types::value_type;
    using Hash = typename Types::hash_type;
    using Equal = typename Types::equal_type;
    using Clock = typename Types::clock_type;
    using rules = cache_settings<Key, V>;
    using shard = cache_shard<Types>;
    using store_type = typename shard::store_type;
    using nanoseconds = std::chrono::nanoseconds;

public:
    using clock = quick_clock<Clock>;
    using time = std::int64_t;
    using handle = shared_value<V>;
    using options = cache_options<Key, V>;
    using removed = removed_entries<Key, V>;

    explicit cache_parts(options&& settings) : settings_(std::move(settings)) {
        std::size_t const n = rules::shard_count(settings_);
        shift_ = 32 - static_cast<unsigned>(std::bit_width(n) - 1);
        auto const capacity = rules::capacity(settings_);
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t const share = capacity / n + (i < capacity % n ? 1 : 0);
            shards_.push_back(
                std::make_unique<shard>(share, rules::features(settings_), clock::exact()));
        }
    }

    options const& settings() const noexcept { return settings_; }
    trace_source& trace() noexcept { return trace_; }

    // Looking up ------------------------------------------------------------------------------

    template <class Q>
    BOOST_FORCEINLINE handle get(Q const& key) {
        if constexpr (reads_beside<Q>) return get_beside(key).to_handle();
        else if (is_special()) return get_by_looking(key);
        else return get_under_lock(hash(key), key, expires() ? clock::now() : 0, clock::lag);
    }
    template <class Q>
    handle get(Q const& key, time now) {
        if (is_special()) return look_at(key, now, 0).fresh_value();
        std::uint64_t const h = hash(key);
        if constexpr (reads_beside<Q>) {
            auto const seen = read_beside(h, key, now, 0);
            if (seen.is != reading::unsure) [[likely]]
                return seen.to_handle();
        }
        return get_under_lock(h, key, now, 0);
    }

    /// What there is for a key, and what to do about it.
    struct sighting {
        enum class what { nothing, fresh, stale };

        what is = what::nothing;
        bool worth_refreshing = false;
        bool usable_meanwhile = false; ///< stale, but good enough until something better is there
        handle value{};

        bool is_usable() const noexcept { return is == what::fresh || usable_meanwhile; }
        bool is_enough() const noexcept { return is_usable() && !worth_refreshing; }
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
        handle value{};
        static_cast<void>(glance(key, &value));
        return value;
    }

    template <class Q>
    bool contains(Q const& key) const {
        return glance(key, nullptr);
    }

    /// Whether there is a value, be it a stale one that is still of use.
    template <class Q>
    bool keeps_value(Q const& key) const {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = expires() ? clock::exact() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        return id != core::no_entry && part.store.deadline(id) > now && part.handle_of(id);
    }

    /// Somebody's load may have ended after this caller looked.
    bool look_again(Key const& key, handle& found) const {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = expires() ? clock::exact() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry) return false;
        sighting seen = part.store.fresh_until(id) > now ? fresh_sighting(part, id, now)
                                                         : stale_sighting(part, id, now);
        if (!seen.is_enough()) return false;
        found = std::move(seen.value);
        return true;
    }

    // Changing --------------------------------------------------------------------------------

    std::uint64_t weigh(Key const& key, handle const& value) const {
        if (!settings_.weigher_) return 1;
        return value ? settings_.weigher_(key, *value) : settings_.negative_weight_;
    }

    /// How to lock a part for a change of a key: with its lock alone.
    static constexpr auto locking = [](auto const&, auto& part) { return std::lock_guard(part); };

    /// Puts a value in; false if it is too heavy, or if there is one and `only_if_absent`.
    template <class Locking>
    bool place(Key&& key, handle value, std::uint64_t weight,
               std::optional<nanoseconds> time_to_live, bool only_if_absent, removed& gone,
               Locking const& lock_for) {
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
        std::size_t const number = number_of(h);
        shard& part = *shards_[number];
        auto const sink = part.sink(gone, wants());
        auto const lock = lock_for(std::as_const(fresh.key), part.mutex);
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
        if (there) {
            part.store.replace(id, std::move(fresh), now, sink);
            return true;
        }
        tell_policy(number);
        part.store.insert(std::move(fresh), now, sink);
        note_retired(part);
        return true;
    }

    /// A load failed: what is there, if it is of use, will do for a while.
    void put_off(Key const& key) {
        if (!has_times_) return;
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = clock::exact();
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry) return;
        auto when = part.store.when(id);
        when.refresh_at = add_saturated(now, settings_.throttle_.count());
        part.store.set_times(id, part.store.fresh_until(id), when);
    }

    template <class Q, class Locking>
    bool erase(Q const& key, removal_cause why, removed& gone, Locking const& lock_for) {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        auto const lock = lock_for(key, part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry) return false;
        part.store.erase(id, why, part.sink(gone, wants()));
        return true;
    }

    void erase_all() {
        for (auto& part : shards_) {
            removed gone;
            {
                std::lock_guard lock(part->mutex);
                part->store.clear(part->sink(gone, wants()));
            }
            tell(gone);
        }
    }

    /// Calls `visit(Key const&, handle const&)` for copies of all, outside the locks.
    template <class Visit>
    void for_copies(Visit&& visit) {
        for (auto& part : shards_) {
            std::vector<std::pair<Key, handle>> all;
            {
                std::lock_guard lock(part->mutex);
                all.reserve(part->store.size());
                part->store.for_each([&](core::entry_id id) {
                    all.emplace_back(part->store.key(id), part->handle_of(id));
                });
            }
            for (auto const& [key, value] : all) visit(std::as_const(key), std::as_const(value));
        }
    }

    /// Removes all that has expired, and gives back memory.
    void run_maintenance() {
        std::size_t part = 0;
        while (maintain(part)) {
        }
    }

    /// A step of that, in the part with this number, which moves on to the next; false after the
    /// last one.
    bool maintain(std::size_t& number) {
        removed gone;
        {
            shard& part = *shards_[number];
            std::size_t budget = maintenance_step;
            std::lock_guard lock(part.mutex);
            part.store.expire(clock::exact(), budget, part.sink(gone, wants()));
            if (budget > 0) {
                part.store.release_memory();
                note_retired(part);
                ++number;
            }
        }
        tell(gone);
        if (number < shards_.size()) return true;
        free_retired();
        return false;
    }

    /// After a change, outside all locks: the listener hears what left, and memory that nobody can
    /// find any more is freed.
    void tell(removed& gone) noexcept {
        if (has_retired_.load(std::memory_order_relaxed)) [[unlikely]]
            free_retired();
        if (trace_.is_heard()) [[unlikely]]
            tell_trace(gone);
        if (!settings_.on_removal_) return;
        gone.for_each([this](auto const& one) {
            try {
                settings_.on_removal_(one.key, from_stored<V>(one.value, one.absent), one.cause);
            } catch (...) {
                if (settings_.on_exception_) settings_.on_exception_(std::current_exception());
            }
        });
    }

    // Looking at it ---------------------------------------------------------------------------

    template <class Statistics>
    void add_to(Statistics& sum) const noexcept {
        for (auto const& part : shards_) {
            std::lock_guard lock(part->mutex);
            part->counts.add_to(sum);
            sum.entries += part->store.size();
            sum.weight += part->store.total_weight();
            sum.bytes += part->store.bytes();
        }
        if constexpr (is_readable) {
            readers_.with_all([&](auto const& all) {
                sum.hits += past_hits_;
                sum.misses += past_misses_;
                for (auto const& one : all) add_reads(*one, sum.hits, sum.misses);
            });
        }
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

    bool is_empty() const noexcept {
        return std::all_of(shards_.begin(), shards_.end(), [](auto const& part) {
            std::lock_guard lock(part->mutex);
            return part->store.size() == 0;
        });
    }

    // For per_thread --------------------------------------------------------------------------

    std::unique_ptr<cache_reader> new_piece() const {
        return std::make_unique<cache_reader>(shards_.size());
    }
    // A thread has ended.
    void fold(cache_reader const& one) noexcept {
        add_reads(one, past_hits_, past_misses_);
        for (std::size_t i = 0; i < shards_.size(); ++i) hear(one.in(i), *shards_[i]);
    }

private:
    static constexpr bool is_readable = shard::is_readable;
    static constexpr time never = std::numeric_limits<time>::max();
    static constexpr std::size_t put_step = 16;          // entries that a put may have to remove
    static constexpr std::size_t maintenance_step = 256; // entries a lock
    static constexpr std::uint64_t untold_hits = 256;    // of a thread, that a policy may not know

    // Comparing these calls nothing unknown.
    template <class Q>
    static constexpr bool reads_beside = is_readable && std::is_scalar_v<Q>;

    // Keys ------------------------------------------------------------------------------------

    // std::hash of an integer is mostly the integer.
    template <class Q>
    std::uint64_t hash(Q const& key) const {
        return mixing_(static_cast<std::uint64_t>(Hash{}(key)));
    }
    static std::uint32_t tag(std::uint64_t h) noexcept { return static_cast<std::uint32_t>(h); }
    std::size_t number_of(std::uint64_t h) const noexcept {
        return static_cast<std::size_t>(h >> 32 >> shift_);
    }
    shard& part_of(std::uint64_t h) const noexcept { return *shards_[number_of(h)]; }

    // False as long as no value had a time to live.
    bool expires() const noexcept { return expires_.load(std::memory_order_relaxed); }
    bool wants() const noexcept { return settings_.on_removal_ || trace_.is_heard(); }
    // A hit is more than finding a value.
    bool is_special() const noexcept { return has_times_ || trace_.is_heard(); }

    // Looking up ------------------------------------------------------------------------------

    template <class Q>
    BOOST_NOINLINE handle get_by_looking(Q const& key) {
        return look(key).fresh_value();
    }

    template <class Q>
    BOOST_NOINLINE handle get_under_lock(std::uint64_t h, Q const& key, time now, time lag) {
        shard& part = part_of(h);
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry || !is_fresh(part.store.fresh_until(id), now, lag)) [[unlikely]] {
            ++part.counts.misses;
            return {};
        }
        part.store.touch(id);
        ++part.counts.hits;
        return part.handle_of(id);
    }

    template <class Q>
    sighting look_at(Q const& key, time now, time lag) {
        std::uint64_t const h = hash(key);
        // Asked first: after the lock's exchange the answer would have to wait for it.
        if (trace_.is_heard()) [[unlikely]] {
            sighting seen = look_under_lock(h, key, now, lag);
            trace_.emit(seen.is == sighting::what::fresh ? trace_event::hit : trace_event::missed);
            return seen;
        }
        if constexpr (reads_beside<Q>) {
            if (!has_times_) {
                auto const read = read_beside(h, key, now, lag);
                if (read.is != reading::unsure) {
                    sighting seen;
                    if (read.is != reading::miss) seen.is = sighting::what::fresh;
                    seen.value = read.to_handle();
                    return seen;
                }
            }
        }
        return look_under_lock(h, key, now, lag);
    }

    // Nothing newer than `now + lag` is known without asking the clock.
    static bool is_fresh(time until, time now, time lag) noexcept {
        return until > add_saturated(now, lag) || (lag && until > clock::exact());
    }

    template <class Q>
    sighting look_under_lock(std::uint64_t h, Q const& key, time now, time lag) {
        shard& part = part_of(h);
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry) {
            ++part.counts.misses;
            return {};
        }
        if (part.store.fresh_until(id) <= add_saturated(now, lag)) {
            if (lag) now = clock::exact();
            if (part.store.fresh_until(id) <= now) {
                ++part.counts.misses;
                return stale_sighting(part, id, now);
            }
        }
        sighting seen = fresh_sighting(part, id, now);
        if (has_times_) note_use(part, id, now);
        part.store.touch(id);
        ++part.counts.hits;
        return seen;
    }

    void note_use(shard& part, core::entry_id id, time now) {
        auto const& when = part.store.when(id);
        if (auto const idle = settings_.time_to_idle_) {
            part.store.set_times(id, std::min(when.fresh_limit, add_saturated(now, idle->count())),
                                 when);
        }
    }

    sighting fresh_sighting(shard& part, core::entry_id id, time now) const {
        sighting seen;
        seen.is = sighting::what::fresh;
        seen.worth_refreshing = has_times_ && part.store.when(id).refresh_at <= now;
        seen.value = part.handle_of(id);
        return seen;
    }

    sighting stale_sighting(shard& part, core::entry_id id, time now) const {
        if (!keeps_stale_) return {};
        auto const& when = part.store.when(id);
        if (part.store.fresh_until(id) < when.fresh_limit) return {}; // nobody used it for too long
        auto const within = [&](nanoseconds more) {
            return now < add_saturated(when.fresh_limit, more.count());
        };
        sighting seen;
        seen.worth_refreshing = when.refresh_at <= now; // not if a load failed just now
        seen.usable_meanwhile = within(settings_.stale_while_revalidate_) ||
                                (!seen.worth_refreshing && within(settings_.stale_if_error_));
        if (!seen.usable_meanwhile && !within(settings_.stale_if_error_)) return {};
        seen.is = sighting::what::stale;
        seen.value = part.handle_of(id);
        return seen;
    }

    // Without counting.
    template <class Q>
    bool glance(Q const& key, handle* value) const {
        std::uint64_t const h = hash(key);
        shard& part = part_of(h);
        time const now = expires() ? clock::exact() : 0;
        std::lock_guard lock(part.mutex);
        auto const id = part.store.find(tag(h), key, Equal{});
        if (id == core::no_entry || part.store.fresh_until(id) <= now) return false;
        if (value) *value = part.handle_of(id);
        return true;
    }

    // Beside the lock ---------------------------------------------------------------------------

    enum class reading : std::uint64_t { unsure, miss, absent, hit };

    // What was seen, in whole words: an optional that is returned goes through memory as a byte and
    // is read as a word, which processors cannot forward; the next look-ups would wait for it.
    struct snapshot {
        V value{};
        reading is = reading::unsure;

        handle to_handle() const { return is == reading::hit ? handle(value) : handle{}; }
    };
    static snapshot to_snapshot(handle const& found) {
        return found ? snapshot{*found, reading::hit} : snapshot{{}, reading::absent};
    }

    template <class Q>
    BOOST_NOINLINE snapshot get_beside(Q key) {
        if (is_special()) [[unlikely]]
            return to_snapshot(get_by_looking(key));
        time const now = expires() ? clock::now() : 0;
        std::uint64_t const h = hash(key);
        snapshot const seen = read_beside(h, key, now, clock::lag);
        if (seen.is != reading::unsure) [[likely]]
            return seen;
        return to_snapshot(get_under_lock(h, key, now, clock::lag));
    }

    // In line: it is about as long as what calling it takes.
    template <class Q>
    BOOST_FORCEINLINE snapshot read_beside(std::uint64_t h, Q key, time now, time lag) {
        cache_reader* const me = readers_.mine();
        if (!me) [[unlikely]]
            return {}; // no memory, or the thread is ending
        std::size_t const number = number_of(h);
        shard& part = *shards_[number];
        cache_reader::visit const here(*me);
        auto const count = part.mutex.look();
        if (part.mutex.is_held(count)) [[unlikely]]
            return {};
        typename store_type::glimpse seen;
        if (!part.store.glance(tag(h), key, Equal{}, seen)) [[unlikely]]
            return {};
        if (!part.mutex.is_still(count)) [[unlikely]]
            return {};
        part_reads& reads = me->in(number);
        if (!seen.found || !is_fresh(seen.fresh_until, now, lag)) {
            add(reads.misses, 1);
            return {{}, reading::miss};
        }
        touch(*seen.uses);
        add(reads.marked, seen.mark);
        if (add(reads.hits, 1) % untold_hits == 0) [[unlikely]]
            hear(reads, part);
        return {seen.value, seen.flag ? reading::absent : reading::hit};
    }

    // Should two do so at once, one use is lost; should the entry have been replaced, the new one
    // begins with one.
    BOOST_FORCEINLINE static void touch(std::atomic<std::uint8_t>& uses) noexcept {
        constexpr std::uint8_t most = Types::policy_type::most_uses;
        if constexpr (most > 0) {
            std::uint8_t const before = uses.load(std::memory_order_relaxed);
            if (before >= most) return;
            uses.store(static_cast<std::uint8_t>(before + 1), std::memory_order_relaxed);
        }
    }

    // To what only this thread writes.
    BOOST_FORCEINLINE static std::uint64_t add(std::atomic<std::uint64_t>& to,
                                               std::uint64_t what) noexcept {
        std::uint64_t const now = to.load(std::memory_order_relaxed) + what;
        to.store(now, std::memory_order_relaxed);
        return now;
    }

    // The policy will hear of these hits with the next change of the part.
    BOOST_NOINLINE static void hear(part_reads& reads, shard& part) noexcept {
        if constexpr (is_readable) {
            auto const fresh = reads.take_untold();
            for (std::uint8_t mark = 0; mark < 2; ++mark) {
                part.heard_hits[mark].fetch_add(fresh.hits[mark], std::memory_order_relaxed);
            }
        }
    }

    // Under the part's lock. This thread's hits are told at once, so that what one thread does has
    // the same effects each time.
    void tell_policy(std::size_t number) noexcept {
        if constexpr (is_readable) {
            shard& part = *shards_[number];
            cache_reader* const me = readers_.mine();
            part_reads::news hits = me ? me->in(number).take_untold() : part_reads::news{};
            for (std::uint8_t mark = 0; mark < 2; ++mark) {
                auto& heard = part.heard_hits[mark];
                if (heard.load(std::memory_order_relaxed) != 0) {
                    hits.hits[mark] += heard.exchange(0, std::memory_order_relaxed);
                }
                part.store.add_hits(mark, hits.hits[mark]);
            }
        }
    }

    void add_reads(cache_reader const& one, std::uint64_t& hits,
                   std::uint64_t& misses) const noexcept {
        for (std::size_t i = 0; i < shards_.size(); ++i) {
            part_reads const& reads = one.in(i);
            hits += reads.hits.load(std::memory_order_relaxed);
            misses += reads.misses.load(std::memory_order_relaxed);
        }
    }

    // Under the part's lock.
    void note_retired(shard& part) noexcept {
        if constexpr (is_readable) {
            if (part.store.has_retired() && heavy_barrier::works()) [[unlikely]]
                has_retired_.store(true, std::memory_order_relaxed);
        }
    }

    // Outside all locks.
    BOOST_NOINLINE void free_retired() noexcept {
        if constexpr (is_readable) {
            if (!has_retired_.exchange(false)) return;
            for (auto& part : shards_) {
                std::vector<core::retired_block> old;
                {
                    std::lock_guard lock(part->mutex);
                    old = part->store.take_retired();
                }
                if (old.empty() || wait_for_readers(readers_)) continue;
                // It said that it works: rather keep the memory for ever.
                for (auto& block : old) {
                    [[maybe_unused]] void* const kept = block.release();
                }
            }
        }
    }

    // Times -----------------------------------------------------------------------------------

    template <class Fresh>
    void set_times(Fresh& fresh, time now, std::optional<nanoseconds> time_to_live) const {
        auto& when = fresh.when;
        if (time_to_live) when.fresh_limit = add_saturated(now, jittered(*time_to_live));
        fresh.fresh_until = when.fresh_limit;
        if (!has_times_) return;
        if (auto const idle = settings_.time_to_idle_) {
            fresh.fresh_until = std::min(fresh.fresh_until, add_saturated(now, idle->count()));
        }
        if (keeps_stale_) when.refresh_at = when.fresh_limit;
        if (settings_.refresh_after_) {
            when.refresh_at =
                std::min(when.refresh_at, add_saturated(now, settings_.refresh_after_->count()));
        }
        when.stale_limit = add_saturated(
            when.fresh_limit,
            std::max(settings_.stale_if_error_, settings_.stale_while_revalidate_).count());
    }

    time jittered(nanoseconds time_to_live) const {
        if (settings_.jitter_ == 0) return time_to_live.count();
        double const off = settings_.jitter_ * core::in_unit_interval(thread_random());
        return static_cast<time>(static_cast<double>(time_to_live.count()) * (1 - off));
    }

    BOOST_NOINLINE void tell_trace(removed const& gone) noexcept {
        static constexpr trace_event events[] = {trace_event::expired, trace_event::evicted,
                                                 trace_event::replaced, trace_event::removed};
        std::uint64_t left[std::size(events)] = {};
        gone.for_each([&](auto const& one) { ++left[static_cast<std::size_t>(one.cause)]; });
        for (std::size_t i = 0; i < std::size(events); ++i) {
            if (left[i] > 0) trace_.emit(events[i], left[i]);
        }
    }

    struct no_readers {
        explicit no_readers(cache_parts&) noexcept {}
    };

    options const settings_;
    bool const keeps_stale_ = rules::features(settings_).keeps_stale;
    bool const has_times_ = rules::features(settings_).keeps_times;
    key_mixing const mixing_{thread_random()()}; // nobody outside can tell
    unsigned shift_ = 32;                      // of the hash's upper half, to the number of a part
    [[no_unique_address]] trace_source trace_; // beside what each look-up reads
    std::vector<std::unique_ptr<shard>> shards_;
    std::atomic<bool> expires_{false};
    std::atomic<bool> has_retired_{false};
    std::uint64_t past_hits_ = 0; // of threads that have ended
    std::uint64_t past_misses_ = 0;
    [[no_unique_address]] std::conditional_t<is_readable, per_thread<cache_parts, cache_reader>,
                                             no_readers> readers_{*this};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
