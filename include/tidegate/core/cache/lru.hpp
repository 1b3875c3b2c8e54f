// SPDX-License-Identifier: BSL-1.0
// Gives up what was used least recently.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <cstddef>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The textbook policy. Every call is O(1); a hit moves the entry, so hits write.
class lru_eviction {
public:
    struct node {
        entry_links links;
    };

    explicit lru_eviction(std::uint64_t /*capacity*/) noexcept {}

    template <class Entries>
    void hit(Entries& entries, entry_id id) noexcept {
        if (queue_.back() == id) return;
        erase(entries, id);
        insert(entries, id);
    }

    template <class Entries>
    void insert(Entries& entries, entry_id id) noexcept {
        queue_.push_back(id, links_in(entries));
    }

    template <class Entries>
    void erase(Entries& entries, entry_id id) noexcept {
        queue_.erase(id, links_in(entries));
    }

    template <class Entries>
    void reweigh(Entries&, entry_id, std::uint64_t /*before*/) noexcept {}
    template <class Entries>
    void deadline_changed(Entries&, entry_id) noexcept {}

    template <class Entries>
    entry_id evict(Entries& entries) noexcept {
        entry_id const oldest = queue_.front();
        erase(entries, oldest);
        return oldest;
    }

    void clear() noexcept { queue_ = {}; }

    template <class Entries, class Visit>
    void visit_hottest_first(Entries& entries, Visit&& visit) const {
        for (entry_id id = queue_.back(); id != no_entry; id = entries.node(id).links.previous) {
            visit(id);
        }
    }

    std::size_t bytes() const noexcept { return 0; }

private:
    template <class Entries>
    static auto links_in(Entries& entries) {
        return [&entries](entry_id id) -> entry_links& { return entries.node(id).links; };
    }

    entry_list queue_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
