// SPDX-License-Identifier: BSL-1.0
// Collects every sample from Google Benchmark, prints the table and writes the JSON file.
#pragma once

#include "claims.hpp"
#include "results.hpp"

#include <benchmark/benchmark.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace bench {

class collector : public benchmark::BenchmarkReporter {
public:
    explicit collector(results empty) : measured_(std::move(empty)) {}

    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override;

    const results& measured() const { return measured_; }
    const std::vector<std::string>& errors() const { return errors_; }

private:
    results measured_;
    std::vector<std::string> errors_;
};

void print_table(const std::string& scenario, const results& measured);

void write_json(const std::filesystem::path& file, const std::string& scenario, bool quick,
                const results& measured, const std::vector<verdict>& verdicts);

} // namespace bench
