// SPDX-License-Identifier: BSL-1.0
// Chance, without what <random> takes to compile.
#pragma once

#include <tidegate/config.hpp>

#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace core {

/// A number from 0 to just below 1: one of 2^53, each as likely as the next. `random()` gives 64
/// random bits.
template <class Random>
double in_unit_interval(Random& random) {
    static_assert(Random::min() == 0 && Random::max() == ~std::uint64_t{0},
                  "a generator of 64 random bits");
    return static_cast<double>(random() >> 11) * 0x1p-53;
}

} // namespace core
TIDEGATE_END_NAMESPACE
