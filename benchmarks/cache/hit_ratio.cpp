// SPDX-License-Identifier: BSL-1.0
// How often a cache has what it is asked for: ten generated traces, three sizes each.
#include "bench.hpp"

#include "oracles.hpp"
#include "traces.hpp"

#include <tidegate/cache.hpp>

#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <future>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace bench;

constexpr std::array<std::size_t, 3> sizes{1'000, 10'000, 100'000};
using three = std::array<double, 3>;

// Measured once on these traces: libCacheSim's Belady and LRU; and the best in each cell of ARC,
// LIRS, S3-FIFO, SIEVE (libCacheSim), Caffeine, quick_cache, otter, moka, userver's SLRU and
// RocksDB's HyperClockCache (the libraries themselves), and LRU.
struct reference {
    three belady, lru, best_peer;
};
std::map<std::string, reference> const references{
    {"z099", {{54.18, 70.33, 84.95}, {38.36, 56.58, 76.14}, {49.29, 65.00, 79.45}}},
    {"z080", {{25.20, 43.07, 68.22}, {10.01, 23.19, 48.37}, {19.81, 34.23, 55.70}}},
    {"z110", {{71.97, 83.99, 91.76}, {59.78, 75.57, 88.09}, {68.22, 80.77, 89.36}}},
    {"scan", {{43.34, 56.23, 67.52}, {30.58, 43.90, 57.29}, {39.38, 51.90, 62.23}}},
    {"ohw", {{19.51, 28.42, 37.73}, {8.87, 16.22, 25.81}, {16.74, 24.21, 31.15}}},
    {"loop", {{0.82, 8.20, 81.60}, {0.00, 0.00, 0.00}, {0.81, 8.12, 80.80}}},
    {"zloop", {{36.09, 46.88, 84.96}, {22.89, 34.23, 45.84}, {32.86, 43.14, 80.88}}},
    {"shift", {{54.01, 68.59, 72.49}, {38.34, 56.33, 71.94}, {48.38, 61.23, 71.94}}},
    {"latest", {{51.34, 67.52, 82.16}, {35.27, 53.33, 72.61}, {42.97, 60.52, 76.32}}},
    {"recency", {{52.43, 65.01, 67.33}, {37.89, 53.59, 64.40}, {38.00, 53.60, 64.78}}},
};

double hit_ratio(std::vector<std::uint32_t> const& trace, std::size_t size) {
    boost::asio::io_context context;
    tidegate::cache<std::uint32_t, std::uint32_t> cache(
        context, tidegate::cache_options<std::uint32_t, std::uint32_t>().max_entries(size));
    for (std::uint32_t const key : trace) {
        if (!cache.get_if_present(key)) cache.put(key, key);
    }
    return 100 * cache.statistics().hit_ratio();
}

// What one trace says.
struct finding {
    three ours{};
    double guards_off = 0;
};

finding look_at(std::string const& name) {
    auto const trace = numbered(trace_maker().make(name));
    auto const& known = references.at(name);
    finding found;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        found.ours[i] = hit_ratio(trace, sizes[i]);
        found.guards_off = std::max({found.guards_off,
                                     std::abs(belady_hit_ratio(trace, sizes[i]) - known.belady[i]),
                                     std::abs(lru_hit_ratio(trace, sizes[i]) - known.lru[i])});
    }
    return found;
}

void all_traces(run& r) {
    r.skip_warm_up();
    std::map<std::string, finding> found;
    while (r.more()) {
        for (auto const& name : trace_maker::names()) found[name] = look_at(name);
    }
    double sum = 0, regret_sum = 0, worst_regret = 0, guards_off = 0;
    for (auto const& [name, f] : found) {
        guards_off = std::max(guards_off, f.guards_off);
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            double const regret = references.at(name).best_peer[i] - f.ours[i];
            r.report(name + "_" + std::to_string(sizes[i]), f.ours[i]);
            sum += f.ours[i];
            regret_sum += regret;
            if (name != "loop") worst_regret = std::max(worst_regret, regret);
        }
    }
    r.report("mean", sum / 30);
    r.report("mean_regret", regret_sum / 30);
    r.report("worst_regret", worst_regret);
    r.report("guards_off", guards_off);
}

// In percentage points. The regret is what the best peer of a cell has more; without the loop.
group const hit_ratios{[] {
    row("hit_ratio/tidegate", wall_time, all_traces)->Iterations(1)->Repetitions(1);
    claim("hit_ratio_mean", counter_of("hit_ratio/tidegate", "mean"), at_least(49.7));
    claim("hit_ratio_worst_regret", counter_of("hit_ratio/tidegate", "worst_regret"), at_most(2));
    claim("hit_ratio_mean_regret", counter_of("hit_ratio/tidegate", "mean_regret"), at_most(0.9));
    claim("hit_ratio_guards_off", counter_of("hit_ratio/tidegate", "guards_off"), at_most(0.05));
}};

} // namespace
