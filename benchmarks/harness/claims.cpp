// SPDX-License-Identifier: BSL-1.0
// Judges the claims of the scenario.
#include "claims.hpp"

#include "results.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace bench {
namespace {

struct declared_claim {
    std::string name;
    quantity measured;
    goal wanted;
};

std::vector<declared_claim>& declared_claims() {
    static std::vector<declared_claim> all;
    return all;
}

double rounded(double value) { return std::round(value * 1000) / 1000; }

} // namespace

quantity time_of(std::string row) {
    return {{row}, [row](const results& all) { return all.at(row).time().min; }};
}

quantity allocations_of(std::string row) {
    return {{row}, [row](const results& all) { return all.at(row).allocations().max; }};
}

quantity counter_of(std::string row, std::string counter) {
    return {{row},
            [row, counter](const results& all) { return all.at(row).counter(counter).median; }};
}

quantity ratio_of(quantity numerator, quantity denominator) {
    quantity ratio;
    ratio.rows = numerator.rows;
    ratio.rows.insert(ratio.rows.end(), denominator.rows.begin(), denominator.rows.end());
    ratio.measure = [above = std::move(numerator.measure), below = std::move(denominator.measure)](
                        const results& all) { return above(all) / below(all); };
    return ratio;
}

quantity ratio_of(std::string row, std::string to_row) {
    return ratio_of(time_of(std::move(row)), time_of(std::move(to_row)));
}

void claim(std::string name, quantity measured, goal wanted) {
    declared_claims().push_back({std::move(name), std::move(measured), wanted});
}

std::string verdict::line() const {
    return "claim " + name + ' ' + shortest(measured) +
           (wanted.is == goal::direction::at_most ? " <= " : " >= ") + shortest(wanted.bound) +
           (holds() ? " holds" : " short");
}

void check_claims(const results& all_rows) {
    for (const auto& declared : declared_claims())
        for (const auto& row : declared.measured.rows)
            if (!all_rows.has(row))
                throw std::logic_error("claim '" + declared.name + "' needs the benchmark '" + row +
                                       "', which does not exist");
}

claims_outcome judge_claims(const std::string& scenario, const results& measured) {
    claims_outcome outcome;
    for (const auto& declared : declared_claims()) {
        const auto& rows = declared.measured.rows;
        const auto name = scenario + '.' + declared.name;
        if (std::all_of(rows.begin(), rows.end(), [&](auto& row) { return measured.has(row) && !measured.at(row).samples.empty(); }))
            outcome.verdicts.push_back(
                {name, rounded(declared.measured.measure(measured)), declared.wanted});
        else
            outcome.unmeasured.push_back(name);
    }
    return outcome;
}

} // namespace bench
