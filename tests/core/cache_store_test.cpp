// SPDX-License-Identifier: BSL-1.0
// The store and its policies beside slow models.
#include <tidegate/core/cache/adaptive.hpp>
#include <tidegate/core/cache/lfu.hpp>
#include <tidegate/core/cache/lru.hpp>
#include <tidegate/core/cache/soonest_expiry.hpp>
#include <tidegate/core/cache/store.hpp>

#include "support/stress.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace {

using tidegate::removal_cause;
using namespace tidegate::core;

template <class Policy>
using store_of = cache_store<int, std::string, Policy>;

// Bad on purpose: many keys share a hash.
std::uint32_t hash(int key) { return static_cast<std::uint32_t>(key % 7) * 0x24924925u; }

struct nothing {
    void operator()(int&&, std::string&&, bool, removal_cause) const noexcept {}
};

template <class Store>
entry_id find(Store const& store, int key) {
    return store.find(hash(key), key, std::equal_to<>());
}

template <class Store>
void put(Store& store, int key, std::string value, std::uint64_t weight, std::int64_t until,
         std::int64_t now) {
    typename Store::fresh_entry fresh{hash(key), key, std::move(value), false, weight, until, {}};
    entry_id const id = find(store, key);
    if (id == no_entry) store.insert(std::move(fresh), now, nothing());
    else store.replace(id, std::move(fresh), now, nothing());
}

// What is in the model has the weight and value it ought to have; the store may hold less.
struct model_entry {
    std::string value;
    std::uint64_t weight;
    std::int64_t until;
};

} // namespace

TEMPLATE_TEST_CASE(
    "a store has what was put last, within its capacity, and loses only to make room", "",
    adaptive_eviction, lru_eviction, lfu_eviction, soonest_expiry_eviction) {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < test::schedules(2000) / 10; ++round) {
            std::uint64_t const capacity = 1 + test::below(random, 60);
            bool const weighs = random() % 2;
            store_features features;
            features.weighs = weighs;
            features.max_entries = weighs ? 0 : capacity;
            features.expires = true;
            store_of<TestType> store(capacity, features, 0);
            std::map<int, model_entry> model;
            std::int64_t now = 0;
            for (int step = 0; step < 200; ++step) {
                int const key = static_cast<int>(test::below(random, 30));
                std::size_t const choice = test::below(random, 100);
                if (choice < 45) {
                    std::uint64_t const weight = weighs ? test::below(random, capacity + 1) : 1;
                    std::int64_t const until =
                        random() % 3
                            ? now + static_cast<std::int64_t>(test::below(random, 50'000'000))
                            : store_of<TestType>::never;
                    std::string const value = std::to_string(step);
                    put(store, key, value, weight, until, now);
                    model[key] = {value, weight, until};
                } else if (choice < 75) {
                    if (entry_id const id = find(store, key); id != no_entry) store.touch(id);
                } else if (choice < 85) {
                    entry_id const id = find(store, key);
                    if (id != no_entry) store.erase(id, removal_cause::explicit_, nothing());
                    model.erase(key);
                } else if (choice < 97) {
                    now += static_cast<std::int64_t>(test::below(random, 10'000'000));
                    std::size_t budget = test::below(random, 10);
                    store.expire(now, budget, nothing());
                } else if (choice < 99) {
                    store.release_memory();
                } else {
                    store.clear(nothing());
                    model.clear();
                }
                REQUIRE(store.total_weight() <= capacity);
                std::uint64_t sum = 0;
                std::size_t count = 0;
                store.for_each([&](entry_id id) {
                    auto const it = model.find(store.key(id));
                    REQUIRE(it != model.end());
                    REQUIRE(store.value(id) == it->second.value);
                    REQUIRE(store.weight(id) == it->second.weight);
                    REQUIRE(find(store, store.key(id)) == id);
                    sum += store.weight(id);
                    ++count;
                });
                REQUIRE(sum == store.total_weight());
                REQUIRE(count == store.size());
                std::size_t visited = 0;
                store.visit_hottest_first([&](entry_id) { ++visited; });
                REQUIRE(visited == count);
            }
        }
    }
}

TEST_CASE("lru and lfu give up exactly what the definition says") {
    test::random random(test::seeds().front());
    for (int round = 0; round < 200; ++round) {
        std::size_t const capacity = 1 + test::below(random, 20);
        store_features features;
        features.max_entries = capacity;
        store_of<lru_eviction> lru(capacity, features, 0);
        store_of<lfu_eviction> lfu(capacity, features, 0);
        std::vector<int> recent;                   // the oldest first
        std::vector<std::pair<int, int>> frequent; // key, uses; the oldest use first
        for (int step = 0; step < 300; ++step) {
            int const key = static_cast<int>(test::below(random, 30));
            if (auto const it = std::find(recent.begin(), recent.end(), key); it != recent.end()) {
                lru.touch(find(lru, key));
                recent.erase(it);
            } else {
                put(lru, key, "", 1, 0, 0);
                if (recent.size() == capacity) recent.erase(recent.begin());
            }
            recent.push_back(key);
            auto const it = std::find_if(frequent.begin(), frequent.end(),
                                         [&](auto const& f) { return f.first == key; });
            int uses = 1;
            if (it != frequent.end()) {
                lfu.touch(find(lfu, key));
                uses = it->second + 1;
                frequent.erase(it);
            } else {
                put(lfu, key, "", 1, 0, 0);
                if (frequent.size() == capacity) {
                    frequent.erase(std::min_element(
                        frequent.begin(), frequent.end(),
                        [](auto const& a, auto const& b) { return a.second < b.second; }));
                }
            }
            frequent.emplace_back(key, uses);
            std::vector<int> lru_keys;
            lru.visit_hottest_first([&](entry_id id) { lru_keys.push_back(lru.key(id)); });
            REQUIRE(lru_keys == std::vector<int>(recent.rbegin(), recent.rend()));
            REQUIRE(lfu.size() == frequent.size());
            for (auto const& [k, n] : frequent) REQUIRE(find(lfu, k) != no_entry);
        }
    }
}

TEST_CASE("a scan does not drive out what is popular, and a loop longer than the cache has hits") {
    store_features features;
    features.max_entries = 100;
    std::size_t const popular = 80;
    cache_store<int, int, adaptive_eviction> store(100, features, 0);
    auto const nop = [](int&&, int&&, bool, removal_cause) noexcept {};
    auto use = [&](int key) {
        auto const h = static_cast<std::uint32_t>(key) * 0x9E3779B1u;
        entry_id const id = store.find(h, key, std::equal_to<>());
        if (id != no_entry) {
            store.touch(id);
            return true;
        }
        store.insert({h, key, 0, false, 1, cache_store<int, int, adaptive_eviction>::never, {}}, 0,
                     nop);
        return false;
    };
    for (int round = 0; round < 5; ++round) {
        for (int k = 0; k < static_cast<int>(popular); ++k) use(k);
    }
    for (int k = 1000; k < 3000; ++k) use(k); // a scan
    int kept = 0;
    for (int k = 0; k < static_cast<int>(popular); ++k) kept += use(k);
    CHECK(kept >= 70);
    int hits = 0;
    for (int i = 0; i < 120 * 200; ++i) hits += use(10'000 + i % 120); // 120 keys, room for 100
    CHECK(hits > 120 * 200 / 5);                                       // LRU has none
}
