// SPDX-License-Identifier: BSL-1.0
// Finds an entry of a cache by its hash.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// A hash table of entry numbers: linear probing, deletion by moving back (Knuth, volume 3, 6.4,
/// algorithm R), so that it never fills up with tombstones. Eight bytes a place, of which four are
/// the hash, so that a key is looked at only when its hash agrees.
///
/// `hash` has to be mixed well in all of its 32 bits. Grows by doubling, which takes time in
/// proportion to its size; a table that knows how many entries there will be at most stops there.
class cache_index {
public:
    /// `most`: how many entries there can be; 0 if that is not known.
    explicit cache_index(std::size_t most = 0) : most_(most) { resize(8); }

    std::size_t size() const noexcept { return size_; }
    std::size_t places() const noexcept { return table_.size(); }

    /// The entry with that hash for which `is_it(id)` holds.
    template <class IsIt>
    entry_id find(std::uint32_t hash, IsIt&& is_it) const {
        for (std::size_t at = home(hash);; at = after(at)) {
            place const p = table_[at];
            if (p.id == no_entry) return no_entry;
            if (p.hash == hash && is_it(p.id)) return p.id;
        }
    }

    /// May throw std::bad_alloc, and has changed nothing then.
    void insert(std::uint32_t hash, entry_id id) {
        if ((size_ + 1) * 5 > table_.size() * 3) resize(grown());
        add({hash, id});
        ++size_;
    }

    /// `id` has to be in here, with that hash.
    void erase(std::uint32_t hash, entry_id id) noexcept {
        std::size_t hole = home(hash);
        while (table_[hole].id != id) hole = after(hole);
        for (std::size_t at = after(hole); table_[at].id != no_entry; at = after(at)) {
            // Whatever need not stay between its home and here may close the gap.
            if (distance(home(table_[at].hash), at) < distance(hole, at)) continue;
            table_[hole] = table_[at];
            hole = at;
        }
        table_[hole] = place{};
        --size_;
    }

    /// Gives memory back when few entries are left.
    void shrink() {
        if (table_.size() > 64 && size_ * 8 < table_.size()) {
            resize(std::max<std::size_t>(8, size_ * 2));
        }
    }

private:
    struct place {
        std::uint32_t hash = 0;
        entry_id id = no_entry;
    };

    // Lemire, "A fast alternative to the modulo reduction", 2016.
    std::size_t home(std::uint32_t hash) const noexcept {
        return static_cast<std::size_t>((std::uint64_t{hash} * table_.size()) >> 32);
    }
    std::size_t after(std::size_t at) const noexcept { return ++at == table_.size() ? 0 : at; }
    std::size_t distance(std::size_t from, std::size_t to) const noexcept {
        return to >= from ? to - from : to + table_.size() - from;
    }

    std::size_t grown() const noexcept {
        std::size_t const enough = most_ + most_ * 2 / 3 + 8; // three fifths full
        std::size_t const twice = table_.size() * 2;
        return most_ && table_.size() < enough && twice > enough / 2 ? enough : twice;
    }

    void resize(std::size_t places) {
        std::vector<place> old(places);
        old.swap(table_);
        for (place const& p : old) {
            if (p.id != no_entry) add(p);
        }
    }

    void add(place p) noexcept {
        std::size_t at = home(p.hash);
        while (table_[at].id != no_entry) at = after(at);
        table_[at] = p;
    }

    std::vector<place> table_;
    std::size_t size_ = 0;
    std::size_t most_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
