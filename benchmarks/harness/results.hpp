// SPDX-License-Identifier: BSL-1.0
// What the benchmarks measured: every sample of every row.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace bench {

// Which clock a row is judged by: CPU time of the measuring thread for work of one thread (other
// processes disturb it least), wall time where threads wait for each other.
enum class timing { cpu, wall };

struct sample {
    double cpu_ns; // an operation
    double wall_ns;
    double allocations;                     // an operation
    std::map<std::string, double> counters; // what the benchmark reported itself
};

struct spread {
    double min;
    double median;
    double max;
};

struct row_result {
    std::string name;
    timing judged_by;
    std::vector<sample> samples;

    spread time() const;
    spread allocations() const;
    spread counter(std::string const& name) const; // throws std::logic_error if never reported
};

// All rows in the order of their declaration, those that were not run without samples.
class results {
public:
    void add(std::string name, timing judged_by);
    bool has(std::string const& name) const;
    row_result& at(std::string const& name); // throws std::logic_error
    row_result const& at(std::string const& name) const;
    std::vector<row_result> const& rows() const { return rows_; }

private:
    std::vector<row_result> rows_;
};

// At most three decimals, without trailing zeros.
std::string shortest(double value);

} // namespace bench
