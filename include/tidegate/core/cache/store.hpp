// SPDX-License-Identifier: BSL-1.0
// The entries of a cache: where they are, what they weigh, when they expire.
#pragma once

#include <tidegate/core/cache/entry_cell.hpp>
#include <tidegate/core/cache/expiry_wheel.hpp>
#include <tidegate/core/cache/index.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Why an entry left a cache.
enum class removal_cause {
    expired,   ///< its time was over
    size,      ///< it made room for another
    replaced,  ///< a newer value took its place, or one that is not kept, or "there is none"
    explicit_, ///< it was invalidated
};

namespace core {

/// What a store is to keep of each entry beyond key, value and one deadline.
struct store_features {
    std::size_t max_entries = 0; ///< 0 if it is the weight that is bounded
    bool weighs = false;         ///< entries weigh something other than one
    bool expires = false;        ///< entries have deadlines
    bool keeps_times = false;    ///< more times than when it expires
    bool keeps_stale = false;    ///< entries stay until their `stale_limit`
};

/// A bounded store of entries, without locks or clock. Entries have a number, which stays, and live
/// in chunks that do not move: growing never copies entries, and an empty chunk's memory can be
/// given back. `Policy` chooses what is given up.
///
/// Times are nanoseconds. What leaves is handed to a function `removed(Key&&, Value&&, bool flag,
/// removal_cause)` so that it can be destroyed elsewhere; it must not throw.
///
/// With `Shared`, others may `glance` while it changes (see detail/sequence_lock.hpp). What they
/// might still look at is not freed, but goes to `take_retired`.
template <class Key, class Value, class Policy, bool Shared = false>
class cache_store {
    static_assert(std::is_nothrow_move_constructible_v<Key> &&
                      std::is_nothrow_move_constructible_v<Value>,
                  "moving keys and values must not throw: a cache could lose them otherwise");

public:
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

    struct times {
        std::int64_t refresh_at = never;  ///< it is worth loading again
        std::int64_t fresh_limit = never; ///< it may not be used longer, however often it is
        /// From `fresh_limit` on it stays until then, in case there is nothing better; one that has
        /// expired before, since nobody used it, does not stay.
        std::int64_t stale_limit = never;
    };

    cache_store(std::uint64_t capacity, store_features features, std::int64_t now)
        : features_(features),
          capacity_(capacity),
          policy_(capacity),
          index_(features.max_entries),
          wheel_(features.expires ? new expiry_wheel(now) : nullptr) {
        std::size_t const wanted = std::bit_floor(std::max<std::size_t>(1, 65536 / sizeof(entry)));
        std::size_t const most =
            features.max_entries ? std::bit_ceil(features.max_entries) : wanted;
        chunk_bits_ = static_cast<unsigned>(std::bit_width(std::min(wanted, most)) - 1);
        offset_mask_ = (entry_id{1} << chunk_bits_) - 1;
    }

    cache_store(cache_store const&) = delete;
    cache_store& operator=(cache_store const&) = delete;

    ~cache_store() {
        if constexpr (!Shared) for_each([this](entry_id id) { std::destroy_at(&at(id)); });
    }

    std::size_t size() const noexcept { return index_.size(); }
    std::uint64_t total_weight() const noexcept { return weight_; }
    std::uint64_t capacity() const noexcept { return capacity_; }

    /// About how many bytes it takes, without what keys and values have elsewhere.
    std::size_t bytes() const noexcept {
        std::size_t sum = sizeof(*this) + index_.places() * 8 + policy_.bytes() +
                          (wheel_ ? sizeof(expiry_wheel) : 0);
        for (chunk const& c : chunks_) {
            sum += sizeof(chunk);
            if (c.slots) sum += chunk_size() * bytes_an_entry();
        }
        return sum + retired_bytes_;
    }

    // Finding ---------------------------------------------------------------------------------

    template <class LooksLike, class Equal>
    entry_id find(std::uint32_t hash, LooksLike const& key, Equal const& equal) const {
        return index_.find(hash, [&](entry_id id) { return equal(at(id).key.get(), key); });
    }

    decltype(auto) key(entry_id id) const noexcept { return at(id).key.get(); }
    decltype(auto) value(entry_id id) const noexcept { return at(id).value.get(); }
    /// Until then it may be used.
    std::int64_t fresh_until(entry_id id) const noexcept {
        return at(id).fresh_until.load(std::memory_order_relaxed);
    }
    times const& when(entry_id id) const noexcept { return times_of(id); }
    /// A mark for the owner's use.
    bool flag(entry_id id) const noexcept { return (marks(id) & flag_bit) != 0; }

    /// It was used.
    void touch(entry_id id) { policy_.hit(*this, id); }

    // Looking on ------------------------------------------------------------------------------

    /// What somebody who looks on believes to have seen.
    struct glimpse {
        bool found = false;
        bool flag = false;
        std::uint8_t mark = 0; ///< the policy's
        std::int64_t fresh_until = never;
        Value value{};
        std::atomic<std::uint8_t>* uses = nullptr;
    };

    /// As `find`, while the store may change. False if it could not be found out; what else it says
    /// is to be believed only if nothing has changed meanwhile. `equal` may be asked about keys
    /// that are not there any more.
    template <class LooksLike, class Equal>
    [[gnu::always_inline]] bool glance(std::uint32_t hash, LooksLike const& key, Equal const& equal,
                                       glimpse& seen) const
        requires Shared
    {
        // Each of these loads sees at least what was there when the number was put into the index,
        // whose load it comes after: the number's place in the directory, and a chunk's entries.
        slot* at = nullptr;
        auto const is_it = [&](entry_id id) {
            auto const* const directory = shown_.load(std::memory_order_acquire);
            slot* const slots = directory[id >> chunk_bits_].load(std::memory_order_acquire);
            at = slots ? slots + offset(id) : nullptr;
            return !at || equal(at->e.key.get(), key);
        };
        entry_id id = no_entry;
        if (!index_.glance(hash, is_it, id)) return false;
        if (id == no_entry) return true;
        if (!at) return false; // its memory was given back meanwhile
        entry& e = at->e;
        std::uint8_t const marks = e.marks.load(std::memory_order_acquire);
        seen.found = true;
        seen.flag = (marks & flag_bit) != 0;
        seen.mark = marks & ~flag_bit;
        seen.fresh_until = e.fresh_until.load(std::memory_order_acquire);
        seen.value = e.value.get();
        seen.uses = &e.uses;
        return true;
    }

    /// Hits of those who look on, on entries with that mark; their `uses` they count themselves.
    void add_hits(std::uint8_t mark, std::uint64_t hits) noexcept { policy_.add_hits(mark, hits); }

    bool has_retired() const noexcept { return !retired_.empty(); }
    /// What may be freed as soon as nobody looks at it any more.
    std::vector<retired_block> take_retired() noexcept {
        retired_bytes_ = 0;
        return std::exchange(retired_, {});
    }

    // Changing --------------------------------------------------------------------------------

    struct fresh_entry {
        std::uint32_t hash;
        Key key;
        Value value;
        bool flag = false;
        std::uint64_t weight = 1;
        std::int64_t fresh_until = never;
        times when = {};
    };

    /// Adds an entry that is not there yet, making room for it: what has expired goes first. Its
    /// weight must not exceed the capacity. If this throws, nothing was added.
    template <class Removed>
    entry_id insert(fresh_entry&& fresh, std::int64_t now, Removed&& removed) {
        make_room(fresh.weight, now, removed);
        entry_id const id = allocate();
        fill(slot_at(id), fresh);
        if (features_.weighs) chunk_of(id).weights[offset(id)] = fresh.weight;
        if (features_.keeps_times) chunk_of(id).when[offset(id)] = fresh.when;
        bool indexed = false;
        try {
            reserve_retired(1);
            retire_index(index_.insert(fresh.hash, id));
            indexed = true;
            policy_.insert(*this, id);
        } catch (...) {
            if (indexed) index_.erase(fresh.hash, id);
            empty(at(id));
            free_slot(id);
            throw;
        }
        weight_ += fresh.weight;
        file(id);
        return id;
    }

    /// Gives an entry another value, and makes room for what that weighs more. If this throws,
    /// nothing has changed.
    template <class Removed>
    void replace(entry_id id, fresh_entry&& fresh, std::int64_t now, Removed&& removed) {
        entry& e = at(id);
        std::uint64_t const before = weight(id);
        policy_.hit(*this, id); // nothing after it throws
        e.value.exchange(fresh.value);
        std::uint8_t const marks = e.marks.load(std::memory_order_relaxed);
        bool const flag = (marks & flag_bit) != 0;
        removed(std::move(fresh.key), std::move(fresh.value), flag, removal_cause::replaced);
        if (flag != fresh.flag) e.marks.store(marks ^ flag_bit, std::memory_order_release);
        if (features_.weighs && fresh.weight != before) {
            chunk_of(id).weights[offset(id)] = fresh.weight;
            weight_ += fresh.weight - before;
            policy_.reweigh(*this, id, before);
        }
        set_times(id, fresh.fresh_until, fresh.when);
        make_room(0, now, removed);
    }

    /// Changes until when it may be used, and the other times.
    void set_times(entry_id id, std::int64_t fresh_until, times const& when) noexcept {
        if (!wheel_) return;
        entry& e = at(id);
        std::int64_t const before = deadline_of(e, id);
        e.fresh_until.store(fresh_until, std::memory_order_release);
        if (features_.keeps_times) chunk_of(id).when[offset(id)] = when;
        std::int64_t const after = deadline_of(e, id);
        if (after == before) return;
        policy_.deadline_changed(*this, id);
        if (after > before) return; // the wheel sees that for itself
        wheel_->remove(*this, id);
        file(id);
    }

    template <class Removed>
    void erase(entry_id id, removal_cause cause, Removed&& removed) noexcept {
        policy_.erase(*this, id);
        take_out(id, cause, removed);
    }

    /// Removes what has expired, `budget` steps at most, and takes from it what it used.
    template <class Removed>
    void expire(std::int64_t now, std::size_t& budget, Removed&& removed) {
        if (!wheel_ || !wheel_->is_due(now)) return;
        wheel_->advance(*this, now, budget,
                        [&](entry_id id) { erase(id, removal_cause::expired, removed); });
    }

    template <class Removed>
    void clear(Removed&& removed) noexcept {
        for_each([&](entry_id id) { erase(id, removal_cause::explicit_, removed); });
        policy_.clear();
    }

    /// Gives back memory that nothing is in.
    void release_memory() {
        reserve_retired(chunks_.size() + 1);
        for (std::size_t i = 0; i < chunks_.size(); ++i) {
            chunk& c = chunks_[i];
            if (c.used > 0 || !c.slots) continue;
            directory_[i].store(nullptr, std::memory_order_release);
            retire(std::move(c.slots), chunk_size());
            c = chunk{};
        }
        while (!chunks_.empty() && !chunks_.back().slots) chunks_.pop_back();
        first_free_ = 0;
        retire_index(index_.shrink());
    }

    /// Calls `visit(id)` for every entry, which may erase that entry.
    template <class Visit>
    void for_each(Visit&& visit) {
        for (std::size_t c = 0; c < chunks_.size(); ++c) {
            if (chunks_[c].used == 0) continue;
            for (std::size_t i = 0; i < chunk_size(); ++i) {
                if (chunks_[c].live[i]) visit(static_cast<entry_id>((c << chunk_bits_) + i));
            }
        }
    }

    template <class Visit>
    void visit_hottest_first(Visit&& visit) {
        policy_.visit_hottest_first(*this, visit);
    }

    // What the policy and the wheel use ---------------------------------------------------------

    /// Small numbers for the policy: seven bits, and how often it was used since that was set to 0.
    /// The latter may be counted by those who look on, and loses some of them.
    std::uint8_t mark(entry_id id) const noexcept { return marks(id) & ~flag_bit; }
    void set_mark(entry_id id, std::uint8_t mark) noexcept {
        set_marks(id, static_cast<std::uint8_t>((marks(id) & flag_bit) | mark));
    }
    std::uint8_t uses(entry_id id) const noexcept {
        return at(id).uses.load(std::memory_order_relaxed);
    }
    /// Looks at the mark and counts one use, unless there are `most`.
    std::uint8_t use(entry_id id, std::uint8_t most) noexcept {
        entry& e = at(id);
        std::uint8_t const uses = e.uses.load(std::memory_order_relaxed);
        if (uses < most) {
            e.uses.store(static_cast<std::uint8_t>(uses + 1), std::memory_order_relaxed);
        }
        return e.marks.load(std::memory_order_relaxed) & ~flag_bit;
    }
    void set_uses(entry_id id, std::uint8_t uses) noexcept {
        at(id).uses.store(uses, std::memory_order_relaxed);
    }
    std::uint32_t hash(entry_id id) const noexcept { return at(id).hash; }
    std::uint64_t weight(entry_id id) const noexcept {
        return features_.weighs ? chunk_of(id).weights[offset(id)] : 1;
    }
    typename Policy::node& node(entry_id id) noexcept {
        return chunk_of(id).sides[offset(id)].node;
    }
    entry_links& due_links(entry_id id) noexcept { return chunk_of(id).sides[offset(id)].due; }
    expiry_wheel::bucket_number& bucket(entry_id id) noexcept { return at(id).bucket; }
    /// When it goes.
    std::int64_t deadline(entry_id id) const noexcept { return deadline_of(at(id), id); }

private:
    template <class T>
    using cell = std::conditional_t<Shared, shared_cell<T>, plain_cell<T>>;

    // What a hit reads, 32 bytes for two words.
    struct entry {
        cell<Key> key;
        cell<Value> value;
        std::atomic<std::int64_t> fresh_until{never};
        std::uint32_t hash = 0;
        expiry_wheel::bucket_number bucket = expiry_wheel::nowhere;
        std::atomic<std::uint8_t> marks{0}; // the flag and the policy's
        std::atomic<std::uint8_t> uses{0};
    };
    static constexpr std::uint8_t flag_bit = 0x80;
    static constexpr std::size_t most_moved = 16; // in the wheel, to make room for one

    // What others may look at is there as long as the chunk.
    struct lasting_slot {
        entry e;
    };
    union passing_slot {
        passing_slot() noexcept {}
        ~passing_slot() {}
        entry e;
    };
    using slot = std::conditional_t<Shared, lasting_slot, passing_slot>;
    using slot_pointer = std::atomic<slot*>;

    // What only changes read. In an empty slot, `due.next` is the next empty one of the chunk.
    struct side_entry {
        [[no_unique_address]] typename Policy::node node;
        entry_links due;
    };

    struct chunk {
        std::unique_ptr<slot[]> slots;
        std::unique_ptr<side_entry[]> sides;
        std::unique_ptr<std::uint64_t[]> weights;
        std::unique_ptr<times[]> when;
        std::vector<bool> live;
        std::uint32_t used = 0;
        entry_id free = no_entry; // the first empty slot
    };

    // Compilers leave calls of these where there are many.
    std::size_t chunk_size() const noexcept { return std::size_t{offset_mask_} + 1; }
    [[gnu::always_inline]] std::size_t offset(entry_id id) const noexcept {
        return id & offset_mask_;
    }
    chunk& chunk_of(entry_id id) noexcept { return chunks_[id >> chunk_bits_]; }
    chunk const& chunk_of(entry_id id) const noexcept { return chunks_[id >> chunk_bits_]; }
    [[gnu::always_inline]] slot& slot_at(entry_id id) const noexcept {
        return directory_[id >> chunk_bits_].load(std::memory_order_relaxed)[offset(id)];
    }
    [[gnu::always_inline]] entry& at(entry_id id) noexcept { return slot_at(id).e; }
    [[gnu::always_inline]] entry const& at(entry_id id) const noexcept { return slot_at(id).e; }
    std::int64_t deadline_of(entry const& e, entry_id id) const noexcept {
        std::int64_t const fresh = e.fresh_until.load(std::memory_order_relaxed);
        if (!features_.keeps_stale) return fresh;
        times const& when = times_of(id);
        return fresh < when.fresh_limit ? fresh : std::max(fresh, when.stale_limit);
    }
    std::uint8_t marks(entry_id id) const noexcept {
        return at(id).marks.load(std::memory_order_relaxed);
    }
    void set_marks(entry_id id, std::uint8_t marks) noexcept {
        at(id).marks.store(marks, std::memory_order_release);
    }
    times const& times_of(entry_id id) const noexcept { return chunk_of(id).when[offset(id)]; }

    std::size_t bytes_an_entry() const noexcept {
        return sizeof(slot) + sizeof(side_entry) + (features_.weighs ? 8 : 0) +
               (features_.keeps_times ? sizeof(times) : 0);
    }

    // What has expired goes first, unless so many have to move in the wheel before it is found that
    // one call would pay for all.
    template <class Removed>
    void make_room(std::uint64_t weight, std::int64_t now, Removed& removed) {
        std::size_t moved = 0;
        while (size() > 0 && weight_ + weight > capacity_) {
            if (moved < most_moved) {
                std::size_t one = 1;
                std::size_t const before = size();
                expire(now, one, removed);
                if (size() < before) continue;
                if (one == 0) {
                    ++moved;
                    continue;
                }
            }
            take_out(policy_.evict(*this), removal_cause::size, removed);
        }
    }

    void file(entry_id id) noexcept {
        if (!wheel_) return;
        std::int64_t const due = deadline(id);
        if (due != never) wheel_->add(*this, id, due);
    }

    // The policy has let go of it already.
    template <class Removed>
    void take_out(entry_id id, removal_cause cause, Removed& removed) noexcept {
        entry& e = at(id);
        if (wheel_) wheel_->remove(*this, id);
        weight_ -= weight(id);
        index_.erase(e.hash, id);
        removed(e.key.take(), e.value.take(), flag(id), cause);
        empty(e);
        free_slot(id);
    }

    static void fill(slot& s, fresh_entry& fresh) noexcept {
        auto const marks = static_cast<std::uint8_t>(fresh.flag ? flag_bit : 0);
        if constexpr (Shared) {
            s.e.key.set(fresh.key);
            s.e.value.set(fresh.value);
            s.e.fresh_until.store(fresh.fresh_until, std::memory_order_release);
            s.e.hash = fresh.hash;
            s.e.bucket = expiry_wheel::nowhere;
            s.e.marks.store(marks, std::memory_order_release);
            s.e.uses.store(0, std::memory_order_relaxed);
        } else {
            ::new (static_cast<void*>(&s.e)) entry{cell<Key>(std::move(fresh.key)),
                                                   cell<Value>(std::move(fresh.value)),
                                                   fresh.fresh_until,
                                                   fresh.hash,
                                                   expiry_wheel::nowhere,
                                                   marks,
                                                   0};
        }
    }
    static void empty(entry& e) noexcept {
        if constexpr (!Shared) std::destroy_at(&e);
    }

    // What is retired ---------------------------------------------------------------------------

    void reserve_retired(std::size_t more) {
        if constexpr (Shared) {
            if (retired_.capacity() < retired_.size() + more)
                retired_.reserve(retired_.size() + more);
        }
    }
    // There has to be room for it.
    template <class T>
    void retire(std::unique_ptr<T[]> block, std::size_t n) noexcept {
        if constexpr (Shared) {
            if (!block) return;
            retired_.push_back(retired(std::move(block)));
            retired_bytes_ += n * sizeof(T);
        }
    }
    void retire_index(cache_index::outgrown table) noexcept {
        if (!table) return;
        std::size_t const places = table[0].load(std::memory_order_relaxed);
        retire(std::move(table), places + 1);
    }

    // Slots -----------------------------------------------------------------------------------

    entry_id allocate() {
        while (first_free_ < chunks_.size() && chunks_[first_free_].free == no_entry &&
               chunks_[first_free_].slots) {
            ++first_free_;
        }
        if (first_free_ == chunks_.size()) {
            if (chunks_.size() == directory_size_) grow_directory();
            chunks_.emplace_back();
        }
        chunk& c = chunks_[first_free_];
        if (!c.slots) {
            c = fresh_chunk(first_free_);
            directory_[first_free_].store(c.slots.get(), std::memory_order_release);
        }
        entry_id const id = c.free;
        c.free = c.sides[offset(id)].due.next;
        c.live[offset(id)] = true;
        ++c.used;
        return id;
    }

    // It never shrinks: who looks on may have an old number.
    void grow_directory() {
        reserve_retired(1);
        std::size_t const more = directory_size_ * 2 + 4;
        std::unique_ptr<slot_pointer[]> grown(new slot_pointer[more]);
        for (std::size_t i = 0; i < more; ++i) {
            slot* const s =
                i < directory_size_ ? directory_[i].load(std::memory_order_relaxed) : nullptr;
            grown[i].store(s, std::memory_order_relaxed);
        }
        std::size_t const before = std::exchange(directory_size_, more);
        grown.swap(directory_);
        shown_.store(directory_.get(), std::memory_order_release);
        retire(std::move(grown), before);
    }

    void free_slot(entry_id id) noexcept {
        chunk& c = chunk_of(id);
        c.sides[offset(id)].due.next = c.free;
        c.free = id;
        c.live[offset(id)] = false;
        --c.used;
        first_free_ = std::min<std::size_t>(first_free_, id >> chunk_bits_);
    }

    chunk fresh_chunk(std::size_t number) {
        chunk c;
        std::size_t const n = chunk_size();
        c.slots.reset(new slot[n]);
        c.sides.reset(new side_entry[n]);
        if (features_.weighs) c.weights.reset(new std::uint64_t[n]);
        if (features_.keeps_times) c.when.reset(new times[n]);
        c.live.resize(n);
        auto const first = static_cast<entry_id>(number << chunk_bits_);
        for (std::size_t i = 0; i < n; ++i) {
            c.sides[i].due.next = i + 1 < n ? static_cast<entry_id>(first + i + 1) : no_entry;
        }
        c.free = first;
        return c;
    }

    store_features features_;
    std::uint64_t capacity_;
    std::uint64_t weight_ = 0;
    unsigned chunk_bits_ = 0;
    entry_id offset_mask_ = 0;
    Policy policy_;
    cache_index index_;
    std::unique_ptr<expiry_wheel> wheel_;
    std::vector<chunk> chunks_;
    std::unique_ptr<slot_pointer[]> directory_; // the chunks' slots: what a hit goes by
    std::atomic<slot_pointer const*> shown_{nullptr};
    std::size_t directory_size_ = 0;
    std::size_t first_free_ = 0; // no chunk before this one has an empty slot
    std::vector<retired_block> retired_;
    std::size_t retired_bytes_ = 0;
};

} // namespace core
TIDEGATE_END_NAMESPACE
