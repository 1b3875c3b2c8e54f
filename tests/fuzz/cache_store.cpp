// SPDX-License-Identifier: BSL-1.0
// The store of a cache with each policy, against a map that forgets nothing on its own.
#include "fuzz/input.hpp"

#include <tidegate/core/cache/adaptive.hpp>
#include <tidegate/core/cache/lfu.hpp>
#include <tidegate/core/cache/lru.hpp>
#include <tidegate/core/cache/soonest_expiry.hpp>
#include <tidegate/core/cache/store.hpp>

#include <functional>
#include <map>

namespace {

using namespace tidegate::core;
using tidegate::removal_cause;

struct model_entry {
    std::uint64_t value, weight;
    std::int64_t until;
};

template <class Policy>
void run(fuzz::input in) {
    using store_type = cache_store<std::uint64_t, std::uint64_t, Policy>;
    std::uint64_t const capacity = 1 + in.below(100);
    store_features features;
    features.weighs = in.byte() % 2;
    features.max_entries = features.weighs ? 0 : capacity;
    features.expires = true;
    store_type store(capacity, features, 0);
    std::map<std::uint64_t, model_entry> model;
    std::int64_t now = 0;
    std::uint64_t next = 0;
    std::uint64_t lost_to_size = 0;
    auto const removed = [&](std::uint64_t&& key, std::uint64_t&& value, bool,
                             removal_cause why) noexcept {
        auto const it = model.find(key);
        fuzz::require(it != model.end(), "only what was put is removed");
        fuzz::require(why == removal_cause::replaced || it->second.value == value,
                      "with its value");
        fuzz::require(why != removal_cause::expired || it->second.until <= now,
                      "never before its time");
        if (why == removal_cause::size) ++lost_to_size;
        if (why != removal_cause::replaced) model.erase(it);
    };
    // Many keys share a hash.
    auto const hash = [](std::uint64_t key) {
        return static_cast<std::uint32_t>(key % 7) * 0x24924925u;
    };
    auto const find = [&](std::uint64_t key) {
        return store.find(hash(key), key, std::equal_to<>());
    };

    for (int step = 0; step < 400 && !in.empty(); ++step) {
        std::uint64_t const key = in.below(64);
        entry_id const id = find(key);
        switch (in.byte() % 8) {
        case 0:
        case 1:
        case 2: {
            std::uint64_t const weight = features.weighs ? in.below(capacity + 1) : 1;
            std::int64_t const until =
                in.byte() % 2 ? now + static_cast<std::int64_t>(in.number(4)) : store_type::never;
            typename store_type::fresh_entry fresh{hash(key), key,   ++next, false,
                                                   weight,    until, {}};
            if (id != no_entry) {
                // The replaced value goes, and the newer one may have to make room for itself.
                model[key] = {next, weight, until};
                store.replace(id, std::move(fresh), now, removed);
            } else {
                bool const fits = store.total_weight() + weight <= capacity;
                std::uint64_t const before = lost_to_size;
                model[key] = {next, weight, until};
                store.insert(std::move(fresh), now, removed);
                fuzz::require(!fits || lost_to_size == before, "nobody leaves for who has room");
            }
            break;
        }
        case 3:
        case 4:
            if (id != no_entry) store.touch(id);
            break;
        case 5:
            if (id != no_entry) store.erase(id, removal_cause::explicit_, removed);
            break;
        case 6: {
            now += static_cast<std::int64_t>(in.number(4));
            std::size_t budget = in.below(10);
            store.expire(now, budget, removed);
            break;
        }
        default:
            if (in.byte() % 16 == 0) store.clear(removed);
            else store.release_memory();
        }
        std::uint64_t weight = 0;
        store.for_each([&](entry_id each) {
            auto const it = model.find(store.key(each));
            fuzz::require(it != model.end() && it->second.value == store.value(each),
                          "the last value put");
            weight += store.weight(each);
        });
        fuzz::require(store.size() == model.size(), "nothing leaves unheard");
        fuzz::require(weight == store.total_weight() && weight <= capacity, "the weight fits");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    switch (in.byte() % 4) {
    case 0: run<adaptive_eviction>(in); break;
    case 1: run<lru_eviction>(in); break;
    case 2: run<lfu_eviction>(in); break;
    default: run<soonest_expiry_eviction>(in);
    }
    return 0;
}
