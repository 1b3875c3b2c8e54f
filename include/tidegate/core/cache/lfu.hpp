// SPDX-License-Identifier: BSL-1.0
// Gives up what was used least often.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Counts each use; of those used equally often, the one used least recently goes first. Counts
/// never fade, so what was popular once stays: for keys whose popularity does not change.
///
/// After Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme",
/// 2010: a list for each count that occurs, linked in order. Every call is O(1). A use for whose
/// count there is no memory only makes the entry the one used most recently of its count.
class lfu_eviction {
public:
    struct node {
        entry_links links;
        std::uint32_t list = 0;
    };

    explicit lfu_eviction(std::uint64_t /*capacity*/) noexcept {}

    template <class Entries>
    void hit(Entries& entries, entry_id id) noexcept {
        std::uint32_t const from = entries.node(id).list;
        list& l = lists_[from];
        std::uint64_t const count = l.count + 1;
        bool const is_alone = l.entries.front() == l.entries.back();
        if (is_alone && (l.next == none || lists_[l.next].count != count)) {
            l.count = count;
            return;
        }
        std::uint32_t to = none;
        try {
            to = list_after(from, count);
        } catch (std::bad_alloc const&) {
            to = from; // the last of these, then
        }
        take_out(entries, id);
        put_in(entries, id, to);
    }

    template <class Entries>
    void insert(Entries& entries, entry_id id) {
        put_in(entries, id, list_after(none, 1));
    }

    template <class Entries>
    void erase(Entries& entries, entry_id id) noexcept {
        take_out(entries, id);
    }

    template <class Entries>
    void reweigh(Entries&, entry_id, std::uint64_t /*before*/) noexcept {}
    template <class Entries>
    void deadline_changed(Entries&, entry_id) noexcept {}

    template <class Entries>
    entry_id evict(Entries& entries) noexcept {
        entry_id const rarest = lists_[first_].entries.front();
        take_out(entries, rarest);
        return rarest;
    }

    void clear() noexcept {
        lists_.clear();
        free_.clear();
        first_ = last_ = none;
    }

    template <class Entries, class Visit>
    void visit_hottest_first(Entries& entries, Visit&& visit) const {
        for (std::uint32_t l = last_; l != none; l = lists_[l].previous) {
            for (entry_id id = lists_[l].entries.back(); id != no_entry;
                 id = entries.node(id).links.previous) {
                visit(id);
            }
        }
    }

    std::size_t bytes() const noexcept { return lists_.capacity() * sizeof(list); }

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    struct list {
        std::uint64_t count = 0;
        entry_list entries;
        std::uint32_t previous = none;
        std::uint32_t next = none;
    };

    template <class Entries>
    static auto links_in(Entries& entries) {
        return [&entries](entry_id id) -> entry_links& { return entries.node(id).links; };
    }

    // The list of that count, which comes right after `before`; made if need be.
    std::uint32_t list_after(std::uint32_t before, std::uint64_t count) {
        std::uint32_t const next = before == none ? first_ : lists_[before].next;
        if (next != none && lists_[next].count == count) return next;
        std::uint32_t made = 0;
        if (free_.empty()) {
            made = static_cast<std::uint32_t>(lists_.size());
            // Giving back must not throw.
            if (free_.capacity() <= lists_.size()) free_.reserve(2 * lists_.size() + 8);
            lists_.emplace_back();
        } else {
            made = free_.back();
            free_.pop_back();
        }
        lists_[made] = {count, {}, before, next};
        (before == none ? first_ : lists_[before].next) = made;
        (next == none ? last_ : lists_[next].previous) = made;
        return made;
    }

    template <class Entries>
    void put_in(Entries& entries, entry_id id, std::uint32_t to) noexcept {
        lists_[to].entries.push_back(id, links_in(entries));
        entries.node(id).list = to;
    }

    template <class Entries>
    void take_out(Entries& entries, entry_id id) noexcept {
        std::uint32_t const from = entries.node(id).list;
        list& l = lists_[from];
        l.entries.erase(id, links_in(entries));
        if (!l.entries.empty()) return;
        (l.previous == none ? first_ : lists_[l.previous].next) = l.next;
        (l.next == none ? last_ : lists_[l.next].previous) = l.previous;
        free_.push_back(from);
    }

    std::vector<list> lists_;
    std::vector<std::uint32_t> free_;
    std::uint32_t first_ = none;
    std::uint32_t last_ = none;
};

} // namespace core
TIDEGATE_END_NAMESPACE
