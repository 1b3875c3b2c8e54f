// SPDX-License-Identifier: BSL-1.0
// Finds an entry of a cache by its hash.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// A hash table of entry numbers: linear probing, deletion by moving back (Knuth, volume 3, 6.4,
/// algorithm R), so that it never fills up with tombstones. Eight bytes a place, of which four are
/// the hash, so that a key is looked at only when its hash agrees.
///
/// `hash` has to be mixed well in all of its 32 bits. Grows by doubling, which takes time in
/// proportion to its size; a table that knows how many entries there will be at most stops there.
///
/// Others may `glance` while it changes (see detail/sequence_lock.hpp); a table that was outgrown
/// is handed out for them.
class cache_index {
    using word = std::atomic<std::uint64_t>;

public:
    /// A table that is not used any more, if there was one.
    using outgrown = std::unique_ptr<word[]>;

    /// `most`: how many entries there can be; 0 if that is not known.
    explicit cache_index(std::size_t most = 0) : most_(most) { resize(8); }

    std::size_t size() const noexcept { return size_; }
    std::size_t places() const noexcept { return places_; }

    /// The entry with that hash for which `is_it(id)` holds.
    template <class IsIt>
    entry_id find(std::uint32_t hash, IsIt&& is_it) const {
        for (std::size_t at = home(hash);; at = after(at)) {
            std::uint64_t const p = place(at);
            if (id_in(p) == no_entry) return no_entry;
            if (hash_in(p) == hash && is_it(id_in(p))) return id_in(p);
        }
    }

    /// The same for those who look on: `is_it(id)` may be asked of entries that are not there any
    /// more. False if it could not be found out.
    template <class IsIt>
    [[gnu::always_inline]] bool glance(std::uint32_t hash, IsIt&& is_it,
                                       entry_id& found) const noexcept {
        word const* const table = shown_.load(std::memory_order_acquire);
        std::uint64_t const places = table[0].load(std::memory_order_relaxed); // never changes
        std::uint64_t at = (std::uint64_t{hash} * places) >> 32;
        // A long run of changes could lead from one full place to the next for ever.
        for (int probes = 0; probes < most_probes; ++probes) {
            std::uint64_t const p = table[1 + at].load(std::memory_order_acquire);
            found = id_in(p);
            if (found == no_entry || (hash_in(p) == hash && is_it(found))) return true;
            if (++at == places) at = 0;
        }
        return false;
    }

    /// May throw std::bad_alloc, and has changed nothing then.
    outgrown insert(std::uint32_t hash, entry_id id) {
        outgrown old;
        if ((size_ + 1) * 5 > places_ * 3) old = resize(grown());
        add(both(hash, id));
        ++size_;
        return old;
    }

    /// `id` has to be in here, with that hash.
    void erase(std::uint32_t hash, entry_id id) noexcept {
        std::size_t hole = home(hash);
        while (id_in(place(hole)) != id) hole = after(hole);
        for (std::size_t at = after(hole);; at = after(at)) {
            std::uint64_t const p = place(at);
            if (id_in(p) == no_entry) break;
            // Whatever need not stay between its home and here may close the gap.
            if (distance(home(hash_in(p)), at) < distance(hole, at)) continue;
            put(hole, p);
            hole = at;
        }
        put(hole, nothing);
        --size_;
    }

    /// Gives memory back when few entries are left.
    outgrown shrink() {
        return places_ > 64 && size_ * 8 < places_ ? resize(std::max<std::size_t>(8, size_ * 2))
                                                   : outgrown();
    }

private:
    static constexpr int most_probes = 64;
    static constexpr std::uint64_t nothing = no_entry;

    static std::uint64_t both(std::uint32_t hash, entry_id id) noexcept {
        return std::uint64_t{hash} << 32 | id;
    }
    static entry_id id_in(std::uint64_t p) noexcept { return static_cast<entry_id>(p); }
    static std::uint32_t hash_in(std::uint64_t p) noexcept {
        return static_cast<std::uint32_t>(p >> 32);
    }
    std::uint64_t place(std::size_t at) const noexcept {
        return table_[1 + at].load(std::memory_order_relaxed);
    }
    void put(std::size_t at, std::uint64_t p) noexcept {
        table_[1 + at].store(p, std::memory_order_release);
    }

    // Lemire, "A fast alternative to the modulo reduction", 2016.
    std::size_t home(std::uint32_t hash) const noexcept {
        return static_cast<std::size_t>((std::uint64_t{hash} * places_) >> 32);
    }
    std::size_t after(std::size_t at) const noexcept { return ++at == places_ ? 0 : at; }
    std::size_t distance(std::size_t from, std::size_t to) const noexcept {
        return to >= from ? to - from : to + places_ - from;
    }

    std::size_t grown() const noexcept {
        std::size_t const enough = most_ + most_ * 2 / 3 + 8; // three fifths full
        std::size_t const twice = places_ * 2;
        return most_ && places_ < enough && twice > enough / 2 ? enough : twice;
    }

    outgrown resize(std::size_t places) {
        outgrown table(new word[1 + places]);
        table[0].store(places, std::memory_order_relaxed);
        for (std::size_t i = 1; i <= places; ++i)
            table[i].store(nothing, std::memory_order_relaxed);
        table.swap(table_);
        std::size_t const before = std::exchange(places_, places);
        for (std::size_t i = 1; i <= before; ++i) {
            std::uint64_t const p = table[i].load(std::memory_order_relaxed);
            if (id_in(p) != no_entry) add(p);
        }
        shown_.store(table_.get(), std::memory_order_release);
        return table;
    }

    void add(std::uint64_t p) noexcept {
        std::size_t at = home(hash_in(p));
        while (id_in(place(at)) != no_entry) at = after(at);
        put(at, p);
    }

    outgrown table_; // how many places, then the places
    std::atomic<word const*> shown_{nullptr};
    std::size_t places_ = 0;
    std::size_t size_ = 0;
    std::size_t most_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
