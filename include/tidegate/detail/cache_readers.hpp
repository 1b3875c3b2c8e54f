// SPDX-License-Identifier: BSL-1.0
// Those who look into a cache beside its locks: what they count, and when they are gone.
#pragma once

#include <tidegate/detail/heavy_barrier.hpp>
#include <tidegate/detail/per_thread.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// What one thread did in one part of a cache. The thread writes, anybody reads. Where it writes
/// does not depend on what it found: else all loads that follow would have to wait for that.
struct part_reads {
    std::atomic<std::uint64_t> hits{0};
    std::atomic<std::uint64_t> marked{0}; // of those, on entries with mark 1; others have mark 0
    std::atomic<std::uint64_t> misses{0};
    std::uint32_t told = 0; // of the hits, to the policy, modulo 2^32
    std::uint32_t told_marked = 0;

    struct news {
        std::uint64_t hits[2]; // by mark
    };
    /// What the policy has not been told of; it is from now on.
    news take_untold() noexcept {
        auto const all = static_cast<std::uint32_t>(hits.load(std::memory_order_relaxed));
        auto const ones = static_cast<std::uint32_t>(marked.load(std::memory_order_relaxed));
        std::uint32_t const new_all = all - std::exchange(told, all);
        std::uint32_t const new_ones = ones - std::exchange(told_marked, ones);
        return {{new_all - new_ones, new_ones}};
    }
};

/// What one thread has of a cache.
class alignas(64) cache_reader {
public:
    explicit cache_reader(std::size_t parts) : reads_(new part_reads[parts]) {}

    part_reads& in(std::size_t part) const noexcept { return reads_[part]; }
    bool is_inside() const noexcept { return inside_.load(std::memory_order_acquire); }

    /// As long as one of these is there nothing that can be found now is freed.
    class visit {
    public:
        // The store may reach other threads after the loads that follow it: `wait_for_readers`
        // makes up for that, so that readers pay for two stores only.
        explicit visit(cache_reader& who) noexcept : who_(who) {
            who_.inside_.store(true, std::memory_order_relaxed);
            std::atomic_signal_fence(std::memory_order_seq_cst);
        }
        visit(visit const&) = delete;
        visit& operator=(visit const&) = delete;
        ~visit() { who_.inside_.store(false, std::memory_order_release); }

    private:
        cache_reader& who_;
    };

private:
    std::atomic<bool> inside_{false};
    std::unique_ptr<part_reads[]> reads_;
};

/// Waits until all have left who may have seen what cannot be found any more. Either the barrier
/// comes before a reader's loads, which then do not find it; or after the store that says that he
/// is inside, which is seen here then. Visits are short and call nothing unknown. False if the
/// system does not help.
template <class Pieces>
bool wait_for_readers(Pieces const& pieces) noexcept {
    if (!heavy_barrier::pass()) return false;
    return pieces.with_all([](auto const& all) {
        for (auto const& one : all) {
            while (one->is_inside()) std::this_thread::yield();
        }
        return true;
    });
}

} // namespace detail
TIDEGATE_END_NAMESPACE
