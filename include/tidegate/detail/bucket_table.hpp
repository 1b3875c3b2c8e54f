// SPDX-License-Identifier: BSL-1.0
// The token buckets of many keys, close together, for look-ups that wait for memory once.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// What a table knows of a key.
struct key_bucket {
    std::uint64_t granted = 0; // units
    std::uint32_t hash = 0;    // 0: a free slot
    std::uint32_t quota = 0;
};

/// A hash table with open addressing and linear probing (Knuth, The Art of Computer Programming,
/// volume 3, 6.4). Among a million keys the price of a look-up is that of waiting for memory, so
/// key and bucket lie in the one place that the hash names, and `prefetch` calls for it before the
/// lock is taken and the clock is read.
///
/// Between 9/16 and 3/4 of the slots are in use once there are many. Nothing here is synchronised
/// but `prefetch`. Keys move without throwing.
template <class Key, class Equal>
class bucket_table {
    static_assert(std::is_nothrow_move_constructible_v<Key>,
                  "the keys of a keyed_rate_limiter must move without throwing");

public:
    bucket_table() = default;
    bucket_table(bucket_table const&) = delete;
    bucket_table& operator=(bucket_table const&) = delete;
    ~bucket_table() { discard(slots_.load(std::memory_order_relaxed), capacity()); }

    /// The hash as it is stored: well mixed, and not 0.
    static std::uint32_t stored(std::uint64_t mixed) noexcept {
        auto const high = static_cast<std::uint32_t>(mixed >> 32);
        return high ? high : 1;
    }

    std::size_t size() const noexcept { return size_; }

    /// How far the keys lie from where their hashes put them, in sum. O(slots).
    std::size_t displacement() const noexcept {
        std::size_t sum = 0;
        slot const* const slots = all();
        for (std::size_t i = 0; i < capacity(); ++i) {
            if (slots[i].bucket.hash != 0) sum += distance(home(slots[i].bucket.hash), i);
        }
        return sum;
    }

    /// Calls for the memory where a key with that hash is. May be called while another thread
    /// changes the table: then it may call for something else, and no harm is done.
    void prefetch(std::uint32_t hash) const noexcept {
#if defined(__GNUC__)
        // As numbers: an address that is out of date must not be followed, only asked for.
        auto const first = reinterpret_cast<std::uintptr_t>(slots_.load(std::memory_order_relaxed));
        std::uintptr_t const place = first + home(hash) * sizeof(slot);
        for (std::uintptr_t const at : {place, place + 2 * sizeof(slot) - 1}) {
            // NOLINTNEXTLINE(performance-no-int-to-ptr)
            __builtin_prefetch(reinterpret_cast<void const*>(at), 1);
        }
#else
        static_cast<void>(hash);
#endif
    }

    /// Null if the key is not here.
    key_bucket* find(Key const& key, std::uint32_t hash) const {
        if (size_ == 0) return nullptr;
        slot* const slots = all();
        for (std::size_t i = home(hash); slots[i].bucket.hash != 0; i = after(i)) {
            if (slots[i].bucket.hash == hash && Equal()(slots[i].key, key)) return &slots[i].bucket;
        }
        return nullptr;
    }

    /// The key must not be here. Moves the others if there is no room; pointers to them are invalid
    /// then. An exception leaves the table as it was, perhaps with more room.
    key_bucket& insert(Key const& key, key_bucket const& what) {
        if ((size_ + 1) * 4 > capacity() * 3) grow();
        Key copy(key);
        slot& place = free_slot(what.hash);
        std::construct_at(&place.key, std::move(copy));
        place.bucket = what;
        ++size_;
        return place.bucket;
    }

    /// Looks at `looks` slots, beginning where the last call ended, and erases what `wanted`.
    template <class Wanted>
    void sweep(std::size_t looks, Wanted wanted) noexcept {
        slot* const slots = all();
        for (; looks > 0 && size_ > 0; --looks) {
            if (hand_ >= capacity()) hand_ = 0;
            key_bucket const& b = slots[hand_].bucket;
            if (b.hash != 0 && wanted(b)) erase(hand_); // and the next one may be here now
            else ++hand_;
        }
    }

private:
    struct slot {
        slot() noexcept {}
        ~slot() {}

        key_bucket bucket;
        union {
            Key key; // unless the slot is free
        };
    };

    slot* all() const noexcept { return slots_.load(std::memory_order_relaxed); }
    std::size_t capacity() const noexcept { return capacity_.load(std::memory_order_relaxed); }

    // A multiplication instead of a remainder, so that any capacity will do.
    std::size_t home(std::uint32_t hash) const noexcept {
        return static_cast<std::size_t>(std::uint64_t{hash} * capacity() >> 32);
    }
    std::size_t after(std::size_t i) const noexcept { return i + 1 == capacity() ? 0 : i + 1; }

    slot& free_slot(std::uint32_t hash) const noexcept {
        slot* const slots = all();
        std::size_t i = home(hash);
        while (slots[i].bucket.hash != 0) i = after(i);
        return slots[i];
    }

    static void move_slot(slot& to, slot& from) noexcept {
        std::construct_at(&to.key, std::move(from.key));
        std::destroy_at(&from.key);
        to.bucket = std::exchange(from.bucket, {});
    }

    void grow() {
        std::size_t const before = capacity();
        std::size_t const now = std::max<std::size_t>(8, before + before / 3);
        slot* const old = all();
        slots_.store(new slot[now], std::memory_order_relaxed);
        capacity_.store(now, std::memory_order_relaxed);
        for (std::size_t i = 0; i < before; ++i) {
            if (old[i].bucket.hash != 0) move_slot(free_slot(old[i].bucket.hash), old[i]);
        }
        discard(old, before);
    }

    // Moves those up that are farther from their place than need be (Knuth's algorithm 6.4 R).
    void erase(std::size_t gap) noexcept {
        slot* const slots = all();
        std::destroy_at(&slots[gap].key);
        slots[gap].bucket = {};
        --size_;
        for (std::size_t i = after(gap); slots[i].bucket.hash != 0; i = after(i)) {
            if (distance(home(slots[i].bucket.hash), i) < distance(gap, i)) continue;
            move_slot(slots[gap], slots[i]);
            gap = i;
        }
    }
    std::size_t distance(std::size_t from, std::size_t to) const noexcept {
        return to >= from ? to - from : to + capacity() - from;
    }

    static void discard(slot* slots, std::size_t count) noexcept {
        for (std::size_t i = 0; i < count; ++i) {
            if (slots[i].bucket.hash != 0) std::destroy_at(&slots[i].key);
        }
        delete[] slots;
    }

    // Atomic for `prefetch`.
    std::atomic<slot*> slots_{nullptr};
    std::atomic<std::size_t> capacity_{0};
    std::size_t size_ = 0;
    std::size_t hand_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
