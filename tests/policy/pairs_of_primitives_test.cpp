// SPDX-License-Identifier: BSL-1.0
// Random failures, delays, cancellations and timeouts in every ordered pair of layers, and nothing
// may be lost: those with a rate limiter, a bulkhead, a breaker or an adaptive limiter outside.
#include "policy/pairs_support.hpp"

namespace test {

TEST_CASE("nothing is lost under chaos in pairs with a rate limiter, a bulkhead, a breaker or an "
          "adaptive limiter outside",
          "[stress]") {
    exercise_pairs<4, 5, 6, 7>();
}

} // namespace test
