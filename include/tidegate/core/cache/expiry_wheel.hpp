// SPDX-License-Identifier: BSL-1.0
// Finds what has expired, without a timer an entry and without a long pause.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Entries by their deadline, in a hierarchical timing wheel (Varghese, Lauck, SOSP 1987): seven
/// levels of 64 buckets, the finest of 2^20 ns (about a millisecond), each next 64 times as wide.
/// Adding and removing are O(1); an entry moves down a level six times at most.
///
/// Nothing is given out before its deadline; it may be up to two milliseconds later. An entry whose
/// deadline moves further away need not be filed anew: that is seen when the old one comes. Times
/// are nanoseconds; one before the last `advance` counts as that.
class expiry_wheel {
public:
    /// Where an entry is filed, to be kept with it.
    using bucket_number = std::uint16_t;
    static constexpr bucket_number nowhere = 0xffff;

    explicit expiry_wheel(std::int64_t now) noexcept : origin_(now) { done_[0] = -1; }

    /// `bucket(id)` and `links(id)` are where those of an entry are kept.
    template <class Entries>
    void add(Entries& entries, entry_id id, std::int64_t deadline) noexcept {
        std::uint64_t const due = since_origin(deadline);
        std::size_t level = 0;
        std::int64_t tick = tick_of(due, 0);
        while (level + 1 < levels && tick - done_[level] > buckets) tick = tick_of(due, ++level);
        tick = std::clamp(tick, done_[level] + 1, done_[level] + buckets);
        auto const bucket = static_cast<bucket_number>(level * buckets +
                                                       static_cast<std::uint64_t>(tick) % buckets);
        entries.bucket(id) = bucket;
        lists_[bucket].push_back(id, links_in(entries));
    }

    template <class Entries>
    void remove(Entries& entries, entry_id id) noexcept {
        bucket_number& bucket = entries.bucket(id);
        if (bucket == nowhere) return;
        lists_[bucket].erase(id, links_in(entries));
        bucket = nowhere;
    }

    /// Whether `advance` has anything to do.
    bool is_due(std::int64_t now) const noexcept {
        return behind_ || tick_of(since_origin(now), 0) - 1 > done_[0];
    }

    /// Calls `expire(id)` for entries whose deadline has come; they are not filed any more. Moves
    /// `budget` entries at most and takes from it what it has used; is over if any is left.
    template <class Entries, class Expire>
    void advance(Entries& entries, std::int64_t now, std::size_t& budget, Expire&& expire) {
        if (!is_due(now)) return;
        std::uint64_t const at = since_origin(now);
        behind_ = true;
        for (std::size_t level = 0; level < levels; ++level) {
            // The finest: whole ticks that are over. The others: those that have begun.
            std::int64_t const to = tick_of(at, level) - (level == 0 ? 1 : 0);
            std::int64_t const from = std::max(done_[level], to - buckets);
            for (std::int64_t tick = from + 1; tick <= to; ++tick) {
                if (!empty_bucket(entries, level, tick, budget, expire)) return;
                done_[level] = tick;
            }
        }
        behind_ = false;
    }

private:
    static constexpr std::size_t levels = 7;
    static constexpr std::int64_t buckets = 64;

    template <class Entries>
    static auto links_in(Entries& entries) {
        return [&entries](entry_id id) -> entry_links& { return entries.due_links(id); };
    }

    std::uint64_t since_origin(std::int64_t time) const noexcept {
        return time <= origin_
                   ? 0
                   : static_cast<std::uint64_t>(time) - static_cast<std::uint64_t>(origin_);
    }
    static std::int64_t tick_of(std::uint64_t since_origin, std::size_t level) noexcept {
        return static_cast<std::int64_t>(since_origin >> (20 + 6 * level));
    }

    // False if the budget did not suffice.
    template <class Entries, class Expire>
    bool empty_bucket(Entries& entries, std::size_t level, std::int64_t tick, std::size_t& budget,
                      Expire& expire) {
        entry_list& list = lists_[level * buckets + static_cast<std::uint64_t>(tick) % buckets];
        while (!list.empty()) {
            if (budget == 0) return false;
            --budget;
            entry_id const id = list.front();
            std::int64_t const deadline = entries.deadline(id);
            remove(entries, id);
            bool const due = tick_of(since_origin(deadline), 0) <= (level == 0 ? tick : done_[0]);
            if (due) expire(id);
            else add(entries, id, deadline); // on a finer level, or later
        }
        return true;
    }

    std::int64_t origin_;
    bool behind_ = false;                     // the last `advance` had too small a budget
    std::array<std::int64_t, levels> done_{}; // the last tick of each level that was emptied
    std::array<entry_list, levels * buckets> lists_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
