// SPDX-License-Identifier: BSL-1.0
// How many random schedules a stress test runs, and from which seeds.
#pragma once

#include "support/sanitized.hpp"

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace test {

/// TIDEGATE_STRESS_SCHEDULES, or what a plain test run does; a quarter of that under a sanitizer.
inline std::size_t schedules(std::size_t otherwise = 20000) {
    char const* const wanted = std::getenv("TIDEGATE_STRESS_SCHEDULES");
    if (wanted) return std::stoull(wanted);
    return sanitized && otherwise > 100 ? otherwise / 4 : otherwise;
}

/// One seed that is always the same and a fresh one; only TIDEGATE_STRESS_SEED where that is set.
inline std::vector<std::uint64_t> seeds() {
    if (char const* const wanted = std::getenv("TIDEGATE_STRESS_SEED"))
        return {std::stoull(wanted)};
    return {20261120, (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}()};
}

using random = std::mt19937_64;

/// 0 to below `limit`.
inline std::size_t below(random& r, std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(r);
}

} // namespace test
