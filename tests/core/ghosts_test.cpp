// SPDX-License-Identifier: BSL-1.0
// What left a queue is remembered for as long as it says, also when its stamps begin again.
#include <tidegate/core/cache/ghosts.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace {

using tidegate::core::ghost_memory;
using enum ghost_memory::queue;

// Spread so evenly that no line of the table is full.
std::uint32_t hash(std::uint32_t i) { return i * 0x9e3779b9u; }

// How many of the `window` leavings before `end` are remembered.
std::size_t remembered(ghost_memory const& memory, std::uint32_t end, std::uint32_t window) {
    ghost_memory copy = memory; // taking changes it
    std::size_t n = 0;
    for (std::uint32_t i = end - window; i != end; ++i) n += copy.take(hash(i)).any;
    return n;
}

} // namespace

TEST_CASE("as many ghosts are remembered as it was made for, whatever number they have") {
    for (std::uint32_t const limit : {60u, 1000u, 4095u, 10'000u}) {
        INFO("limit " << limit);
        ghost_memory memory(limit, limit);
        // Stamps begin again after 2^15, which are up to three leavings each here.
        std::uint32_t const all = 250'000;
        for (std::uint32_t i = 0; i < all; ++i) {
            memory.remember(hash(i), i / limit % 8 == 7 ? main : small);
            if (i < limit || i % (limit / 3) != 0) continue;
            INFO("after " << i + 1);
            std::size_t const recent = remembered(memory, i + 1, limit * 9 / 10);
            REQUIRE(recent >= limit * 9 / 10 * 97 / 100);
        }
    }
}

TEST_CASE("ghosts are forgotten when as many have left after them as are remembered") {
    for (std::uint32_t const limit : {60u, 1000u, 10'000u}) {
        INFO("limit " << limit);
        // Room for many more, so that only their age takes them.
        ghost_memory memory(limit, 20 * limit);
        std::uint32_t const all = 120'000;
        for (std::uint32_t i = 0; i < all; ++i) memory.remember(hash(i), small);
        CHECK(remembered(memory, all, limit) >= limit - limit / 100 - 3);
        // A stamp is shared by some; a hash in some thousands looks like another.
        CHECK(remembered(memory, all - limit - limit / 100 - 3, limit) <= limit / 50);
        CHECK(std::abs(memory.size(small) - limit) < 1); // it comes nearer and nearer
    }
}

TEST_CASE("a ghost is found once, with the queue it came from") {
    ghost_memory memory(100, 100);
    memory.remember(hash(1), small);
    memory.remember(hash(2), main);
    auto const first = memory.take(hash(1)), second = memory.take(hash(2));
    CHECK((first.any && first.from == small));
    CHECK((second.any && second.from == main));
    CHECK(!memory.take(hash(1)).any);
    CHECK(!memory.take(hash(3)).any);
    CHECK(memory.size(small) == 0);
}

TEST_CASE("a full line loses those that left longest ago") {
    ghost_memory memory(1000, 1000);
    // The highest bits of a hash choose the line, which has room for sixteen.
    for (std::uint32_t i = 0; i < 20; ++i) memory.remember(0x70000000u | i, i % 2 ? main : small);
    for (std::uint32_t i = 0; i < 20; ++i) {
        INFO(i);
        CHECK(memory.take(0x70000000u | i).any == (i >= 4));
    }
}

TEST_CASE("there is one less when one was taken") {
    ghost_memory memory(1000, 1000);
    for (std::uint32_t i = 0; i < 10; ++i) memory.remember(hash(i), small);
    double const before = memory.size(small);
    CHECK(memory.take(hash(3)).any);
    CHECK(std::abs(before - 1 - memory.size(small)) < 1e-9);
}

TEST_CASE("a ghost takes four bytes, and a third more") {
    for (std::size_t const limit : {100u, 1000u, 100'000u}) {
        std::size_t const bytes = ghost_memory(limit, limit).bytes();
        CHECK(bytes >= 2 * limit * 4 * 4 / 3 - 64);
        CHECK(bytes <= 2 * limit * 4 * 4 / 3 + 64);
    }
    ghost_memory none;
    none.remember(hash(1), small);
    CHECK(!none.take(hash(1)).any);
    CHECK(none.bytes() == 0);
}
