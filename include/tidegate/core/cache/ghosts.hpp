// SPDX-License-Identifier: BSL-1.0
// What a cache remembers of entries that it gave up.
#pragma once

#include <tidegate/core/cache/entry_list.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The hashes of the entries that left each of two queues last, oldest forgotten first.
///
/// A set-associative table: a hash has eight places, one cache line, to be in, so that finding and
/// remembering cost one miss. Each is stamped with how many had left its queue before; one that is
/// older than its queue remembers counts as empty. A full line loses its stalest early. Two keys
/// of one hash are taken for each other, one in 2^32.
class ghost_memory {
public:
    enum class queue : std::uint32_t { small = 0, main = 1 };

    /// For `small` and `main` ghosts at most; both 0: none.
    ghost_memory() = default;
    ghost_memory(std::size_t small, std::size_t main)
        : limit_{clamp(small), clamp(main)}, lines_((small + main) * 4 / 3 / ways + 1) {}

    /// Forgets nothing that is within the new limits and has room.
    void resize(std::size_t small, std::size_t main) {
        ghost_memory fresh(small, main);
        fresh.left_ = left_;
        fresh.alive_ = alive_;
        for (line const& l : lines_) {
            for (ghost const& g : l) {
                if (g.stamp && age(g) < fresh.limit_[queue_of(g)]) fresh.place(g);
            }
        }
        *this = std::move(fresh);
    }

    bool empty() const noexcept { return lines_.empty(); }

    void remember(std::uint32_t hash, queue from) noexcept {
        if (lines_.empty()) return;
        std::uint32_t& left = left_[static_cast<std::size_t>(from)];
        left = (left + 1) & stamp_mask;
        double& alive = alive_[static_cast<std::size_t>(from)];
        // One comes; the oldest, if it has not been taken, goes.
        alive += 1 - alive / std::max<double>(limit_[static_cast<std::size_t>(from)], 1);
        place({hash, used | static_cast<std::uint32_t>(from) << 30 | left});
    }

    /// About how many there are of a queue.
    double size(queue q) const noexcept { return alive_[static_cast<std::size_t>(q)]; }

    /// Takes the ghost with that hash out; whether there was one, and of which queue.
    struct found {
        bool any = false;
        queue from = queue::small;
    };
    found take(std::uint32_t hash) noexcept {
        if (lines_.empty()) return {};
        for (ghost& g : line_of(hash)) {
            if (g.hash != hash || !g.stamp) continue;
            bool const alive = age(g) < limit_[queue_of(g)];
            auto const from = static_cast<queue>(queue_of(g));
            g = ghost{};
            if (alive) {
                alive_[static_cast<std::size_t>(from)] -= 1;
                return {true, from};
            }
        }
        return {};
    }

    std::size_t limit(queue q) const noexcept { return limit_[static_cast<std::size_t>(q)]; }
    std::size_t bytes() const noexcept { return lines_.size() * sizeof(line); }

private:
    static constexpr std::size_t ways = 8;
    static constexpr std::uint32_t used = std::uint32_t{1} << 31;
    static constexpr std::uint32_t stamp_mask = (std::uint32_t{1} << 30) - 1;

    struct ghost {
        std::uint32_t hash = 0;
        std::uint32_t stamp = 0; // 0: none; else used, the queue, how many had left
    };
    using line = std::array<ghost, ways>;

    static std::uint32_t clamp(std::size_t n) noexcept {
        return static_cast<std::uint32_t>(std::min<std::size_t>(n, stamp_mask / 2));
    }
    static std::size_t queue_of(ghost const& g) noexcept { return (g.stamp >> 30) & 1; }
    std::uint32_t age(ghost const& g) const noexcept {
        return (left_[queue_of(g)] - g.stamp) & stamp_mask;
    }
    // In parts of its limit, so that the queues can be compared.
    double staleness(ghost const& g) const noexcept {
        if (!g.stamp) return 2;
        return static_cast<double>(age(g)) / std::max<double>(limit_[queue_of(g)], 1);
    }
    line& line_of(std::uint32_t hash) noexcept {
        return lines_[static_cast<std::size_t>((std::uint64_t{hash} * lines_.size()) >> 32)];
    }

    void place(ghost g) noexcept {
        line& l = line_of(g.hash);
        auto const stalest =
            std::max_element(l.begin(), l.end(), [&](ghost const& a, ghost const& b) {
                return staleness(a) < staleness(b);
            });
        *stalest = g;
    }

    std::array<std::uint32_t, 2> left_{};
    std::array<std::uint32_t, 2> limit_{};
    std::array<double, 2> alive_{};
    std::vector<line> lines_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
