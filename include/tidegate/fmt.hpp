// SPDX-License-Identifier: BSL-1.0
// Formatting with {fmt}. Nothing else in the library includes fmt.
#pragma once

#include <tidegate/core/batch_rule.hpp>
#include <tidegate/error.hpp>
#include <tidegate/monitor.hpp>

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// The summaries as a table for people: one line an operation, times in milliseconds. `failed` are
/// errors, cancelled, timed out and abandoned ones together.
inline std::string format_table(std::vector<operation_summary> const& summaries) {
    auto const ms = [](std::chrono::nanoseconds ns) {
        return std::chrono::duration<double, std::milli>(ns).count();
    };
    std::string table =
        fmt::format("{:<24}{:>10}{:>8}{:>12}{:>12}{:>12}{:>12}{:>12}\n", "operation (ms)", "count",
                    "failed", "mean", "p50", "p95", "p99", "max");
    for (operation_summary const& s : summaries) {
        table += fmt::format("{:<24}{:>10}{:>8}{:>12.3f}{:>12.3f}{:>12.3f}{:>12.3f}{:>12.3f}\n",
                             s.name, s.count, s.errors + s.cancelled + s.timed_out + s.abandoned,
                             ms(s.mean), ms(s.p50), ms(s.p95), ms(s.p99), ms(s.max));
    }
    return table;
}

/// A report for people: the table of what is recent, and the memory.
inline std::string format_report(monitor_report const& report) {
    std::string text =
        fmt::format("last {:.0f} s\n{}", std::chrono::duration<double>(report.period).count(),
                    format_table(report.recent));
    auto const mib = [](auto bytes) { return static_cast<double>(bytes) / (1 << 20); };
    if (report.memory) {
        text += fmt::format("memory {:.1f} MiB ({:.1f} % of the machine)",
                            mib(report.memory->resident), report.memory->percent());
        if (report.memory_delta) text += fmt::format(", {:+.1f} MiB", mib(*report.memory_delta));
        text += '\n';
    }
    return text;
}

TIDEGATE_END_NAMESPACE

/// As its message: "queue full".
template <>
struct fmt::formatter<tidegate::error> : fmt::formatter<std::string_view> {
    template <class Context>
    auto format(tidegate::error e, Context& context) const {
        return fmt::formatter<std::string_view>::format(make_error_code(e).message(), context);
    }
};

/// As a word: "full", "idle", "delay" or "flush".
template <>
struct fmt::formatter<tidegate::core::batch_reason> : fmt::formatter<std::string_view> {
    template <class Context>
    auto format(tidegate::core::batch_reason reason, Context& context) const {
        constexpr std::string_view names[] = {"full", "idle", "delay", "flush"};
        return fmt::formatter<std::string_view>::format(names[static_cast<std::size_t>(reason)],
                                                        context);
    }
};
