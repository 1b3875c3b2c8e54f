// SPDX-License-Identifier: BSL-1.0
// Lists of cache entries, linked by number.
#pragma once

#include <tidegate/config.hpp>

#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The number of an entry in a cache store; it stays the same while the entry is there.
using entry_id = std::uint32_t;
inline constexpr entry_id no_entry = ~entry_id{0};

struct entry_links {
    entry_id previous = no_entry;
    entry_id next = no_entry;
};

/// A doubly linked list without memory of its own: `links(id)` says where the links of an entry
/// are. Every call is O(1).
class entry_list {
public:
    bool empty() const noexcept { return first_ == no_entry; }
    entry_id front() const noexcept { return first_; }
    entry_id back() const noexcept { return last_; }

    template <class Links>
    void push_back(entry_id id, Links&& links) noexcept {
        links(id) = {last_, no_entry};
        (last_ == no_entry ? first_ : links(last_).next) = id;
        last_ = id;
    }

    /// `id` has to be in this list.
    template <class Links>
    void erase(entry_id id, Links&& links) noexcept {
        entry_links const at = links(id);
        (at.previous == no_entry ? first_ : links(at.previous).next) = at.next;
        (at.next == no_entry ? last_ : links(at.next).previous) = at.previous;
    }

    /// Puts `id`, which has to be in this list, in front of `before`, or last.
    template <class Links>
    void insert_before(entry_id before, entry_id id, Links&& links) noexcept {
        if (before == no_entry) return push_back(id, links);
        entry_id const previous = links(before).previous;
        links(id) = {previous, before};
        links(before).previous = id;
        (previous == no_entry ? first_ : links(previous).next) = id;
    }

private:
    entry_id first_ = no_entry;
    entry_id last_ = no_entry;
};

} // namespace core
TIDEGATE_END_NAMESPACE
