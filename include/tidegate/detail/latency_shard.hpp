// SPDX-License-Identifier: BSL-1.0
// What one thread recorded: written by it alone, read by anybody.
#pragma once

#include <tidegate/core/histogram.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Counters that only grow. A reader sees each counter as it was at some moment of the reading, and
/// takes the number of durations from the buckets, so that it always fits them. What is counted is
/// in the sum and the extremes already, for readers who look at those last; the sum may be ahead by
/// what is being recorded.
class alignas(64) latency_shard {
    using word = std::atomic<std::uint64_t>;
    // With the first slot of the next, which a value of this one may be in.
    using octave = std::array<word, core::duration_grid::octave + 1>;

public:
    latency_shard() = default;
    latency_shard(latency_shard const&) = delete;
    latency_shard& operator=(latency_shard const&) = delete;
    ~latency_shard() {
        for (auto& o : octaves_) delete o.load(std::memory_order_relaxed);
    }

    /// Negative durations are counted as invalid.
    void record(std::int64_t duration) noexcept {
        auto const ns = static_cast<std::uint64_t>(duration);
        if (ns - 1 >= core::duration_grid::longest) [[unlikely]]
            return record_apart(duration);
        auto const at = core::duration_grid::position_of(ns);
        octave* const counts = octaves_[at.power].load(std::memory_order_relaxed);
        if (!counts) [[unlikely]]
            return record_first(ns, at);
        note(ns);
        count((*counts)[at.within]);
    }

    void record_invalid() noexcept { add(invalid_, 1); }
    std::uint64_t invalid() const noexcept { return invalid_.load(std::memory_order_relaxed); }

    /// Adds what was recorded here.
    void add_to(core::histogram& sum) const {
        constexpr auto relaxed = std::memory_order_relaxed, acquire = std::memory_order_acquire;
        for (std::size_t i = 0; i < octaves_.size(); ++i) {
            octave const* const counts = octaves_[i].load(acquire);
            if (!counts) continue;
            sum.add_octave(i, [&](std::size_t at) { return (*counts)[at].load(acquire); });
            if (auto const next = counts->back().load(acquire))
                sum.add_slot((i + 1) * core::duration_grid::octave, next);
        }
        sum.add_zeros(zeros_.load(acquire));
        sum.add_overflows(overflows_.load(acquire));
        sum.add_sum(sum_low_.load(relaxed), sum_high_.load(relaxed));
        sum.add_extremes(min_.load(relaxed), max_.load(relaxed));
    }

    /// Allocates for durations from `from` to `to`, so that recording them does not.
    void prefault(std::uint64_t from, std::uint64_t to) {
        using core::duration_grid::position_of;
        for (std::size_t i = position_of(from).power; i <= position_of(to).power; ++i) {
            if (!octaves_[i].load(std::memory_order_relaxed))
                octaves_[i].store(new octave{}, std::memory_order_release);
        }
    }

private:
    static void add(word& to, std::uint64_t n) noexcept {
        to.store(to.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }

    // After `note`, for whoever sees it.
    static void count(word& in) noexcept {
        in.store(in.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

    void note(std::uint64_t ns) noexcept {
        constexpr auto relaxed = std::memory_order_relaxed;
        std::uint64_t const sum = sum_low_.load(relaxed) + ns;
        sum_low_.store(sum, relaxed);
        if (sum < ns) [[unlikely]]
            add(sum_high_, 1); // once in 584 years of latency
        // One comparison for both ends.
        if (ns - min_.load(relaxed) > span_) [[unlikely]]
            widen(ns);
    }

    [[gnu::noinline]] void widen(std::uint64_t ns) noexcept {
        constexpr auto relaxed = std::memory_order_relaxed;
        min_.store(std::min(ns, min_.load(relaxed)), relaxed);
        max_.store(std::max(ns, max_.load(relaxed)), relaxed);
        span_ = max_.load(relaxed) - min_.load(relaxed);
    }

    [[gnu::noinline]] void record_apart(std::int64_t duration) noexcept {
        if (duration < 0) return record_invalid();
        note(static_cast<std::uint64_t>(duration));
        count(duration == 0 ? zeros_ : overflows_);
    }

    [[gnu::noinline]] void record_first(std::uint64_t ns,
                                        core::duration_grid::position at) noexcept {
        note(ns);
        auto* const counts = new (std::nothrow) octave{};
        if (counts) {
            add((*counts)[at.within], 1);
            octaves_[at.power].store(counts, std::memory_order_release);
        } else {
            count(overflows_); // not lost
        }
    }

    word sum_low_{0};
    word sum_high_{0};
    word min_{std::numeric_limits<std::uint64_t>::max()};
    word max_{0};
    std::uint64_t span_ = 0; // between the two; all are out of it at first, but for the largest
    std::array<std::atomic<octave*>, core::duration_grid::octaves> octaves_{};
    word zeros_{0};
    word overflows_{0};
    word invalid_{0};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
