// SPDX-License-Identifier: BSL-1.0
// Metrics as text that monitoring systems read.
#pragma once

#include <tidegate/metric_family.hpp>

#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// The content types of the two formats.
inline constexpr std::string_view prometheus_text_type = "text/plain; version=0.0.4; charset=utf-8";
inline constexpr std::string_view open_metrics_type =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prometheus' text format 0.0.4. Durations are in seconds; a histogram has a bucket for each power
/// of two of a second from 2^-20 (about 1 us) to 2^8, whose counts are exact, since these are
/// bounds of the grid they were counted in. Bytes that are not UTF-8 are written as U+FFFD. O(size
/// of the text).
TIDEGATE_DECL std::string to_prometheus_text(std::vector<metric_family> const& families);

/// OpenMetrics 1.0, with the same buckets. (Native histograms need protobuf, or OpenMetrics 2.0,
/// and are not written.)
TIDEGATE_DECL std::string to_open_metrics(std::vector<metric_family> const& families);

TIDEGATE_END_NAMESPACE

#if defined(TIDEGATE_HEADER_ONLY)
#include <tidegate/impl/exposition.ipp>
#endif
