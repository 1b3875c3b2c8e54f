// SPDX-License-Identifier: BSL-1.0
// Hits, puts and replays beside other caches: numbers to numbers, times to live on.
#include "bench.hpp"
#include "peers.hpp"
#include "traces.hpp"

#include "rival_thread.hpp"

#include <tidegate/cache.hpp>

#include <boost/asio/io_context.hpp>

#include <malloc.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace bench;

class tidegate_cache {
public:
    explicit tidegate_cache(std::size_t capacity)
        : cache_(context_, tidegate::cache_options<std::uint64_t, std::uint64_t>()
                               .max_entries(capacity)
                               .time_to_live(std::chrono::hours(1))) {}

    std::optional<std::uint64_t> get(std::uint64_t key) { return cache_.get_if_present(key); }
    void put(std::uint64_t key, std::uint64_t value) { cache_.put(key, value); }
    std::size_t size() const { return cache_.size(); }

private:
    boost::asio::io_context context_;
    tidegate::cache<std::uint64_t, std::uint64_t> cache_;
};

constexpr std::size_t capacity = 131'072;
constexpr std::size_t resident = 65'536;
constexpr std::size_t laps = 1'000'000;

// Zipf 0.99 over what is there.
std::vector<std::uint64_t> const& popular_keys() {
    static std::vector<std::uint64_t> const keys = [] {
        splitmix random(1);
        zipf const ranks(0.99, resident);
        std::vector<std::uint64_t> all(laps);
        for (auto& k : all) k = splitmix::finalise(ranks(random) + 1);
        return all;
    }();
    return keys;
}
std::vector<std::uint64_t> const& zipf_trace() {
    static std::vector<std::uint64_t> const trace = trace_maker(42, 2'000'000).make("z099");
    return trace;
}

template <class Cache>
std::unique_ptr<Cache> filled() {
    auto cache = std::make_unique<Cache>(capacity);
    for (std::uint64_t i = 0; i < resident; ++i) cache->put(splitmix::finalise(i + 1), i);
    return cache;
}

template <class Cache>
void get_all(Cache& cache) {
    std::uint64_t sum = 0;
    for (std::uint64_t const key : popular_keys()) sum += cache.get(key).value_or(0);
    benchmark::DoNotOptimize(sum);
}

template <class Cache>
void get(run& r) {
    auto const cache = filled<Cache>();
    while (r.more(laps)) get_all(*cache);
}

template <class Cache>
void get_with_rival(run& r) {
    auto const cache = filled<Cache>();
    rival_thread const rival([&] { get_all(*cache); });
    while (r.more(laps)) get_all(*cache);
}

// The same two threads without anything in common: says whether there are two processors.
void get_beside_rival(run& r) {
    auto const cache = filled<tidegate_cache>(), other = filled<tidegate_cache>();
    rival_thread const rival([&] { get_all(*other); });
    while (r.more(laps)) get_all(*cache);
}

template <class Cache>
void set(run& r) {
    auto const cache = filled<Cache>();
    while (r.more(laps)) {
        for (std::uint64_t const key : popular_keys()) cache->put(key, key);
    }
}

template <class Cache>
void replay(run& r) {
    auto const& trace = zipf_trace();
    while (r.more(static_cast<std::int64_t>(trace.size()))) {
        Cache cache(10'000);
        for (std::uint64_t const key : trace) {
            if (!cache.get(key)) cache.put(key, key);
        }
    }
}

template <class Cache>
void rows_of(std::string const& who) {
    row("get/" + who, cpu_time, get<Cache>);
    row("set/" + who, cpu_time, set<Cache>);
    row("replay/" + who, cpu_time, replay<Cache>);
    row("get_2/" + who, cpu_time, get_with_rival<Cache>);
}

group const speed{[] {
    rows_of<tidegate_cache>("tidegate");
    rows_of<naive_cache>("naive");
    rows_of<naive_ttl_cache>("naive_ttl");
    rows_of<intrusive_lru_cache>("intrusive_lru");
    rows_of<tbb_lru_cache>("tbb");
    rows_of<rocksdb_lru_cache>("rocksdb_lru");
    rows_of<rocksdb_clock_cache>("rocksdb_clock");
    rows_of<leveldb_lru_cache>("leveldb");
    row("get_2_private/tidegate", cpu_time, get_beside_rival);
    // How many times as fast. The naive cache proper has no times to live; the other one does the
    // same work as ours.
    claim("get", ratio_of("get/naive", "get/tidegate"), at_least(2.5));
    claim("get_with_times", ratio_of("get/naive_ttl", "get/tidegate"), at_least(2.5));
    claim("set", ratio_of("set/naive", "set/tidegate"), at_least(1.7));
    claim("replay", ratio_of("replay/naive", "replay/tidegate"), at_least(2.5));
    claim("get_2_threads", ratio_of("get_2/naive", "get_2/tidegate"), at_least(5));
    claim("get_2_threads_control", ratio_of("get_2_private/tidegate", "get/tidegate"),
          at_most(1.25));
    claim("get_against_fastest_peer",
          ratio_of(fastest_of({"get/intrusive_lru", "get/tbb", "get/rocksdb_lru",
                               "get/rocksdb_clock", "get/leveldb"}),
                   time_of("get/tidegate")),
          at_least(1));
    claim("get_allocations", allocations_of("get/tidegate"), at_most(0));
    claim("set_allocations", allocations_of("set/tidegate"), at_most(0));
}};

template <class Cache>
void memory(run& r) {
    constexpr std::size_t million = 1'000'000;
    r.skip_warm_up();
    while (r.more()) {
        auto const used = [] {
            auto const m = mallinfo2();
            return static_cast<double>(m.uordblks + m.hblkhd);
        };
        double const before = used();
        Cache cache(million);
        for (std::uint64_t i = 0; i < 2 * million + million / 2; ++i) {
            cache.put(splitmix::finalise(i + 1), i);
        }
        r.report("bytes_an_entry", (used() - before) / million);
    }
}

group const memories{[] {
    row("memory/tidegate", wall_time, memory<tidegate_cache>)->Iterations(1);
    row("memory/naive", wall_time, memory<naive_cache>)->Iterations(1);
    row("memory/intrusive_lru", wall_time, memory<intrusive_lru_cache>)->Iterations(1);
    claim("bytes_an_entry", counter_of("memory/tidegate", "bytes_an_entry"), at_most(72));
}};

} // namespace
