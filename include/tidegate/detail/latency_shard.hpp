// SPDX-License-Identifier: BSL-1.0
// What one thread recorded: written by it alone, read by anybody.
#pragma once

#include <tidegate/core/histogram.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Counters that only grow. Everything is relaxed: a reader sees each counter as it was at some
/// moment of the reading, and takes the number of durations from the buckets, so that it always
/// fits them. The sum may be ahead or behind by what is being recorded.
class alignas(64) latency_shard {
    using word = std::atomic<std::uint64_t>;
    using octave = std::array<word, core::duration_grid::octave>;

public:
    latency_shard() = default;
    latency_shard(latency_shard const&) = delete;
    latency_shard& operator=(latency_shard const&) = delete;
    ~latency_shard() {
        for (auto& o : octaves_) delete o.load(std::memory_order_relaxed);
    }

    void record(std::uint64_t ns) noexcept {
        if (ns - 1 >= core::duration_grid::longest) [[unlikely]] return record_apart(ns);
        std::size_t const slot = core::duration_grid::slot_of(ns);
        octave* const counts =
            octaves_[slot / core::duration_grid::octave].load(std::memory_order_relaxed);
        if (!counts) [[unlikely]] return record_first(ns, slot);
        add((*counts)[slot % core::duration_grid::octave], 1);
        note(ns);
    }

    void record_invalid() noexcept { add(invalid_, 1); }
    std::uint64_t invalid() const noexcept { return invalid_.load(std::memory_order_relaxed); }

    /// Adds what was recorded here.
    void add_to(core::histogram& sum) const {
        constexpr auto relaxed = std::memory_order_relaxed;
        for (std::size_t i = 0; i < octaves_.size(); ++i) {
            octave const* const counts = octaves_[i].load(std::memory_order_acquire);
            if (!counts) continue;
            sum.add_octave(i, [&](std::size_t at) { return (*counts)[at].load(relaxed); });
        }
        sum.add_zeros(zeros_.load(relaxed));
        sum.add_overflows(overflows_.load(relaxed));
        sum.add_sum(sum_low_.load(relaxed), sum_high_.load(relaxed));
        sum.add_extremes(min_.load(relaxed), max_.load(relaxed));
    }

    /// Allocates for durations from `from` to `to`, so that recording them does not.
    void prefault(std::uint64_t from, std::uint64_t to) {
        auto const octave_of = [](std::uint64_t ns) {
            return core::duration_grid::slot_of(ns) / core::duration_grid::octave;
        };
        for (std::size_t i = octave_of(from); i <= octave_of(to); ++i) {
            if (!octaves_[i].load(std::memory_order_relaxed))
                octaves_[i].store(new octave{}, std::memory_order_release);
        }
    }

private:
    static void add(word& to, std::uint64_t n) noexcept {
        to.store(to.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }

    void note(std::uint64_t ns) noexcept {
        constexpr auto relaxed = std::memory_order_relaxed;
        std::uint64_t const sum = sum_low_.load(relaxed) + ns;
        sum_low_.store(sum, relaxed);
        if (sum < ns) [[unlikely]] add(sum_high_, 1); // once in 584 years of latency
        if (ns < min_.load(relaxed)) [[unlikely]] min_.store(ns, relaxed);
        if (ns > max_.load(relaxed)) [[unlikely]] max_.store(ns, relaxed);
    }

    void record_apart(std::uint64_t ns) noexcept {
        add(ns == 0 ? zeros_ : overflows_, 1);
        note(ns);
    }

    [[gnu::noinline]] void record_first(std::uint64_t ns, std::size_t slot) noexcept {
        auto* const counts = new (std::nothrow) octave{};
        if (counts) {
            add((*counts)[slot % core::duration_grid::octave], 1);
            octaves_[slot / core::duration_grid::octave].store(counts, std::memory_order_release);
        } else {
            add(overflows_, 1); // not lost
        }
        note(ns);
    }

    word sum_low_{0};
    word sum_high_{0};
    word min_{std::numeric_limits<std::uint64_t>::max()};
    word max_{0};
    std::array<std::atomic<octave*>, core::duration_grid::octaves + 1> octaves_{};
    word zeros_{0};
    word overflows_{0};
    word invalid_{0};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
