// SPDX-License-Identifier: BSL-1.0
// A rate limit for each of a million keys, beside a look-up in a hash map of as many.
#include "bench.hpp"

#include <tidegate/keyed_rate_limiter.hpp>

#include <boost/unordered/unordered_flat_map.hpp>

#include <cstdint>
#include <malloc.h>
#include <unordered_map>

namespace {

using namespace bench;
using namespace std::chrono_literals;

constexpr std::uint64_t keys = 1'000'000;

// Another key each time, in an order that no cache foresees.
class wanderer {
public:
    std::uint64_t next() noexcept {
        at_ = at_ * 6364136223846793005u + 1442695040888963407u;
        return (at_ >> 33) % keys;
    }

private:
    std::uint64_t at_ = 1;
};

tidegate::keyed_rate_limiter_options<std::uint64_t> plenty() {
    return tidegate::keyed_rate_limiter_options<std::uint64_t>()
        .rate(1'000'000, 1s)
        .max_keys(2 * keys);
}

template <class Map>
void look_up(run& r) {
    Map map;
    for (std::uint64_t key = 0; key < keys; ++key) map.emplace(key, key);
    wanderer w;
    while (r.more()) benchmark::DoNotOptimize(map.find(w.next())->second);
}

group const million_keys{[] {
    row("million_keys/std_unordered_map", cpu_time,
        look_up<std::unordered_map<std::uint64_t, std::uint64_t>>);
    row("million_keys/boost_flat_map", cpu_time,
        look_up<boost::unordered_flat_map<std::uint64_t, std::uint64_t>>);
    row("million_keys/tidegate", cpu_time, [](run& r) {
        std::size_t const before = mallinfo2().uordblks + mallinfo2().hblkhd;
        tidegate::keyed_rate_limiter<std::uint64_t> limiter(plenty());
        for (std::uint64_t key = 0; key < keys; ++key) {
            benchmark::DoNotOptimize(bool(limiter.try_acquire(key)));
        }
        std::size_t const after = mallinfo2().uordblks + mallinfo2().hblkhd;
        r.report("bytes_a_key", static_cast<double>(after - before) / keys - sizeof(std::uint64_t));
        wanderer w;
        while (r.more()) benchmark::DoNotOptimize(bool(limiter.try_acquire(w.next())));
    });
    claim("keyed_look_up", ratio_of("million_keys/tidegate", "million_keys/std_unordered_map"),
          at_most(3));
    claim("keyed_bytes_a_key", counter_of("million_keys/tidegate", "bytes_a_key"), at_most(64));
}};

} // namespace
