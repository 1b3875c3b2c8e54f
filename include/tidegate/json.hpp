// SPDX-License-Identifier: BSL-1.0
// Reports as JSON. Needs Boost.JSON: link it, or include <boost/json/src.hpp> in one source file.
#pragma once

#include <tidegate/monitor_report.hpp>
#include <tidegate/stall.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Times in seconds, as in metrics; memory in bytes.
inline boost::json::object to_json(operation_summary const& s) {
    auto const seconds = [](std::chrono::nanoseconds ns) {
        return std::chrono::duration<double>(ns).count();
    };
    boost::json::object all{{"name", s.name},
                            {"count", s.count},
                            {"errors", s.errors},
                            {"cancelled", s.cancelled},
                            {"timed_out", s.timed_out},
                            {"abandoned", s.abandoned},
                            {"total_seconds", seconds(s.total)},
                            {"mean_seconds", seconds(s.mean)},
                            {"min_seconds", seconds(s.min)},
                            {"p50_seconds", seconds(s.p50)},
                            {"p90_seconds", seconds(s.p90)},
                            {"p95_seconds", seconds(s.p95)},
                            {"p99_seconds", seconds(s.p99)},
                            {"p999_seconds", seconds(s.p999)},
                            {"max_seconds", seconds(s.max)}};
    if (s.invalid) all["invalid"] = s.invalid;
    if (s.hits || s.misses) {
        all["hits"] = s.hits;
        all["misses"] = s.misses;
        all["hit_ratio"] = s.hit_ratio();
    }
    if (s.memory) {
        all["memory_growth"] = {{"count", s.memory->count},
                                {"last_bytes", s.memory->last},
                                {"max_bytes", s.memory->max},
                                {"total_bytes", s.memory->total}};
    }
    return all;
}

inline boost::json::array to_json(std::vector<operation_summary> const& summaries) {
    boost::json::array all;
    for (auto const& one : summaries) all.push_back(to_json(one));
    return all;
}

/// `when` is in seconds since 1970.
inline boost::json::object to_json(monitor_report const& report) {
    using seconds = std::chrono::duration<double>;
    boost::json::object all{{"when", seconds(report.when.time_since_epoch()).count()},
                            {"period_seconds", seconds(report.period).count()},
                            {"recent", to_json(report.recent)},
                            {"all", to_json(report.all)}};
    if (report.memory) {
        all["memory"] = {{"resident_bytes", report.memory->resident},
                         {"virtual_bytes", report.memory->virtual_},
                         {"available_bytes", report.memory->available},
                         {"percent", report.memory->percent()}};
    }
    if (report.memory_delta) all["memory_delta_bytes"] = *report.memory_delta;
    return all;
}

inline boost::json::object to_json(stall const& s) {
    boost::json::object all{{"number", s.number},
                            {"over", s.over},
                            {"duration_seconds", std::chrono::duration<double>(s.duration).count()},
                            {"cause", to_string(s.cause)},
                            {"cpu_share", s.cpu_share},
                            {"starved_share", s.starved_share},
                            {"thread_id", s.thread_id},
                            {"thread_name", s.thread_name},
                            {"loop", s.loop},
                            {"label", s.label},
                            {"system_call", s.system_call},
                            {"wait_channel", s.wait_channel}};
    boost::json::array stack;
    for (auto const& function : s.stack) stack.push_back(boost::json::value(function));
    all["stack"] = std::move(stack);
    return all;
}

TIDEGATE_END_NAMESPACE
