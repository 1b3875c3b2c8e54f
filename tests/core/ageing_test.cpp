// SPDX-License-Identifier: BSL-1.0
// The most urgent first, and everybody in time.
#include <tidegate/core/ageing.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <random>
#include <vector>

using tidegate::core::ageing;

TEST_CASE("a less urgent line has its turn after it was passed over often enough") {
    ageing<2> lines(3);
    std::vector<std::size_t> chosen;
    for (int i = 0; i < 9; ++i) chosen.push_back(lines.choose([](std::size_t) { return false; }));
    CHECK(chosen == std::vector<std::size_t>{0, 0, 0, 1, 0, 0, 0, 1, 0});
}

TEST_CASE("an empty line is never chosen, and gathers no age") {
    ageing<3> lines(2);
    auto const only_first = [](std::size_t level) { return level > 0; };
    for (int i = 0; i < 10; ++i) CHECK(lines.choose(only_first) == 0);
    auto const all = [](std::size_t) { return false; };
    CHECK(lines.choose(all) == 0);
    CHECK(lines.choose(all) == 0);
    CHECK(lines.choose(all) == 2);
    CHECK(lines.choose(all) == 1);
    auto const only_last = [](std::size_t level) { return level < 2; };
    CHECK(lines.choose(only_last) == 2);
}

TEST_CASE("the bound on waiting holds for any pattern") {
    std::mt19937_64 random(11);
    for (std::uint32_t const patience : {1u, 2u, 5u, 16u}) {
        ageing<4> lines(patience);
        std::array<std::uint32_t, 4> waited{};
        for (int i = 0; i < 20000; ++i) {
            std::array<bool, 4> empty{};
            // Lines stay non-empty for long stretches, or age would mean nothing.
            for (std::size_t level = 0; level < 3; ++level) empty[level] = random() % 8 == 0;
            std::size_t const chosen =
                lines.choose([&](std::size_t level) { return empty[level]; });
            REQUIRE_FALSE(empty[chosen]);
            for (std::size_t level = 0; level < 4; ++level) {
                waited[level] = level == chosen || empty[level] ? 0 : waited[level] + 1;
            }
            REQUIRE(waited[3] < patience + 3);
        }
    }
}
