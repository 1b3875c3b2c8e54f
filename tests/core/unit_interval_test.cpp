// SPDX-License-Identifier: BSL-1.0
// Chance: all of an interval is reached and no end is passed, and no two threads draw the same.
#include <tidegate/core/unit_interval.hpp>
#include <tidegate/detail/thread_random.hpp>

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

namespace {

using tidegate::core::in_unit_interval;
using tidegate::detail::split_mix;
using tidegate::detail::thread_random;

struct always {
    std::uint64_t bits;

    static constexpr std::uint64_t min() { return 0; }
    static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }
    std::uint64_t operator()() const { return bits; }
};

double in_unit_interval_of(std::uint64_t bits) {
    always const random{bits};
    return in_unit_interval(random);
}

} // namespace

TEST_CASE("the unit interval begins with 0 and ends before 1") {
    CHECK(in_unit_interval_of(0) == 0);
    CHECK(in_unit_interval_of(~std::uint64_t{0}) == 1 - 0x1p-53);
    CHECK(in_unit_interval_of(std::uint64_t{1} << 63) == 0.5);
    CHECK(in_unit_interval_of((std::uint64_t{1} << 11) - 1) == 0);
    CHECK(in_unit_interval_of(std::uint64_t{1} << 11) == 0x1p-53);
}

TEST_CASE("a thread's numbers are even") {
    constexpr std::size_t boxes = 100, draws = 1'000'000;
    std::array<double, boxes> in{};
    split_mix random(7);
    for (std::size_t i = 0; i < draws; ++i)
        ++in[static_cast<std::size_t>(in_unit_interval(random) * boxes)];
    double chi_squared = 0;
    for (double const n : in) {
        double const expected = static_cast<double>(draws) / boxes;
        chi_squared += (n - expected) * (n - expected) / expected;
    }
    CHECK(chi_squared < 160); // 99 degrees of freedom: once in ten thousand seeds
}

// As other implementations of SplitMix64 have it.
TEST_CASE("a seed gives the numbers that it gives everywhere") {
    split_mix random(1234567);
    for (std::uint64_t const expected :
         {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u,
          16408922859458223821u}) {
        CHECK(random() == expected);
    }
}

TEST_CASE("no two threads draw the same numbers") {
    std::vector<std::uint64_t> first(64);
    for (std::uint64_t& one : first) std::thread([&] { one = thread_random()(); }).join();
    CHECK(std::set<std::uint64_t>(first.begin(), first.end()).size() == first.size());
    std::uint64_t const mine = thread_random()();
    CHECK(thread_random()() != mine);
}
