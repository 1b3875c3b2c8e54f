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

/// The summaries as a table for people: one line an operation, times in milliseconds.
inline std::string format_table(std::vector<operation_summary> const& summaries) {
    auto const ms = [](std::chrono::nanoseconds ns) {
        return std::chrono::duration<double, std::milli>(ns).count();
    };
    std::string table = fmt::format("{:<24}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}\n",
                                    "operation (ms)", "count", "mean", "p50", "p95", "p99", "max");
    for (operation_summary const& s : summaries) {
        table += fmt::format("{:<24}{:>10}{:>12.3f}{:>12.3f}{:>12.3f}{:>12.3f}{:>12.3f}\n", s.name,
                             s.count, ms(s.mean), ms(s.p50), ms(s.p95), ms(s.p99), ms(s.max));
    }
    return table;
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
