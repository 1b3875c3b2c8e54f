// SPDX-License-Identifier: BSL-1.0
// What is allowed by a comment, and comments that allow nothing.
#include "prelude.hpp"

namespace allowed {

// tidegate-lint: allow(blocking-sleep) the test needs it to be late
task n01() { ::usleep(1); co_return; }
task n02() { ::usleep(1); co_return; } // tidegate-lint: allow(blocking-sleep) the same
task n03() { ::usleep(1); co_return; } // tidegate-lint: allow(*) the same
void naps() { ::usleep(1); }
task n04() { naps(); co_return; } // tidegate-lint: allow(blocking-sleep) only from here

void naps_for_two() { ::usleep(1); } // finds blocking-sleep
task p03(bool b) {
    if (b) naps_for_two(); // tidegate-lint: allow(blocking-sleep) only this one
    naps_for_two();
    co_return;
}
task p01() { ::usleep(1); co_return; } // finds blocking-sleep tidegate-lint: allow(blocking-file) another rule
task p02() { ::usleep(1); co_return; } // finds blocking-sleep tidegate-lint: allow(blocking-sleep)

} // namespace allowed
