// SPDX-License-Identifier: BSL-1.0
// What a cache remembers of entries that it gave up.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// The hashes of the entries that left each of two queues last, in four bytes each.
///
/// A set-associative table: a hash has sixteen places, one cache line, to be in, so that finding
/// and remembering cost one miss. Each ghost is stamped with how many had left its queue before it,
/// in units of a 4096th of what the queue remembers; one that is older than that counts as none. A
/// full line loses its stalest early. Two keys are taken for each other once in 2^16 times sixteen
/// look-ups, which costs a little accuracy and nothing else.
class ghost_memory {
public:
    enum class queue : std::uint32_t { small = 0, main = 1 };

    /// For `small` and `main` ghosts; without arguments, for none.
    ghost_memory() = default;
    ghost_memory(std::size_t small, std::size_t main)
        : queues_{remembers(small), remembers(main)}, lines_((small + main) * 4 / 3 / ways + 1) {}

    std::size_t limit(queue q) const noexcept { return of(q).limit; }
    std::size_t bytes() const noexcept { return lines_.size() * sizeof(line); }

    /// About how many there are.
    double size(queue q) const noexcept { return of(q).alive; }

    void remember(std::uint32_t hash, queue from) noexcept {
        if (lines_.empty()) return;
        leavings& q = queues_[static_cast<std::size_t>(from)];
        q.advance();
        // One comes; the oldest, if it has not been taken, goes.
        q.alive += 1 - q.alive / static_cast<double>(q.limit);
        place_in(line_of(hash)) =
            static_cast<std::uint32_t>(from) << 31 | q.stamp << 16 | (hash & fingerprint);
    }

    struct found {
        bool any = false;
        queue from = queue::small;
    };
    /// Takes the ghost with that hash out; whether there was one, and of which queue.
    found take(std::uint32_t hash) noexcept {
        if (lines_.empty()) return {};
        for (std::uint32_t& g : line_of(hash)) {
            if (((g ^ hash) & fingerprint) != 0 || is_dead(g)) continue;
            auto const from = static_cast<queue>(g >> 31);
            g = none;
            leavings& q = queues_[static_cast<std::size_t>(from)];
            q.alive = std::max(0.0, q.alive - 1);
            return {true, from};
        }
        return {};
    }

private:
    // A ghost: the queue in the highest bit, then a stamp of 15 bits, then 16 bits of the hash. A
    // stamp is never 0.
    static constexpr std::uint32_t ways = 16;
    static constexpr std::uint32_t fingerprint = 0xffff;
    static constexpr std::uint32_t none = 0;
    static constexpr std::uint32_t stamps = (std::uint32_t{1} << 15) - 1;
    using line = std::array<std::uint32_t, ways>;

    struct leavings {
        std::size_t limit = 0;
        std::uint32_t unit = 1;  // leavings a stamp
        std::uint32_t left = 0;  // of the unit
        std::uint32_t stamp = 1; // now
        std::uint32_t most = 0;  // stamps until one is too old
        std::uint32_t scale = 0; // makes ages comparable with those of the other queue
        double alive = 0;

        void advance() noexcept {
            if (++left < unit) return;
            left = 0;
            stamp = stamp == stamps ? 1 : stamp + 1;
        }
    };

    static leavings remembers(std::size_t n) noexcept {
        leavings q;
        q.limit = std::max<std::size_t>(n, 1);
        q.unit = static_cast<std::uint32_t>(q.limit / 4096 + 1);
        q.most = static_cast<std::uint32_t>(q.limit / q.unit);
        q.scale = 65536 / (q.most + 1);
        return q;
    }
    leavings const& of(queue q) const noexcept { return queues_[static_cast<std::size_t>(q)]; }

    std::uint32_t age(std::uint32_t g) const noexcept {
        std::uint32_t const now = queues_[g >> 31].stamp, then = (g >> 16) & stamps;
        return now >= then ? now - then : now + stamps - then;
    }
    bool is_dead(std::uint32_t g) const noexcept {
        return g == none || age(g) > queues_[g >> 31].most;
    }
    line& line_of(std::uint32_t hash) noexcept {
        return lines_[static_cast<std::size_t>((std::uint64_t{hash} * lines_.size()) >> 32)];
    }

    // The first dead one, or else the last of the stalest. Without branches, so that compilers look
    // at several at once: every ghost gets a number whose lowest four bits are its place.
    std::uint32_t& place_in(line& l) noexcept {
        auto const of_queue = [this](std::uint32_t leavings::* what, std::uint32_t is_main) {
            std::uint32_t const small = queues_[0].*what, main = queues_[1].*what;
            return small ^ ((small ^ main) & is_main);
        };
        std::uint32_t best = 0;
        for (std::uint32_t i = 0; i < ways; ++i) {
            std::uint32_t const g = l[i], is_main = std::uint32_t{0} - (g >> 31);
            std::uint32_t age = of_queue(&leavings::stamp, is_main) - ((g >> 16) & stamps);
            age += (std::uint32_t{0} - (age >> 31)) & stamps;
            bool const dead = (g == none) | (age > of_queue(&leavings::most, is_main));
            std::uint32_t const stale = (age * of_queue(&leavings::scale, is_main)) << 4 | i;
            std::uint32_t const gone = (ways * 65536 + ways - i) << 4 | i;
            best = std::max(best, dead ? gone : stale);
        }
        return l[best % ways];
    }

    std::array<leavings, 2> queues_{};
    std::vector<line> lines_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
