// SPDX-License-Identifier: BSL-1.0
// Counts durations so that percentiles can be read with a bounded relative error.
#pragma once

#include <tidegate/config.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// A log-linear histogram of unsigned 64-bit values (nanoseconds, mostly): every power of two is
/// cut into 64 equal buckets, as in HdrHistogram. A percentile is off by at most 1/128 (0.8 %) of
/// its value; values below 128 are exact. Count, sum, minimum and maximum are exact.
///
/// `record` is O(1) and allocates only when a value needs a larger table than any before (4 KiB for
/// values up to 17 ms in ns, 29 KiB at most). Not thread-safe.
class histogram {
public:
    void record(std::uint64_t value) {
        std::size_t const i = index(value);
        if (i >= counts_.size()) counts_.resize((i / table_step + 1) * table_step);
        ++counts_[i];
        ++count_;
        sum_ += static_cast<double>(value);
        min_ = std::min(min_, value);
        max_ = std::max(max_, value);
    }

    void merge(histogram const& other) {
        if (other.counts_.size() > counts_.size()) counts_.resize(other.counts_.size());
        for (std::size_t i = 0; i < other.counts_.size(); ++i) counts_[i] += other.counts_[i];
        count_ += other.count_;
        sum_ += other.sum_;
        min_ = std::min(min_, other.min_);
        max_ = std::max(max_, other.max_);
    }

    std::uint64_t count() const noexcept { return count_; }
    double sum() const noexcept { return sum_; }
    double mean() const noexcept { return count_ ? sum_ / static_cast<double>(count_) : 0; }
    /// 0 when empty, like all that follow.
    std::uint64_t min() const noexcept { return count_ ? min_ : 0; }
    std::uint64_t max() const noexcept { return max_; }

    /// The smallest value that at least `fraction` (0 to 1) of all values do not exceed, within the
    /// histogram's error, and never outside [min, max]. O(buckets).
    std::uint64_t percentile(double fraction) const noexcept {
        if (count_ == 0) return 0;
        auto const wanted = static_cast<std::uint64_t>(
            std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(count_)));
        std::uint64_t const rank = std::max<std::uint64_t>(1, wanted);
        if (rank == 1) return min_;
        if (rank == count_) return max_;
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen >= rank) return std::clamp(middle(i), min_, max_);
        }
        return max_;
    }

private:
    static constexpr unsigned sub_bits = 6;
    static constexpr std::uint64_t sub_count = std::uint64_t{1} << sub_bits;
    static constexpr std::size_t table_step = 4 * sub_count;

    // Values below 2 * sub_count have a bucket each; above, the top sub_bits + 1 bits choose.
    static std::size_t index(std::uint64_t value) noexcept {
        unsigned const width = static_cast<unsigned>(std::bit_width(value));
        if (width <= sub_bits + 1) return static_cast<std::size_t>(value);
        unsigned const shift = width - (sub_bits + 1);
        return static_cast<std::size_t>(shift * sub_count + (value >> shift));
    }

    static std::uint64_t middle(std::size_t i) noexcept {
        if (i < 2 * sub_count) return i;
        std::uint64_t const shift = i / sub_count - 1;
        std::uint64_t const low = (i - shift * sub_count) << shift;
        return low + ((std::uint64_t{1} << shift) >> 1);
    }

    std::vector<std::uint64_t> counts_;
    std::uint64_t count_ = 0;
    double sum_ = 0;
    std::uint64_t min_ = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t max_ = 0;
};

} // namespace core
TIDEGATE_END_NAMESPACE
