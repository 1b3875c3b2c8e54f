// SPDX-License-Identifier: BSL-1.0
// Statistics over the samples.
#include "results.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace bench {
namespace {

spread spread_of(std::vector<double> values) {
    if (values.empty()) throw std::logic_error("no sample");
    std::sort(values.begin(), values.end());
    auto const middle = values.size() / 2;
    auto const median =
        values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    return {values.front(), median, values.back()};
}

template <class Pick>
spread spread_of(std::vector<sample> const& samples, Pick pick) {
    std::vector<double> values;
    for (auto const& one : samples) values.push_back(pick(one));
    return spread_of(std::move(values));
}

} // namespace

spread row_result::time() const {
    return spread_of(samples, [this](sample const& one) {
        return judged_by == timing::cpu ? one.cpu_ns : one.wall_ns;
    });
}

spread row_result::allocations() const {
    return spread_of(samples, [](sample const& one) { return one.allocations; });
}

spread row_result::counter(std::string const& counter_name) const {
    return spread_of(samples, [&](sample const& one) {
        auto const found = one.counters.find(counter_name);
        if (found == one.counters.end())
            throw std::logic_error("benchmark '" + name + "' reports no '" + counter_name + "'");
        return found->second;
    });
}

void results::add(std::string name, timing judged_by) {
    rows_.push_back({std::move(name), judged_by, {}});
}

bool results::has(std::string const& name) const {
    return std::any_of(rows_.begin(), rows_.end(), [&](auto& row) { return row.name == name; });
}

row_result const& results::at(std::string const& name) const {
    for (auto const& row : rows_)
        if (row.name == name) return row;
    throw std::logic_error("there is no benchmark '" + name + "'");
}

row_result& results::at(std::string const& name) {
    return const_cast<row_result&>(std::as_const(*this).at(name));
}

std::string shortest(double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%.3f", value);
    std::string result = text;
    result.erase(result.find_last_not_of('0') + 1);
    if (result.back() == '.') result.pop_back();
    return result;
}

} // namespace bench
