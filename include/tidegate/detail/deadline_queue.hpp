// SPDX-License-Identifier: BSL-1.0
// The deadlines of parked operations, earliest first.
#pragma once

#include <tidegate/detail/waiter_directory.hpp>

#include <algorithm>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A binary heap of (deadline, id). A waiter that leaves early does not search the heap: its entry
/// goes stale and is dropped when it surfaces, or when stale entries outnumber the live ones.
/// Leaving is therefore O(1), and adding deadlines in ascending order, the usual case, is O(1) too;
/// otherwise adding is O(log n). Memory stays below twice what the live deadlines need.
template <class TimePoint>
class deadline_queue {
public:
    void add(TimePoint deadline, waiter_id id) {
        heap_.push_back({deadline, id});
        std::push_heap(heap_.begin(), heap_.end(), later);
        ++live_;
    }

    /// One of the waiters with a deadline has left.
    void forget_one(waiter_directory const& directory) noexcept {
        --live_;
        if (heap_.size() > 2 * live_ + 64) drop_stale(directory);
    }

    /// True while some waiter has a deadline.
    bool any() const noexcept { return live_ != 0; }

    /// The earliest deadline of a waiter that still waits. Call only while `any()`.
    TimePoint earliest(waiter_directory const& directory) {
        while (!directory.find(heap_.front().id)) pop();
        return heap_.front().deadline;
    }

    /// A waiter whose deadline is not after `now`, or null. The caller unlinks it.
    waiter* due(TimePoint now, waiter_directory const& directory) {
        while (!heap_.empty() && heap_.front().deadline <= now) {
            waiter_id const id = heap_.front().id;
            pop();
            if (waiter* w = directory.find(id)) return w;
        }
        return nullptr;
    }

private:
    struct entry {
        TimePoint deadline;
        waiter_id id;
    };

    static bool later(entry const& a, entry const& b) noexcept { return b.deadline < a.deadline; }

    void pop() {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        heap_.pop_back();
    }

    void drop_stale(waiter_directory const& directory) noexcept {
        std::erase_if(heap_, [&](entry const& e) { return !directory.find(e.id); });
        std::make_heap(heap_.begin(), heap_.end(), later);
    }

    std::vector<entry> heap_;
    std::size_t live_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
