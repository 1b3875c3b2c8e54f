// SPDX-License-Identifier: BSL-1.0
// Waiters in line, by priority.
#pragma once

#include <tidegate/core/ageing.hpp>
#include <tidegate/detail/waiter.hpp>
#include <tidegate/worker_pool_options.hpp>

#include <array>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

constexpr std::size_t level_of(job_priority p) noexcept { return static_cast<std::size_t>(p); }

/// One line a priority, first in, first out each. All calls but `move_all_to` are O(1). `Waiter`
/// has a `priority`.
template <class Waiter>
class priority_lines {
public:
    explicit priority_lines(std::uint32_t patience) noexcept : order_(patience) {}

    std::size_t size() const noexcept {
        return lines_[0].size() + lines_[1].size() + lines_[2].size();
    }
    bool empty() const noexcept { return size() == 0; }

    waiter_list& line_of(job_priority p) noexcept { return lines_[level_of(p)]; }
    void push(Waiter& w) noexcept { line_of(w.priority).push_back(w); }

    /// The one whose turn it is, still in its line. Not when empty.
    Waiter& next() noexcept {
        auto const is_empty = [this](std::size_t level) { return lines_[level].empty(); };
        return *static_cast<Waiter*>(lines_[order_.choose(is_empty)].front());
    }

    /// The oldest of the least urgent, still in its line. Not when empty.
    Waiter& most_expendable() noexcept {
        std::size_t level = lines_.size() - 1;
        while (lines_[level].empty()) --level;
        return *static_cast<Waiter*>(lines_[level].front());
    }

    void move_all_to(waiter_list& all) noexcept {
        for (waiter_list& line : lines_) all.append(line);
    }

private:
    static_assert(job_priorities == 3);

    std::array<waiter_list, job_priorities> lines_;
    core::ageing<job_priorities> order_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
