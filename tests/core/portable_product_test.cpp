// SPDX-License-Identifier: BSL-1.0
// Products of 128 bits, as compilers work them out that have no such numbers.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>

// In a namespace of its own: the other files of this program know the same names with them.
#include <tidegate/config.hpp>
#undef TIDEGATE_ABI
#define TIDEGATE_ABI without_wide_numbers
#undef __SIZEOF_INT128__
#include <tidegate/core/token_bucket.hpp>

using tidegate::without_wide_numbers::core::bucket_terms;
using tidegate::without_wide_numbers::core::wide_product;

namespace {

__extension__ using wide = unsigned __int128;

void check(std::uint64_t a, std::uint64_t b) {
    INFO(a << " * " << b);
    wide const product = wide(a) * b;
    auto const p = wide_product::of(a, b);
    REQUIRE(p.high == static_cast<std::uint64_t>(product >> 64));
    REQUIRE(p.low == static_cast<std::uint64_t>(product));
}

} // namespace

TEST_CASE("products of two halves each are exact, with every carry there is") {
    std::array<std::uint64_t, 6> const halves = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff};
    for (auto const a1 : halves) {
        for (auto const a0 : halves) {
            for (auto const b1 : halves) {
                for (auto const b0 : halves) check(a1 << 32 | a0, b1 << 32 | b0);
            }
        }
    }
    std::mt19937_64 random(1);
    for (int i = 0; i < 20000; ++i) {
        std::uint64_t const a = random() >> (random() % 64);
        std::uint64_t const b = random() >> (random() % 64);
        check(a, b);
    }
}

TEST_CASE("a bucket earns the same by products of halves") {
    // 1'000'003 a day: so much a nanosecond that most products need more than 64 bits.
    std::uint64_t const day = 86'400'000'000'000;
    bucket_terms const terms(1'000'003, day, 1'000'003, 0);
    for (std::int64_t t = 1; terms.covers(t); t = t * 3 + 1) {
        wide const exact = wide(static_cast<std::uint64_t>(t)) * terms.units(1'000'003) / day;
        auto const earned = terms.earned(t) - terms.burst();
        CHECK(earned <= exact);
        CHECK(earned + 1 >= exact);
    }
}
