// SPDX-License-Identifier: BSL-1.0
// A call let in by a limit that follows latency, and its success.
#include "bench.hpp"

#include <tidegate/adaptive_limiter.hpp>

namespace {

using namespace bench;

group const adaptive{[] {
    row("adaptive/tidegate", cpu_time, [](run& r) {
        tidegate::adaptive_limiter limiter;
        while (r.more()) {
            auto permit = limiter.try_acquire();
            permit.success();
        }
    });
    // Latency takes two readings of the clock, which are most of it.
    claim("adaptive_admission", ratio_of("adaptive/tidegate", "clock/steady_clock"), at_most(3));
    claim("adaptive_allocations", allocations_of("adaptive/tidegate"), at_most(0));
}};

} // namespace
