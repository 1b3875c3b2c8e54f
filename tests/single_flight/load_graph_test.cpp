// SPDX-License-Identifier: BSL-1.0
// Loads that wait for loads, in many ways and in long lines.
#include <tidegate/detail/load_graph.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <deque>
#include <memory>

using tidegate::detail::load_node;
using tidegate::detail::load_wait;

namespace {

struct node : load_node {};

/// Loads by number, and who waits for whom.
struct graph {
    std::deque<std::shared_ptr<node>> nodes;
    std::deque<load_wait> waits;

    explicit graph(std::size_t size) {
        for (std::size_t i = 0; i < size; ++i) nodes.push_back(std::make_shared<node>());
    }
    bool wait(std::size_t who, std::size_t on) {
        return waits.emplace_back().begin(nodes[who], nodes[on]);
    }
};

} // namespace

TEST_CASE("loads that wait for two others each are looked at once") {
    constexpr std::size_t size = 90; // 2^62 ways lead from the last to the first
    graph all(size);
    for (std::size_t i = 2; i < size; ++i) {
        REQUIRE(all.wait(i, i - 1));
        REQUIRE(all.wait(i, i - 2));
    }
    auto const another = std::make_shared<node>();
    CHECK(all.waits.emplace_back().begin(another, all.nodes.back()));
    CHECK_FALSE(all.wait(0, size - 1));
    CHECK(all.waits.size() == 2 * (size - 2) + 2);
}

TEST_CASE("a long line of loads that wait takes no stack") {
    constexpr std::size_t size = 1'000'000;
    graph all(size);
    for (std::size_t i = 0; i + 1 < size; ++i) REQUIRE(all.wait(i, i + 1));
    CHECK_FALSE(all.wait(size - 1, 0));
}
