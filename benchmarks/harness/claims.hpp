// SPDX-License-Identifier: BSL-1.0
// Claims: a measured quantity and the goal that it must meet, declared beside the benchmark.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bench {

class results;

// Something that can be read off the results once all benchmarks ran.
struct quantity {
    std::vector<std::string> rows; // the benchmarks that it needs
    std::function<double(results const&)> measure;
};

// Nanoseconds an operation: the least of all repetitions, on the clock of that row.
quantity time_of(std::string row);

// The median of all repetitions, for one thread waiting for another, in turns: the least is a
// matter of luck, when the scheduler had both on one processor.
quantity typical_time_of(std::string row);

// The least time of several rows: for peers that offer more than one idiom.
quantity fastest_of(std::vector<std::string> rows);

// The same of medians.
quantity typical_fastest_of(std::vector<std::string> rows);

// Heap allocations an operation in steady state: the most of all repetitions.
quantity allocations_of(std::string row);

// A figure that the benchmark reported itself: the median of all repetitions.
quantity counter_of(std::string row, std::string counter);

// The same, but the least or the most of all repetitions: for times, rates and peaks.
quantity least_of(std::string row, std::string counter);
quantity most_of(std::string row, std::string counter);

quantity ratio_of(quantity numerator, quantity denominator);

// `from` less `subtract`.
quantity difference_of(quantity from, quantity subtract);

quantity sum_of(std::vector<quantity> parts);

// The ratio of two times.
quantity ratio_of(std::string row, std::string to_row);

struct goal {
    enum class direction { at_most, at_least };
    direction is;
    double bound;

    bool met_by(double measured) const {
        return is == direction::at_most ? measured <= bound : measured >= bound;
    }
};

inline goal at_most(double bound) { return {goal::direction::at_most, bound}; }
inline goal at_least(double bound) { return {goal::direction::at_least, bound}; }

// Adds a claim to the scenario. Claims are never dropped or loosened; one that falls short stays
// and says so.
void claim(std::string name, quantity measured, goal wanted);

// What became of a claim.
struct verdict {
    std::string name; // "<scenario>.<claim>"
    double measured;  // rounded as it is printed, so that a line never contradicts itself
    goal wanted;

    bool holds() const { return wanted.met_by(measured); }

    // "claim <scenario>.<name> <measured> <= <goal> holds", or >=, or short.
    std::string line() const;
};

struct claims_outcome {
    std::vector<verdict> verdicts;
    std::vector<std::string> unmeasured; // their benchmarks were filtered out
};

// Throws std::logic_error when a claim names a benchmark that does not exist.
void check_claims(results const& all_rows);
claims_outcome judge_claims(std::string const& scenario, results const& measured);

} // namespace bench
