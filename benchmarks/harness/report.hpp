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

    bool ReportContext(Context const&) override { return true; }
    void ReportRuns(std::vector<Run> const& runs) override;

    results const& measured() const { return measured_; }
    std::vector<std::string> const& errors() const { return errors_; }

private:
    results measured_;
    std::vector<std::string> errors_;
};

void print_table(std::string const& scenario, results const& measured);

void write_json(std::filesystem::path const& file, std::string const& scenario, bool quick,
                results const& measured, std::vector<verdict> const& verdicts);

} // namespace bench
