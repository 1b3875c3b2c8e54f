// SPDX-License-Identifier: BSL-1.0
// Counts durations so that percentiles can be read with a bounded relative error.
#pragma once

#include <tidegate/core/duration_grid.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// A histogram of durations in whole nanoseconds, on the grid of `duration_grid`. A percentile is
/// off by at most 0.28 % from 1 ns to 9.77 hours; longer ones count as overflow, and only their sum
/// and maximum are known. Count, sum, minimum and maximum are exact. Merging and subtracting lose
/// nothing.
///
/// `record` is O(1) and allocates only when a value is outside all powers of two so far (1 KiB for
/// each in between, 45 KiB at most). Not thread-safe; see `latency_recorder`.
class histogram {
public:
    void record(std::uint64_t ns, std::uint64_t times = 1) {
        if (times == 0) return;
        if (ns == 0) zeros_ += times;
        else if (ns > duration_grid::longest) overflows_ += times;
        else slot(duration_grid::slot_of(ns)) += times;
        count_ += times;
        add_product(ns, times);
        min_ = std::min(min_, ns);
        max_ = std::max(max_, ns);
    }

    /// As `record(took)`, and if that is more than `expected`, the time between two calls, then
    /// also the calls that could not be made meanwhile: took - expected, took - 2 expected and so
    /// on, 100,000 at most (coordinated omission, after G. Tene). 0 corrects nothing.
    void record_corrected(std::uint64_t took, std::uint64_t expected) {
        record(took);
        if (expected == 0) return;
        for (int i = 0; i < 100'000 && took / 2 >= expected; ++i) record(took -= expected);
    }

    void merge(histogram const& other) {
        if (!other.counts_.empty()) {
            reserve(other.first_, other.first_ + other.counts_.size());
            for (std::size_t i = 0; i < other.counts_.size(); ++i)
                counts_[other.first_ - first_ + i] += other.counts_[i];
        }
        zeros_ += other.zeros_;
        overflows_ += other.overflows_;
        count_ += other.count_;
        add(other.sum_low_, other.sum_high_);
        min_ = std::min(min_, other.min_);
        max_ = std::max(max_, other.max_);
    }

    /// Takes out what was in an earlier state of this one. The minimum and the maximum of what is
    /// left are known to within a bucket.
    void subtract(histogram const& earlier) {
        for (std::size_t i = 0; i < earlier.counts_.size(); ++i)
            counts_[earlier.first_ - first_ + i] -= earlier.counts_[i];
        zeros_ -= earlier.zeros_;
        overflows_ -= earlier.overflows_;
        count_ -= earlier.count_;
        sum_high_ -= earlier.sum_high_ + (sum_low_ < earlier.sum_low_ ? 1 : 0);
        sum_low_ -= earlier.sum_low_;
        narrow_extremes();
    }

    std::uint64_t count() const noexcept { return count_; }
    /// Durations of 0, and those longer than `duration_grid::longest`.
    std::uint64_t zeros() const noexcept { return zeros_; }
    std::uint64_t overflows() const noexcept { return overflows_; }
    /// In nanoseconds, kept in 128 bits and rounded once.
    double sum() const noexcept {
        return std::ldexp(static_cast<double>(sum_high_), 64) + static_cast<double>(sum_low_);
    }
    /// The two halves of the sum.
    std::pair<std::uint64_t, std::uint64_t> exact_sum() const noexcept {
        return {sum_low_, sum_high_};
    }
    double mean() const noexcept { return count_ ? sum() / static_cast<double>(count_) : 0; }
    /// 0 when empty, like all that follow.
    std::uint64_t min() const noexcept { return count_ ? min_ : 0; }
    std::uint64_t max() const noexcept { return max_; }

    /// The smallest duration that at least `fraction` (0 to 1) of all do not exceed, in
    /// nanoseconds, within the histogram's error, and never outside [min, max]. Never falls as
    /// `fraction` grows. O(buckets).
    double percentile(double fraction) const noexcept {
        if (count_ == 0) return 0;
        auto const wanted = static_cast<std::uint64_t>(
            std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(count_)));
        std::uint64_t const rank = std::clamp<std::uint64_t>(wanted, 1, count_);
        if (rank == 1) return static_cast<double>(min_);
        if (rank == count_) return static_cast<double>(max_);
        std::uint64_t seen = zeros_;
        if (seen >= rank) return 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen >= rank) {
                return std::clamp(middle(first_ + i), static_cast<double>(min_),
                                  static_cast<double>(max_));
            }
        }
        return static_cast<double>(max_);
    }

    /// Calls `visit(slot, count)` for each slot that is not empty, in order.
    template <class Visit>
    void for_each(Visit&& visit) const {
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            if (counts_[i]) visit(first_ + i, counts_[i]);
        }
    }

    /// Adds what others counted: the parts of a histogram that was recorded elsewhere. `count(i)`
    /// is that of the octave's i-th slot.
    template <class Count>
    void add_octave(std::size_t which, Count&& count) {
        std::size_t const begin = which * duration_grid::octave;
        std::size_t const end = std::min(begin + duration_grid::octave, duration_grid::slots);
        reserve(begin, end);
        std::uint64_t* const to = counts_.data() + (begin - first_);
        for (std::size_t i = 0; i < end - begin; ++i) {
            std::uint64_t const n = count(i);
            to[i] += n;
            count_ += n;
        }
    }
    void add_slot(std::size_t which, std::uint64_t times) {
        slot(which) += times;
        count_ += times;
    }
    void add_zeros(std::uint64_t times) noexcept {
        zeros_ += times;
        count_ += times;
    }
    void add_overflows(std::uint64_t times) noexcept {
        overflows_ += times;
        count_ += times;
    }
    void add_sum(std::uint64_t low, std::uint64_t high) noexcept { add(low, high); }
    void add_extremes(std::uint64_t min, std::uint64_t max) noexcept {
        min_ = std::min(min_, min);
        max_ = std::max(max_, max);
    }

    /// With errors equal on both sides.
    static double middle(std::size_t slot) noexcept {
        auto const low = static_cast<double>(slot == 0 ? 1 : duration_grid::last_of(slot - 1) + 1);
        auto const high = static_cast<double>(duration_grid::last_of(slot));
        return 2 * low * high / (low + high);
    }

private:
    std::uint64_t& slot(std::size_t which) {
        if (which - first_ >= counts_.size()) reserve(which, which + 1);
        return counts_[which - first_];
    }

    void reserve(std::size_t begin, std::size_t end) {
        std::size_t const step = duration_grid::octave;
        begin = begin / step * step;
        end = std::min((end + step - 1) / step * step, duration_grid::slots);
        if (counts_.empty()) first_ = begin;
        begin = std::min(begin, first_);
        end = std::max(end, first_ + counts_.size());
        counts_.reserve(end - begin); // resize() alone may take twice as much
        counts_.insert(counts_.begin(), first_ - begin, 0);
        counts_.resize(end - begin);
        first_ = begin;
    }

    void add(std::uint64_t low, std::uint64_t high) noexcept {
        sum_low_ += low;
        sum_high_ += high + (sum_low_ < low ? 1 : 0);
    }
    void add_product(std::uint64_t a, std::uint64_t b) noexcept {
        if (b == 1) return add(a, 0);
        std::uint64_t const half = 0xFFFF'FFFF;
        std::uint64_t const cross = (a >> 32) * (b & half) + ((a & half) * (b & half) >> 32);
        std::uint64_t const other = (a & half) * (b >> 32) + (cross & half);
        add(a * b, (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32));
    }

    void narrow_extremes() noexcept {
        if (count_ == 0) {
            min_ = std::numeric_limits<std::uint64_t>::max();
            max_ = 0;
            return;
        }
        auto const used = [](std::uint64_t n) { return n > 0; };
        auto const low = std::find_if(counts_.begin(), counts_.end(), used);
        auto const high = std::find_if(counts_.rbegin(), counts_.rend(), used);
        if (zeros_ == 0 && low != counts_.end()) {
            auto const s = first_ + static_cast<std::size_t>(low - counts_.begin());
            min_ = std::max(min_, s == 0 ? 1 : duration_grid::last_of(s - 1) + 1);
        } else if (zeros_ == 0 && max_ > duration_grid::longest) { // else short ones overflowed
            min_ = std::max(min_, duration_grid::longest + 1);
        }
        if (overflows_ > 0) return;
        max_ =
            high == counts_.rend()
                ? 0
                : std::min(max_, duration_grid::last_of(
                                     first_ + static_cast<std::size_t>(counts_.rend() - high) - 1));
    }

    std::vector<std::uint64_t> counts_; // from slot `first_`
    std::size_t first_ = 0;
    std::uint64_t zeros_ = 0;
    std::uint64_t overflows_ = 0;
    std::uint64_t count_ = 0;
    std::uint64_t sum_low_ = 0;
    std::uint64_t sum_high_ = 0;
    std::uint64_t min_ = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t max_ = 0;
};

/// The same in little room: the buckets that are not empty.
class packed_histogram {
public:
    explicit packed_histogram(histogram const& from)
        : zeros_(from.zeros()),
          overflows_(from.overflows()),
          sum_(from.exact_sum()),
          min_(from.count() ? from.min() : std::numeric_limits<std::uint64_t>::max()),
          max_(from.max()) {
        std::size_t used = 0;
        from.for_each([&](std::size_t, std::uint64_t) { ++used; });
        counts_.reserve(used);
        from.for_each([&](std::size_t slot, std::uint64_t n) {
            counts_.emplace_back(static_cast<std::uint16_t>(slot), n);
        });
    }

    void add_to(histogram& sum) const {
        for (auto const& [slot, n] : counts_) sum.add_slot(slot, n);
        sum.add_zeros(zeros_);
        sum.add_overflows(overflows_);
        sum.add_sum(sum_.first, sum_.second);
        sum.add_extremes(min_, max_);
    }

private:
    std::vector<std::pair<std::uint16_t, std::uint64_t>> counts_;
    std::uint64_t zeros_;
    std::uint64_t overflows_;
    std::pair<std::uint64_t, std::uint64_t> sum_;
    std::uint64_t min_;
    std::uint64_t max_;
};

} // namespace core
TIDEGATE_END_NAMESPACE
