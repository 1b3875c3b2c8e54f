// SPDX-License-Identifier: BSL-1.0
// From an id to the parked operation it names, if that still waits.
#pragma once

#include <tidegate/detail/waiter.hpp>

#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Hands out ids and takes them back. An id taken back never names another operation, until its
/// 32-bit generation wraps round. Only waiters that can be cancelled or have a deadline need one.
class waiter_directory {
public:
    /// Gives `w` an id. O(1), allocates when more waiters have ids than ever before.
    waiter_id enlist(waiter& w) {
        if (free_ == none) {
            entries_.push_back({});
            free_ = static_cast<std::uint32_t>(entries_.size() - 1);
        }
        waiter_id const id{free_, entries_[free_].generation};
        free_ = entries_[id.slot].next_free;
        entries_[id.slot].occupant = &w;
        w.id_ = id;
        return id;
    }

    void strike(waiter& w) noexcept {
        if (!w.id_) return;
        entry& e = entries_[w.id_.slot];
        e.occupant = nullptr;
        if (++e.generation == 0) e.generation = 1;
        e.next_free = free_;
        free_ = w.id_.slot;
        w.id_ = {};
    }

    waiter* find(waiter_id id) const noexcept {
        if (!id || id.slot >= entries_.size()) return nullptr;
        entry const& e = entries_[id.slot];
        return e.generation == id.generation ? e.occupant : nullptr;
    }

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    struct entry {
        waiter* occupant = nullptr;
        std::uint32_t generation = 1;
        std::uint32_t next_free = none;
    };

    std::vector<entry> entries_;
    std::uint32_t free_ = none;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
