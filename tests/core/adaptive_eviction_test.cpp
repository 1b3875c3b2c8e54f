// SPDX-License-Identifier: BSL-1.0
// What the adaptive policy decides, exactly, on traces of the kinds that it is made for.
//
// How good its decisions are is judged by hit ratios: see the scenario `cache` of the benchmarks.
// Whoever changes one on purpose measures those, and then writes the new figures here.
#include <tidegate/core/cache/adaptive.hpp>
#include <tidegate/core/cache/store.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace tidegate::core;

// Hits are told after they were counted, as those of threads that look beside the lock.
struct told_later : adaptive_eviction {
    using adaptive_eviction::adaptive_eviction;

    template <class Entries>
    void hit(Entries& entries, entry_id id) noexcept {
        add_hits(entries.use(id, most_uses), 1);
    }
};

struct decisions {
    std::uint64_t hits = 0;
    std::uint64_t given_up = 0; // a digest of what, in its order
    std::uint64_t kept = 0;     // and of what is left, the hottest first

    friend bool operator==(decisions const&, decisions const&) = default;
};

std::string text(decisions const& d) {
    return std::to_string(d.hits) + ", " + std::to_string(d.given_up) + "u, " +
           std::to_string(d.kept) + "u";
}

std::uint32_t hash(std::uint64_t key) {
    return static_cast<std::uint32_t>((key + 1) * 0x9e3779b97f4a7c15u >> 32);
}

void add_to(std::uint64_t& digest, std::uint64_t key) {
    digest = (digest ^ key) * 0x100000001b3u; // FNV-1a
}

// Looks each key up, and puts it if it is not there. The weight of a key is 1, or 1 to `weights`,
// and all weights are in that unit.
template <class Policy = adaptive_eviction>
decisions play(std::vector<std::uint64_t> const& trace, std::uint64_t capacity,
               std::uint64_t weights = 1, std::uint64_t unit = 1) {
    using store = cache_store<std::uint64_t, int, Policy>;
    store_features features;
    features.weighs = weights > 1 || unit > 1;
    features.max_entries = features.weighs ? 0 : capacity;
    store entries(capacity * unit, features, 0);
    decisions made;
    auto const removed = [&](std::uint64_t&& key, int&&, bool, tidegate::removal_cause) {
        add_to(made.given_up, key);
    };
    std::uint64_t step = 0;
    for (std::uint64_t const key : trace) {
        ++step;
        entry_id const id = entries.find(hash(key), key, std::equal_to<>());
        std::uint64_t const weight = (1 + (key + step / 1000) % weights) * unit;
        typename store::fresh_entry fresh{hash(key), key, 0, false, weight, store::never, {}};
        if (id == no_entry) {
            entries.insert(std::move(fresh), 0, removed);
            continue;
        }
        ++made.hits;
        entries.touch(id);
        if (step % 97 == 0) entries.erase(id, tidegate::removal_cause::explicit_, removed);
        else if (step % 13 == 0) entries.replace(id, std::move(fresh), 0, removed);
    }
    entries.visit_hottest_first([&](entry_id id) { add_to(made.kept, entries.key(id)); });
    return made;
}

// Some keys far oftener than others: the chance of the n-th falls with n.
std::vector<std::uint64_t> skewed(std::size_t length, std::uint64_t keys) {
    std::mt19937_64 random(1);
    std::vector<std::uint64_t> trace(length);
    for (auto& key : trace) {
        std::uint64_t const r = random() >> 43; // 21 bits; its third power, as a fraction
        key = ((((r * r) >> 21) * r) >> 21) * keys >> 21;
    }
    return trace;
}

// A skewed trace, of which every now and then a scan of keys that never come again takes the place.
std::vector<std::uint64_t> with_scans(std::size_t length, std::uint64_t keys) {
    auto trace = skewed(length, keys);
    for (std::size_t i = 0; i < length; ++i) {
        if (i % 3000 >= 2200) trace[i] = 1'000'000 + i;
    }
    return trace;
}

std::vector<std::uint64_t> loop(std::size_t length, std::uint64_t keys) {
    std::vector<std::uint64_t> trace(length);
    for (std::size_t i = 0; i < length; ++i) trace[i] = i % keys;
    return trace;
}

// What is popular moves on.
std::vector<std::uint64_t> drifting(std::size_t length, std::uint64_t keys) {
    auto trace = skewed(length, keys);
    for (std::size_t i = 0; i < length; ++i) trace[i] += i / 4000 * 500;
    return trace;
}

// Each key some times in a short while, and then no more.
std::vector<std::uint64_t> bursts(std::size_t length) {
    std::mt19937_64 random(2);
    std::vector<std::uint64_t> trace(length);
    for (std::size_t i = 0; i < length; ++i) trace[i] = i / 4 - random() % 40;
    return trace;
}

// A loop longer than the cache beside what is popular.
std::vector<std::uint64_t> loop_beside(std::size_t length, std::uint64_t keys) {
    auto trace = skewed(length, keys);
    for (std::size_t i = 0; i < length; i += 2) trace[i] = 1'000'000 + i / 2 % 700;
    return trace;
}

void check(std::string const& name, decisions const& made, decisions const& expected) {
    INFO(name << ": {" << text(made) << "}");
    CHECK(made == expected);
}

} // namespace

TEST_CASE("the adaptive policy decides as it did when its hit ratios were measured") {
    constexpr std::size_t n = 40'000;
    check("skewed, small", play(skewed(n, 5000), 100),
          {9452, 17474298839953277125u, 18361082083273242057u});
    check("skewed, large", play(skewed(n, 5000), 1000),
          {20503, 2712712696745213199u, 8175181754934491949u});
    check("scans", play(with_scans(n, 2000), 300),
          {13876, 17908539973047167140u, 12828119211820965545u});
    check("loop, longer", play(loop(n, 700), 500),
          {18919, 2114949224860150266u, 9974927901013077698u});
    check("loop, much longer", play(loop(n, 5000), 500),
          {3033, 8850162085335120438u, 11783621438217075443u});
    check("drifting", play(drifting(n, 1000), 200),
          {18651, 14678050212280565418u, 6371747355729334171u});
    check("bursts, short", play(bursts(n), 30),
          {22729, 1158896501907233642u, 2279366474907462958u});
    check("bursts, long", play(bursts(n), 300),
          {29945, 9510091016299486718u, 9459149926301794165u});
    check("loop beside", play(loop_beside(n, 1000), 400),
          {15721, 14758508811540524684u, 15789373221511740150u});
    check("tiny", play(skewed(n, 50), 3), {11715, 12161922815268535273u, 7160293501850672924u});
    check("one", play(skewed(n, 5), 1), {15525, 9086619234857076559u, 4398046512844u});
    check("weighed", play(skewed(n, 5000), 1000, 9),
          {12014, 9205532490875832608u, 4079662202553881136u});
    check("weighed, scans", play(with_scans(n, 2000), 900, 5),
          {13927, 15736731495380327467u, 17102225834210137983u});
}

TEST_CASE("it makes no difference whether a hit is told at once, or counted and told") {
    constexpr std::size_t n = 40'000;
    for (auto const& trace : {skewed(n, 5000), with_scans(n, 2000), drifting(n, 1000)}) {
        CHECK(play<told_later>(trace, 300) == play(trace, 300));
    }
}

TEST_CASE("it makes no difference in which unit weights are given") {
    constexpr std::size_t n = 40'000;
    for (std::uint64_t const weights : {1u, 5u}) {
        for (auto const& trace :
             {skewed(n, 5000), with_scans(n, 2000), loop(n, 500), drifting(n, 1000)}) {
            auto const in_ones = play(trace, 300, weights);
            // Powers of two, which round nothing.
            CHECK(play(trace, 300, weights, 1 << 10) == in_ones);
            CHECK(play(trace, 300, weights, 1 << 20) == in_ones);
        }
    }
}

namespace {

// Says what it takes to remember what was given up.
struct weighed_memory : adaptive_eviction {
    using adaptive_eviction::adaptive_eviction;
    static inline std::size_t ghosts = 0;

    template <class Entries>
    entry_id evict(Entries& entries) {
        entry_id const id = adaptive_eviction::evict(entries);
        ghosts = bytes() / 4;
        return id;
    }
};

} // namespace

TEST_CASE("as much is remembered as entries have room, and not far more") {
    store_features features;
    features.weighs = true;
    std::uint64_t const capacity = 4000;
    cache_store<std::uint64_t, int, weighed_memory> entries(capacity, features, 0);
    std::uint64_t key = 0;
    for (std::uint64_t const weight : {5u, 2u, 1u, 20u, 4u}) {
        for (int i = 0; i < 10'000; ++i, ++key) {
            entries.insert({hash(key), key, 0, false, weight, entries.never, {}}, 0,
                           [](auto&&...) {});
        }
        INFO(entries.size() << " entries");
        CHECK(weighed_memory::ghosts >= entries.size());
        CHECK(weighed_memory::ghosts <= 8 * entries.size());
    }
}
