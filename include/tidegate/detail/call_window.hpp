// SPDX-License-Identifier: BSL-1.0
// The last so many calls of a closed circuit breaker, recorded from any thread without a lock.
#pragma once

#include <tidegate/core/circuit_breaker.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A ring of results and their running totals. Everything is marked with the era it belongs to, and
/// a result of an earlier era than it meets is dropped: it was admitted before the breaker tripped.
///
///     next   = era << 40 | number of calls in this era
///     totals = era << 40 | (bias + failures) << 20 | (bias + slow)
///     slot   = era << 2 | failed << 1 | slow      (era 0: never used)
///     shard  = era << 40 | successes that are not in the ring yet
///     moving = era << 40 | successes on their way from the shards into the ring
///
/// A call takes a slot, replaces what is in it, and adds the difference to the totals if there is
/// one. A slot may be replaced before its own difference has been added, so the totals can be below
/// what they should be, even below zero, for a moment: hence the bias.
///
/// While nothing but successes is in the window, one more changes nothing that could trip a
/// breaker. It is only counted, in one of a few shards, so that threads do not pass a cache line
/// around for every call; whatever else happens next puts those counts into the ring first. A
/// success on its way is counted once more rather than not at all: with the calls missing, the few
/// failures of other threads would look like many. Those wait until it is done, or the older
/// successes would push them out of the ring.
///
/// Who reads the totals and then the calls sees at least the calls that the totals are made of:
/// hence acquire and release on the totals and the shards. Otherwise relaxed order suffices: each
/// word is a count of its own, and who trips takes the lock.
class call_window {
public:
    static constexpr std::size_t max_length = std::size_t{1} << 18;

    /// 1 to `max_length` calls.
    explicit call_window(std::size_t length)
        : length_(length), slots_(new std::atomic<std::uint32_t>[length]()) {}

    std::size_t length() const noexcept { return length_; }

    /// Starts anew. Eras grow, by any number; call with the breaker's lock held.
    void begin(std::uint64_t breaker_era) noexcept {
        std::uint64_t const era = short_form(breaker_era);
        if (era <= next_.load(std::memory_order_relaxed) >> 40) {    // counted from one again
            for (std::size_t i = 0; i < length_; ++i) slots_[i] = 0; // of 16 million eras ago
            for (shard& one : shards_) one.count = 0;
        }
        next_.store(era << 40, std::memory_order_relaxed);
        moving_.store(era << 40, std::memory_order_relaxed);
        totals_.store(era << 40 | bias * failure_unit | bias, std::memory_order_relaxed);
    }

    /// True if a failed or slow call is in the window, that is if it may have to trip.
    bool record(std::uint64_t breaker_era, bool failed, bool slow) noexcept {
        std::uint64_t const era = short_form(breaker_era);
        if (!failed && !slow && is_clean(era)) {
            count_success(era);
            return false;
        }
        put_counted_successes(era);
        put(era, failed, slow);
        return totals_.load(std::memory_order_relaxed) >> 40 == era && !is_clean(era);
    }

    core::call_counts counts() const noexcept {
        // In the order in which a success moves, so that none is missed.
        std::uint64_t const totals = totals_.load(std::memory_order_acquire);
        std::uint64_t const era = totals >> 40;
        std::uint64_t calls = counted(era);
        calls += count_in(next_, era);
        auto const unbiased = [](std::uint64_t sum) { return sum > bias ? sum - bias : 0; };
        return {std::min<std::uint64_t>(calls, length_),
                unbiased(totals / failure_unit % failure_unit), unbiased(totals % failure_unit)};
    }

private:
    static constexpr std::uint64_t count_mask = (std::uint64_t{1} << 40) - 1;
    static constexpr std::uint64_t failure_unit = std::uint64_t{1} << 20;
    static constexpr std::uint64_t bias = std::uint64_t{1} << 18;

    static std::uint64_t short_form(std::uint64_t era) noexcept {
        return era % ((std::uint64_t{1} << 24) - 1) + 1;
    }

    struct alignas(64) shard {
        std::atomic<std::uint64_t> count{0};
    };

    bool is_clean(std::uint64_t era) const noexcept {
        return totals_.load(std::memory_order_relaxed) == (era << 40 | bias * failure_unit | bias);
    }

    static std::size_t shard_of_this_thread() noexcept {
        static std::atomic<std::size_t> threads{0};
        static thread_local std::size_t const mine = threads.fetch_add(1);
        return mine % shard_count;
    }

    static std::uint64_t count_in(std::atomic<std::uint64_t> const& word,
                                  std::uint64_t era) noexcept {
        std::uint64_t const count = word.load(std::memory_order_acquire);
        return count >> 40 == era ? count & count_mask : 0;
    }

    // Successes that are not in the ring yet.
    std::uint64_t counted(std::uint64_t era) const noexcept {
        std::uint64_t calls = 0;
        for (shard const& one : shards_) calls += count_in(one.count, era);
        return calls + count_in(moving_, era);
    }

    void count_success(std::uint64_t era) noexcept {
        auto& count = shards_[shard_of_this_thread()].count;
        std::uint64_t seen = count.load(std::memory_order_relaxed);
        std::uint64_t more = 0;
        do {
            if (seen >> 40 > era) return;
            more = seen >> 40 == era ? seen + 1 : (era << 40) + 1;
        } while (!count.compare_exchange_weak(seen, more, std::memory_order_relaxed));
    }

    void put_counted_successes(std::uint64_t era) noexcept {
        if (counted(era) == 0) return;
        std::lock_guard lock(moving_mutex_);
        std::uint64_t successes = 0;
        for (shard& one : shards_) successes += take_from(one, era);
        // A ring that is full of successes looks the same after more of them.
        bool const full = (next_.load(std::memory_order_relaxed) & count_mask) >= length_;
        if (!full || !is_clean(era)) {
            for (std::uint64_t i = 0; i < std::min<std::uint64_t>(successes, length_); ++i) {
                put(era, false, false);
            }
        }
        change(moving_, era, std::uint64_t{0} - successes);
    }

    // The successes it took are in `moving_`.
    std::uint64_t take_from(shard& from, std::uint64_t era) noexcept {
        std::uint64_t seen = from.count.load(std::memory_order_relaxed);
        while (seen >> 40 == era && (seen & count_mask) != 0) {
            std::uint64_t const count = seen & count_mask;
            change(moving_, era, count);
            if (from.count.compare_exchange_strong(seen, era << 40, std::memory_order_release,
                                                   std::memory_order_relaxed)) {
                return count;
            }
            change(moving_, era, std::uint64_t{0} - count);
        }
        return 0;
    }

    void put(std::uint64_t era, bool failed, bool slow) noexcept {
        std::uint64_t next = next_.load(std::memory_order_relaxed);
        do {
            if (next >> 40 != era) return;
        } while (!next_.compare_exchange_weak(next, next + 1, std::memory_order_release,
                                              std::memory_order_relaxed));
        // More than 2^40 calls in an era would need years at a call a nanosecond.
        auto& slot = slots_[(next & count_mask) % length_];
        auto const mine =
            static_cast<std::uint32_t>(era << 2 | (failed ? 2u : 0u) | (slow ? 1u : 0u));
        std::uint32_t old = slot.load(std::memory_order_relaxed);
        do {
            if (old == mine) return;
            if (old >> 2 > era) return;
        } while (!slot.compare_exchange_weak(old, mine, std::memory_order_relaxed));
        if (old >> 2 != era) old = 0;
        if ((old & 3) != (mine & 3)) change(totals_, era, difference(old, mine));
    }

    // Modulo 2^64; the sum of all differences is never negative.
    static std::uint64_t difference(std::uint32_t old, std::uint32_t mine) noexcept {
        auto const bit = [](std::uint32_t slot, int n) { return std::uint64_t{slot >> n & 1}; };
        return (bit(mine, 1) - bit(old, 1)) * failure_unit + bit(mine, 0) - bit(old, 0);
    }

    // Unless another era has begun.
    static void change(std::atomic<std::uint64_t>& word, std::uint64_t era,
                       std::uint64_t by) noexcept {
        std::uint64_t seen = word.load(std::memory_order_relaxed);
        do {
            if (seen >> 40 != era) return;
        } while (!word.compare_exchange_weak(seen, seen + by, std::memory_order_release,
                                             std::memory_order_relaxed));
    }

    static constexpr std::size_t shard_count = 16;

    std::size_t const length_;
    std::unique_ptr<std::atomic<std::uint32_t>[]> slots_;
    alignas(64) std::atomic<std::uint64_t> totals_{0}; // read by all, seldom written
    alignas(64) std::atomic<std::uint64_t> next_{0};
    std::atomic<std::uint64_t> moving_{0};
    std::mutex moving_mutex_; // held by who moves successes into the ring
    std::array<shard, shard_count> shards_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
