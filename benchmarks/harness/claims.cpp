// SPDX-License-Identifier: BSL-1.0
// Judges the claims of the scenario.
#include "claims.hpp"

#include "results.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
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
    return {{row}, [row](results const& all) { return all.at(row).time().min; }};
}

quantity typical_time_of(std::string row) {
    return {{row}, [row](results const& all) { return all.at(row).time().median; }};
}

namespace {

quantity least_of_rows(std::vector<std::string> rows, double spread::* which) {
    return {rows, [rows, which](results const& all) {
                auto least = std::numeric_limits<double>::infinity();
                for (auto const& row : rows) least = std::min(least, all.at(row).time().*which);
                return least;
            }};
}

} // namespace

quantity fastest_of(std::vector<std::string> rows) {
    return least_of_rows(std::move(rows), &spread::min);
}

quantity typical_fastest_of(std::vector<std::string> rows) {
    return least_of_rows(std::move(rows), &spread::median);
}

quantity allocations_of(std::string row) {
    return {{row}, [row](results const& all) { return all.at(row).allocations().max; }};
}

namespace {

quantity counter_of(std::string row, std::string counter, double spread::* which) {
    return {{row}, [row, counter, which](results const& all) {
                return all.at(row).counter(counter).*which;
            }};
}

template <class Combine>
quantity combined(quantity first, quantity second, Combine combine) {
    quantity both;
    both.rows = first.rows;
    both.rows.insert(both.rows.end(), second.rows.begin(), second.rows.end());
    both.measure = [combine, a = std::move(first.measure), b = std::move(second.measure)](
                       results const& all) { return combine(a(all), b(all)); };
    return both;
}

} // namespace

quantity counter_of(std::string row, std::string counter) {
    return counter_of(std::move(row), std::move(counter), &spread::median);
}

quantity least_of(std::string row, std::string counter) {
    return counter_of(std::move(row), std::move(counter), &spread::min);
}

quantity most_of(std::string row, std::string counter) {
    return counter_of(std::move(row), std::move(counter), &spread::max);
}

quantity ratio_of(quantity numerator, quantity denominator) {
    return combined(std::move(numerator), std::move(denominator), std::divides<double>());
}

quantity difference_of(quantity from, quantity subtract) {
    return combined(std::move(from), std::move(subtract), std::minus<double>());
}

quantity sum_of(std::vector<quantity> parts) {
    quantity sum;
    for (quantity const& part : parts) {
        sum.rows.insert(sum.rows.end(), part.rows.begin(), part.rows.end());
    }
    sum.measure = [parts = std::move(parts)](results const& all) {
        double total = 0;
        for (quantity const& part : parts) total += part.measure(all);
        return total;
    };
    return sum;
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

void check_claims(results const& all_rows) {
    for (auto const& declared : declared_claims())
        for (auto const& row : declared.measured.rows)
            if (!all_rows.has(row))
                throw std::logic_error("claim '" + declared.name + "' needs the benchmark '" + row +
                                       "', which does not exist");
}

claims_outcome judge_claims(std::string const& scenario, results const& measured) {
    claims_outcome outcome;
    for (auto const& declared : declared_claims()) {
        auto const& rows = declared.measured.rows;
        auto const name = scenario + '.' + declared.name;
        if (std::all_of(rows.begin(), rows.end(), [&](auto& row) {
                return measured.has(row) && !measured.at(row).samples.empty();
            }))
            outcome.verdicts.push_back(
                {name, rounded(declared.measured.measure(measured)), declared.wanted});
        else outcome.unmeasured.push_back(name);
    }
    return outcome;
}

} // namespace bench
