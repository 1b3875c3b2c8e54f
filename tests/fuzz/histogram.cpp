// SPDX-License-Identifier: BSL-1.0
// Two histograms, merged and subtracted, against the sorted durations themselves.
#include "fuzz/input.hpp"

#include <tidegate/core/histogram.hpp>

#include <vector>

namespace {

using tidegate::core::histogram;
constexpr std::uint64_t longest = tidegate::core::duration_grid::longest;

void compare(histogram const& h, std::vector<std::uint64_t> values) {
    std::sort(values.begin(), values.end());
    std::size_t const n = values.size();
    fuzz::require(h.count() == n, "the count is exact");
    fuzz::require(h.min() == (n ? values.front() : 0), "the minimum is exact");
    fuzz::require(h.max() == (n ? values.back() : 0), "the maximum is exact");
    double before = 0;
    for (double const fraction : {0.0, 0.01, 0.5, 0.9, 0.99, 1.0}) {
        double const got = h.percentile(fraction);
        fuzz::require(got >= before, "percentiles never fall");
        before = got;
        if (n == 0) continue;
        auto const rank = std::max<std::size_t>(
            1, static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(n))));
        auto const exact = values[rank - 1];
        if (exact > longest) continue; // only the sum and the maximum are known
        double const error = std::abs(got - static_cast<double>(exact));
        fuzz::require(error <= 0.0028 * static_cast<double>(exact), "a percentile within 0.28 %");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    histogram both, first, second;
    std::vector<std::uint64_t> all, of_first;
    for (int step = 0; step < 200 && !in.empty(); ++step) {
        std::uint64_t const value = in.any();
        std::uint64_t const times = in.below(4);
        bool const to_first = in.byte() % 2;
        (to_first ? first : second).record(value, times);
        for (std::uint64_t i = 0; i < times; ++i) {
            all.push_back(value);
            if (to_first) of_first.push_back(value);
        }
    }
    compare(first, of_first);
    both.merge(first);
    both.merge(second);
    compare(both, all);
    auto const sum = both.exact_sum();
    both.subtract(second);
    fuzz::require(both.count() == first.count(), "subtracting gives the count back");
    fuzz::require(both.exact_sum() == first.exact_sum(), "and the sum");
    both.merge(second);
    fuzz::require(both.exact_sum() == sum, "merging again gives the sum again");
    return 0;
}
