// SPDX-License-Identifier: BSL-1.0
// Random failures, delays, cancellations and timeouts in every ordered pair of layers, and nothing
// may be lost: those with a fallback, a timeout, a retry or a hedge outside.
#include "policy/pairs_support.hpp"

namespace test {

TEST_CASE(
    "nothing is lost under chaos in pairs with a fallback, a timeout, a retry or a hedge outside",
    "[stress]") {
    exercise_pairs<0, 1, 2, 3>();
}

} // namespace test
