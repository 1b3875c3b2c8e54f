// SPDX-License-Identifier: BSL-1.0
// The default way to choose what a cache gives up: resists scans, loops and bursts.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>
#include <tidegate/core/cache/ghosts.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Eviction by two first-in, first-out queues and what became of those that left them.
///
/// After S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction",
/// SOSP 2023): new entries go through a small queue; those that were used meanwhile move on to the
/// main one, whose entries come round again as often as they were used, three times at most. A hit
/// only counts up to three, so a hit on what is hot writes nothing.
///
/// The small queue's share adapts by ghosts, as in ARC (Megiddo, Modha, FAST 2003). A miss on what
/// the small queue gave up says that it is too short to tell good from bad; one on what the main
/// queue gave up says that there is too little room for what is proven. The first kind counts only
/// while the small queue earns its room: else a loop longer than the cache, all of whose misses are
/// such ghosts, would drive everything proven out.
///
/// While the main queue earns hardly any hits, every sixteenth time an entry of it that was not
/// used for a whole round gives its place to a new one. Else what was popular once would stay for
/// ever where everything new leaves before it is used again.
///
/// Choosing is O(1) amortised: an entry comes round at most three times after its last use.
class adaptive_eviction {
public:
    struct node {
        entry_links links;
    };

    /// `capacity`: the weight of all that fits.
    explicit adaptive_eviction(std::uint64_t capacity) noexcept
        : capacity_(static_cast<double>(capacity)), target_(capacity_ * 0.1) {}

    /// An entry's mark is the number of its queue. A hit counts the entry's uses, up to this, and
    /// is told: anybody may do the one and tell of the other later.
    static constexpr std::uint8_t most_uses = 3;

    template <class Entries>
    void hit(Entries& entries, entry_id id) noexcept {
        ++hits_[entries.use(id, most_uses)];
    }
    void add_hits(std::size_t mark, std::uint64_t hits) noexcept { hits_[mark] += hits; }

    template <class Entries>
    void insert(Entries& entries, entry_id id) noexcept {
        auto const ghost = ghosts_.take(entries.hash(id));
        bool to_main = false;
        if (!ghost.any) {
            to_main = !was_full_ && held_[1] < capacity_ - target_;
        } else if (ghost.from == ghost_memory::queue::small) {
            to_main = true;
            if (small_earns_its_room()) move_target(step(0, 1) * weight(entries, id));
        } else {
            move_target(-step(1, 0) * weight(entries, id));
        }
        enter(entries, id, to_main);
        age();
    }

    template <class Entries>
    void erase(Entries& entries, entry_id id) noexcept {
        std::size_t const q = queue_of(entries, id);
        queues_[q].erase(id, links_in(entries));
        held_[q] -= weight(entries, id);
        --count_[q];
    }

    /// The weight of an entry, which was `before`, has changed.
    template <class Entries>
    void reweigh(Entries& entries, entry_id id, std::uint64_t before) noexcept {
        held_[queue_of(entries, id)] += weight(entries, id) - static_cast<double>(before);
    }
    template <class Entries>
    void deadline_changed(Entries&, entry_id) noexcept {}

    /// Takes out the entry to be given up; there has to be one.
    template <class Entries>
    entry_id evict(Entries& entries) noexcept {
        was_full_ = true;
        fit_ghosts(entries.size());
        if (main_lies_idle() && ++turn_ % 16 == 0) {
            if (entry_id const id = exchange(entries); id != no_entry) return id;
        }
        for (;;) {
            bool const from_small =
                !queues_[0].empty() && (held_[0] > target_ || queues_[1].empty());
            entry_id const id = queues_[from_small ? 0 : 1].front();
            erase(entries, id);
            std::uint8_t const uses = entries.uses(id);
            if (uses == 0) {
                ghosts_.remember(entries.hash(id), from_small ? ghost_memory::queue::small
                                                              : ghost_memory::queue::main);
                return id;
            }
            enter(entries, id, true);
            entries.set_uses(id, static_cast<std::uint8_t>(from_small ? 0 : uses - 1));
        }
    }

    /// All entries but no ghosts are gone.
    void clear() noexcept {
        queues_ = {};
        held_ = {};
        count_ = {};
    }

    /// Calls `visit(id)` for each entry, those first that would be given up last.
    template <class Entries, class Visit>
    void visit_hottest_first(Entries& entries, Visit&& visit) const {
        for (std::size_t const q : {std::size_t{1}, std::size_t{0}}) {
            for (entry_id id = queues_[q].back(); id != no_entry;
                 id = entries.node(id).links.previous) {
                visit(id);
            }
        }
    }

    std::size_t bytes() const noexcept { return ghosts_.bytes(); }

private:
    template <class Entries>
    static auto links_in(Entries& entries) {
        return [&entries](entry_id id) -> entry_links& { return entries.node(id).links; };
    }
    template <class Entries>
    static double weight(Entries& entries, entry_id id) noexcept {
        return static_cast<double>(entries.weight(id));
    }
    template <class Entries>
    static std::size_t queue_of(Entries& entries, entry_id id) noexcept {
        return entries.mark(id);
    }

    template <class Entries>
    void enter(Entries& entries, entry_id id, bool main) noexcept {
        entries.set_mark(id, main ? 1 : 0);
        entries.set_uses(id, 0);
        queues_[main].push_back(id, links_in(entries));
        held_[main] += weight(entries, id);
        ++count_[main];
    }

    // A ghost of the queue that remembers less says more.
    double step(std::size_t of, std::size_t other) const noexcept {
        return std::max(1.0, ghosts(other) / std::max(1.0, ghosts(of)));
    }
    double ghosts(std::size_t q) const noexcept {
        return ghosts_.size(static_cast<ghost_memory::queue>(q));
    }

    void move_target(double by) noexcept {
        target_ = std::clamp(target_ + by, capacity_ * 0.01, capacity_ * 0.95);
    }

    // Hits for its room, compared with those of the main queue.
    bool small_earns_its_room() const noexcept {
        return static_cast<double>(hits_[0]) * held_[1] * 4 >=
               static_cast<double>(hits_[1]) * held_[0];
    }

    // What was popular is not any more, and nothing that comes is used before it leaves the small
    // queue: a loop longer than that, say.
    bool main_lies_idle() const noexcept {
        return hits_[1] * 4 < count_[1] && held_[0] > target_ && count_[0] > 0;
    }

    // The main queue goes on by one. If that finds an entry that nobody used for a whole round, the
    // oldest of the small queue takes its place unproven, and may prove itself there.
    template <class Entries>
    entry_id exchange(Entries& entries) noexcept {
        entry_id const id = queues_[1].front();
        std::uint8_t const used = entries.uses(id);
        erase(entries, id);
        if (used > 0) {
            enter(entries, id, true);
            entries.set_uses(id, static_cast<std::uint8_t>(used - 1));
            return no_entry;
        }
        ghosts_.remember(entries.hash(id), ghost_memory::queue::main);
        entry_id const next = queues_[0].front();
        erase(entries, next);
        enter(entries, next, true);
        return id;
    }

    // Half as much every so many look-ups as entries fit, of the weight that those have which are
    // there.
    void age() noexcept {
        auto const looks = static_cast<double>(hits_[0] + hits_[1] + ++misses_);
        auto const entries = static_cast<double>(count_[0] + count_[1]);
        if (looks * (held_[0] + held_[1]) < 2 * capacity_ * entries) return;
        for (std::uint64_t& h : hits_) h /= 2;
        misses_ /= 2;
    }

    void fit_ghosts(std::size_t entries) noexcept {
        std::size_t const small = entries * 9 / 10 + 1, main = entries / 4 + 1;
        std::size_t const now = ghosts_.limit(ghost_memory::queue::small);
        if (small <= now + now / 2 && small * 4 >= now) return;
        try {
            ghosts_ = ghost_memory(small, main);
        } catch (std::bad_alloc const&) {
            return; // those that there are give hints, too
        }
    }

    double capacity_;
    double target_;                        // what the small queue may hold
    std::array<double, 2> held_{};         // the weight of each queue: small, main
    std::array<std::uint64_t, 2> count_{}; // and how many are in it
    std::array<std::uint64_t, 2> hits_{};
    std::uint64_t misses_ = 0;
    bool was_full_ = false;
    std::uint32_t turn_ = 0;
    std::array<entry_list, 2> queues_;
    ghost_memory ghosts_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
