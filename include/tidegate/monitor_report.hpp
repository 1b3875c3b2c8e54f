// SPDX-License-Identifier: BSL-1.0
// What a monitor tells.
#pragma once

#include <tidegate/config.hpp>
#include <tidegate/process_memory.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// How an operation ended.
enum class operation_outcome : unsigned char {
    ok,
    error,
    cancelled, ///< `operation_aborted`
    timed_out, ///< `error::deadline_exceeded`, or Asio's `timed_out`
    abandoned, ///< its coroutine was destroyed
};
inline constexpr std::size_t operation_outcomes = 5;

inline std::string_view to_string(operation_outcome outcome) noexcept {
    constexpr std::string_view names[] = {"ok", "error", "cancelled", "timed_out", "abandoned"};
    return names[static_cast<std::size_t>(outcome)];
}

/// How much memory came with the runs of an operation; negative where it shrank. Of the whole
/// process, so what ran beside it is in it.
struct memory_growth {
    std::uint64_t count = 0;
    std::int64_t last = 0;
    std::int64_t max = 0;
    std::int64_t total = 0;
};

/// What is known of one operation at a moment. Times are those of runs that ended well, to within
/// 0.28 %.
struct operation_summary {
    std::string name;
    std::uint64_t count = 0; ///< ended well
    std::chrono::nanoseconds total{0};
    std::chrono::nanoseconds mean{0};
    std::chrono::nanoseconds min{0};
    std::chrono::nanoseconds p50{0};
    std::chrono::nanoseconds p90{0};
    std::chrono::nanoseconds p95{0};
    std::chrono::nanoseconds p99{0};
    std::chrono::nanoseconds p999{0};
    std::chrono::nanoseconds max{0};

    std::uint64_t errors = 0;
    std::uint64_t cancelled = 0;
    std::uint64_t timed_out = 0;
    std::uint64_t abandoned = 0;
    std::uint64_t invalid = 0; ///< durations that were negative or not finite, of all outcomes

    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::optional<memory_growth> memory;

    double hit_ratio() const noexcept {
        return hits + misses == 0 ? 0
                                  : static_cast<double>(hits) / static_cast<double>(hits + misses);
    }
};

/// One of the last operations.
struct finished_operation {
    std::string name;
    std::chrono::system_clock::time_point ended;
    std::chrono::nanoseconds took{0};
    operation_outcome outcome = operation_outcome::ok;
};

/// What a monitor tells its sink.
struct monitor_report {
    std::chrono::system_clock::time_point when;
    std::chrono::nanoseconds period{0};       ///< that `recent` is about
    std::vector<operation_summary> recent;    ///< since the report before, or for as long
    std::vector<operation_summary> all;       ///< since the beginning
    std::optional<memory_usage> memory;       ///< now
    std::optional<std::int64_t> memory_delta; ///< resident bytes since the report before
};

TIDEGATE_END_NAMESPACE
