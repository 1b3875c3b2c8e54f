// SPDX-License-Identifier: BSL-1.0
// What metrics stand at, at a moment.
#pragma once

#include <tidegate/core/histogram.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

enum class metric_type : unsigned char { counter, gauge, histogram };

inline std::string_view to_string(metric_type type) noexcept {
    constexpr std::string_view names[] = {"counter", "gauge", "histogram"};
    return names[static_cast<std::size_t>(type)];
}

/// Names and values of labels, in the order in which they are written.
using metric_labels = std::vector<std::pair<std::string, std::string>>;

struct metric_sample {
    metric_labels labels;
    double value = 0;                         ///< of a counter or gauge
    std::optional<core::histogram> durations; ///< of a histogram
};

/// All samples of one name.
struct metric_family {
    std::string name; ///< without `_total`
    std::string help;
    metric_type type = metric_type::gauge;
    std::vector<metric_sample> samples;
};

TIDEGATE_END_NAMESPACE
