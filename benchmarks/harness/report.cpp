// SPDX-License-Identifier: BSL-1.0
// The table for people and the JSON file for programs.
#include "report.hpp"

#include "allocations.hpp"

#include <boost/json.hpp>
#include <boost/version.hpp>
#include <tidegate/version.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <sys/utsname.h>

namespace bench {
namespace {

namespace json = boost::json;

std::string readable(double nanoseconds) {
    char const* unit = "ns";
    if (nanoseconds >= 1e9) nanoseconds /= 1e9, unit = "s ";
    else if (nanoseconds >= 1e6) nanoseconds /= 1e6, unit = "ms";
    else if (nanoseconds >= 1e4) nanoseconds /= 1e3, unit = "us";
    char text[64];
    std::snprintf(text, sizeof text, "%.*f %s", nanoseconds < 100 ? 2 : 1, nanoseconds, unit);
    return text;
}

std::string_view name_of(timing judged_by) { return judged_by == timing::cpu ? "cpu" : "wall"; }

std::string cpu_model() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown";
}

// System and architecture, not the machine's own name.
std::string operating_system() {
    utsname name{};
    if (uname(&name) != 0) return "unknown";
    return std::string(name.sysname) + ' ' + name.release + ' ' + name.machine;
}

std::string compiler() {
#if defined(__clang__)
    return __VERSION__;
#elif defined(__GNUC__)
    return "g++ " __VERSION__;
#else
    return "unknown";
#endif
}

std::string boost_version() {
    return std::to_string(BOOST_VERSION / 100000) + '.' +
           std::to_string(BOOST_VERSION / 100 % 1000) + '.' + std::to_string(BOOST_VERSION % 100);
}

std::string date_in_utc() {
    auto const now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

json::object machine() {
    auto const& cpu = benchmark::CPUInfo::Get();
    json::array load;
    for (double const average : cpu.load_avg) load.push_back(average);
    return {{"cpu", cpu_model()},
            {"cpus", cpu.num_cpus},
            {"mhz", cpu.cycles_per_second / 1e6},
            {"system", operating_system()},
            {"load_at_start", std::move(load)}};
}

json::object versions() {
    return {{"tidegate", TIDEGATE_VERSION_STRING},
            {"boost", boost_version()},
            {"benchmark", TIDEGATE_BENCH_GOOGLE_BENCHMARK_VERSION},
            {"compiler", compiler()},
            {"build", TIDEGATE_BENCH_BUILD}};
}

json::object row_object(row_result const& row) {
    json::array samples;
    for (auto const& one : row.samples) {
        json::object object{{"cpu_ns", one.cpu_ns}, {"wall_ns", one.wall_ns}};
        if (allocations_are_counted) object["allocations"] = one.allocations;
        for (auto const& [name, value] : one.counters) object[name] = value;
        samples.push_back(std::move(object));
    }
    return {{"name", row.name},         {"clock", name_of(row.judged_by)},
            {"min_ns", row.time().min}, {"median_ns", row.time().median},
            {"max_ns", row.time().max}, {"samples", std::move(samples)}};
}

json::object claim_object(verdict const& one) {
    return {{"name", one.name},
            {"measured", one.measured},
            {"goal", (one.wanted.is == goal::direction::at_most ? "<= " : ">= ") +
                         shortest(one.wanted.bound)},
            {"holds", one.holds()}};
}

// One line an element: short enough to read, and differences show.
template <class Range, class ToObject>
void write_lines(std::ostream& out, Range const& range, ToObject to_object) {
    char const* separator = "\n    ";
    for (auto const& each : range) {
        out << separator << to_object(each);
        separator = ",\n    ";
    }
}

} // namespace

void collector::ReportRuns(std::vector<Run> const& runs) {
    for (auto const& one : runs) {
        if (one.run_type != Run::RT_Iteration) continue; // the aggregates are our own
        auto const& name = one.run_name.function_name;
        if (one.error_occurred) {
            errors_.push_back(name + ": " + one.error_message);
            continue;
        }
        sample taken{one.GetAdjustedCPUTime(), one.GetAdjustedRealTime(), 0, {}};
        for (auto const& [counter, value] : one.counters) {
            if (counter == "allocations") taken.allocations = value;
            else taken.counters.emplace(counter, value);
        }
        measured_.at(name).samples.push_back(std::move(taken));
    }
}

void print_table(std::string const& scenario, results const& measured) {
    std::size_t width = scenario.size();
    for (auto const& row : measured.rows()) width = std::max(width, row.name.size());
    int const name_width = static_cast<int>(width);

    std::printf("%-*s  clock %11s %11s %11s  %s\n", name_width, scenario.c_str(), "min", "median",
                "max", "allocations/op");
    for (auto const& row : measured.rows()) {
        if (row.samples.empty()) continue;
        auto const time = row.time();
        std::printf("%-*s  %-5s %11s %11s %11s  %14s", name_width, row.name.c_str(),
                    name_of(row.judged_by).data(), readable(time.min).c_str(),
                    readable(time.median).c_str(), readable(time.max).c_str(),
                    allocations_are_counted ? shortest(row.allocations().max).c_str() : "-");
        for (auto const& [counter, _] : row.samples.front().counters)
            std::printf("  %s=%s", counter.c_str(), shortest(row.counter(counter).median).c_str());
        std::printf("\n");
    }
    std::printf("\n");
}

void write_json(std::filesystem::path const& file, std::string const& scenario, bool quick,
                results const& measured, std::vector<verdict> const& verdicts) {
    std::vector<row_result> rows;
    for (auto const& row : measured.rows())
        if (!row.samples.empty()) rows.push_back(row);

    std::ofstream out(file);
    out << "{\n  \"scenario\": " << json::value(scenario)
        << ",\n  \"date\": " << json::value(date_in_utc()) //
        << ",\n  \"quick\": " << json::value(quick)        //
        << ",\n  \"machine\": " << machine()               //
        << ",\n  \"versions\": " << versions()             //
        << ",\n  \"benchmarks\": [";
    write_lines(out, rows, row_object);
    out << "\n  ],\n  \"claims\": [";
    write_lines(out, verdicts, claim_object);
    out << "\n  ]\n}\n";
    if (!out.flush()) throw std::runtime_error("cannot write " + file.string());
}

} // namespace bench
