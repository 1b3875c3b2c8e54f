// SPDX-License-Identifier: BSL-1.0
// Gives up what would expire first.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The entry with the earliest deadline goes first, whether it is used or not. A binary heap in
/// which each entry knows its place: a hit is O(1), all else O(log n).
class soonest_expiry_eviction {
public:
    struct node {
        std::uint32_t place = 0;
    };

    explicit soonest_expiry_eviction(std::uint64_t /*capacity*/) noexcept {}

    /// Uses do not matter.
    static constexpr std::uint8_t most_uses = 0;
    void add_hits(std::size_t /*mark*/, std::uint64_t /*hits*/) noexcept {}

    template <class Entries>
    void hit(Entries&, entry_id) noexcept {}

    template <class Entries>
    void insert(Entries& entries, entry_id id) {
        heap_.push_back(id);
        rise(entries, heap_.size() - 1);
    }

    template <class Entries>
    void erase(Entries& entries, entry_id id) noexcept {
        std::size_t const hole = entries.node(id).place;
        entry_id const last = heap_.back();
        heap_.pop_back();
        if (last == id) return;
        put(entries, hole, last);
        deadline_changed(entries, last);
    }

    template <class Entries>
    void reweigh(Entries&, entry_id, std::uint64_t /*before*/) noexcept {}

    template <class Entries>
    void deadline_changed(Entries& entries, entry_id id) noexcept {
        sink(entries, rise(entries, entries.node(id).place));
    }

    template <class Entries>
    entry_id evict(Entries& entries) noexcept {
        entry_id const soonest = heap_.front();
        erase(entries, soonest);
        return soonest;
    }

    void clear() noexcept { heap_.clear(); }

    /// Those that expire last come first.
    template <class Entries, class Visit>
    void visit_hottest_first(Entries& entries, Visit&& visit) const {
        std::vector<entry_id> all(heap_);
        std::sort(all.begin(), all.end(), [&](entry_id a, entry_id b) {
            return entries.deadline(a) > entries.deadline(b);
        });
        for (entry_id const id : all) visit(id);
    }

    std::size_t bytes() const noexcept { return heap_.capacity() * sizeof(entry_id); }

private:
    template <class Entries>
    void put(Entries& entries, std::size_t place, entry_id id) noexcept {
        heap_[place] = id;
        entries.node(id).place = static_cast<std::uint32_t>(place);
    }

    // Both return where it ends up.
    template <class Entries>
    std::size_t rise(Entries& entries, std::size_t place) noexcept {
        entry_id const id = heap_[place];
        for (; place > 0; place = (place - 1) / 2) {
            entry_id const above = heap_[(place - 1) / 2];
            if (entries.deadline(above) <= entries.deadline(id)) break;
            put(entries, place, above);
        }
        put(entries, place, id);
        return place;
    }

    template <class Entries>
    std::size_t sink(Entries& entries, std::size_t place) noexcept {
        entry_id const id = heap_[place];
        for (;;) {
            std::size_t below = 2 * place + 1;
            if (below >= heap_.size()) break;
            if (below + 1 < heap_.size() &&
                entries.deadline(heap_[below + 1]) < entries.deadline(heap_[below])) {
                ++below;
            }
            if (entries.deadline(id) <= entries.deadline(heap_[below])) break;
            put(entries, place, heap_[below]);
            place = below;
        }
        put(entries, place, id);
        return place;
    }

    std::vector<entry_id> heap_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
