// SPDX-License-Identifier: BSL-1.0
// Priorities that let nobody starve. No I/O, no clock, no locks.
#pragma once

#include <tidegate/config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// Chooses between `levels` lines, 0 the most urgent: that one first, unless a less urgent line has
/// been passed over `patience` times in a row, which then has its turn. So while a line is not
/// empty, one in `patience + levels - 1` choices at least is its own. O(levels).
template <std::size_t levels>
class ageing {
public:
    explicit ageing(std::uint32_t patience) noexcept : patience_(patience) {}

    /// The line whose turn it is; `is_empty(level)` says which have nobody. Not all may be empty.
    template <class IsEmpty>
    std::size_t choose(IsEmpty is_empty) noexcept {
        std::size_t const chosen = next(is_empty);
        for (std::size_t level = chosen + 1; level < levels; ++level) {
            passed_over_[level] = is_empty(level) ? 0 : passed_over_[level] + 1;
        }
        passed_over_[chosen] = 0;
        return chosen;
    }

private:
    template <class IsEmpty>
    std::size_t next(IsEmpty is_empty) const noexcept {
        for (std::size_t level = levels - 1; level > 0; --level) {
            if (passed_over_[level] >= patience_ && !is_empty(level)) return level;
        }
        std::size_t level = 0;
        while (level + 1 < levels && is_empty(level)) ++level;
        return level;
    }

    std::uint32_t patience_;
    std::array<std::uint32_t, levels> passed_over_{};
};

} // namespace core
TIDEGATE_END_NAMESPACE
