// SPDX-License-Identifier: BSL-1.0
// The table of a cache beside a multimap, and how large it is.
#include <tidegate/core/cache/index.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

using tidegate::core::cache_index;
using tidegate::core::entry_id;
using tidegate::core::no_entry;

std::uint32_t mixed(std::uint32_t i) { return i * 0x9e3779b9u; }

void fill(cache_index& index, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) index.insert(mixed(i), i);
}
void empty(cache_index& index, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) index.erase(mixed(i), i);
}

} // namespace

TEST_CASE("entries are found by hash and number as long as they are there") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t round = 0; round < 1 + test::schedules(4000) / 100; ++round) {
            // Few hashes, among them the last ones, whose entries lie round the end of the table.
            std::uint32_t const hashes = 1 + static_cast<std::uint32_t>(test::below(random, 12));
            std::size_t const ids = 1 + test::below(random, 40);
            cache_index index(random() % 2 ? ids : 0);
            std::vector<bool> is_there(ids);
            auto const hash_of = [&](entry_id id) {
                return ~std::uint32_t{0} - id % hashes * 0x10000000u;
            };
            for (int step = 0; step < 300; ++step) {
                auto const id = static_cast<entry_id>(test::below(random, ids));
                if (is_there[id]) index.erase(hash_of(id), id);
                else index.insert(hash_of(id), id);
                is_there[id] = !is_there[id];
                if (random() % 16 == 0) index.shrink();
                REQUIRE(index.size() ==
                        static_cast<std::size_t>(std::ranges::count(is_there, true)));
                for (entry_id i = 0; i < ids; ++i) {
                    entry_id const expected = is_there[i] ? i : no_entry;
                    auto const is_it = [i](entry_id other) { return other == i; };
                    REQUIRE(index.find(hash_of(i), is_it) == expected);
                    entry_id seen = no_entry;
                    REQUIRE(index.glance(hash_of(i), is_it, seen));
                    REQUIRE(seen == expected);
                }
            }
        }
    }
}

TEST_CASE("a look gives up after too many places, and says so") {
    cache_index index;
    for (entry_id id = 0; id < 200; ++id) index.insert(7, id);
    int unknown = 0;
    for (entry_id id = 0; id < 200; ++id) {
        auto const is_it = [id](entry_id other) { return other == id; };
        entry_id seen = no_entry;
        if (index.glance(7, is_it, seen)) CHECK(seen == id);
        else ++unknown;
        CHECK(index.find(7, is_it) == id);
    }
    CHECK(unknown >= 100);
    CHECK(unknown < 200);
}

TEST_CASE("hashes that are mixed are found at first sight, nearly") {
    cache_index index(10'000);
    fill(index, 0, 10'000);
    for (std::uint32_t i = 0; i < 10'000; ++i) {
        entry_id seen = no_entry;
        REQUIRE(index.glance(mixed(i), [i](entry_id other) { return other == i; }, seen));
        REQUIRE(seen == i);
    }
}

TEST_CASE("a table grows by doubling, and is three fifths full at most") {
    cache_index index;
    std::size_t before = index.places();
    CHECK(before == 8);
    for (std::uint32_t i = 0; i < 5000; ++i) {
        bool const was_full = (index.size() + 1) * 5 > before * 3;
        auto const old = index.insert(mixed(i), i);
        CHECK(bool(old) == was_full);
        CHECK(index.places() == (was_full ? 2 * before : before));
        before = index.places();
    }
}

TEST_CASE("a table that knows how many there will be is as large as they need at last") {
    for (std::uint32_t const most : {1u, 4u, 15u, 100u, 1000u, 4096u}) {
        INFO("at most " << most);
        cache_index index(most);
        std::size_t resized = 0;
        for (std::uint32_t i = 0; i < most; ++i) resized += bool(index.insert(mixed(i), i));
        std::size_t const enough = most + most * 2 / 3 + 8;
        CHECK(index.places() == (most <= 4 ? 8 : enough));
        CHECK(resized <= 10);
    }
    cache_index index(15); // whose end is 33 places
    fill(index, 0, 5);
    CHECK(index.places() == 16);
}

TEST_CASE("memory is given back when an eighth is left, and not sooner") {
    auto const shrunk = [](cache_index& index, std::uint32_t left, std::size_t places) {
        std::uint32_t const all = static_cast<std::uint32_t>(places * 3 / 5);
        fill(index, 0, all);
        REQUIRE(index.places() == places);
        empty(index, left, all);
        bool const changed = bool(index.shrink());
        CHECK(changed == (index.places() != places));
        for (std::uint32_t i = 0; i < all; ++i) {
            entry_id const expected = i < left ? i : no_entry;
            CHECK(index.find(mixed(i), [i](entry_id other) { return other == i; }) == expected);
        }
        return index.places();
    };
    auto const after = [&](std::uint32_t left, std::size_t places) {
        cache_index index;
        return shrunk(index, left, places);
    };
    CHECK(after(40, 128) == 128);
    CHECK(after(16, 128) == 128);
    CHECK(after(15, 128) == 30);
    CHECK(after(3, 128) == 8);
    CHECK(after(0, 128) == 8);
    CHECK(after(1, 64) == 64);

    cache_index index;
    CHECK(shrunk(index, 5, 128) == 10);
    index.insert(mixed(200), 200);
    CHECK(index.places() == 10); // three fifths
    index.insert(mixed(201), 201);
    CHECK(index.places() == 20);
}
