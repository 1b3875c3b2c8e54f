// SPDX-License-Identifier: BSL-1.0
// What stands before the two things that can go wrong without an end: the inference backend and the
// decoders.
#pragma once

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/timeout.hpp>

#include <chrono>
#include <utility>

namespace vision {

struct guard_limits {
    std::chrono::milliseconds inference{30'000}; // of one frame, with its retries
    // 100 ms..1 h, of one call into a decoder: to read or pass over a frame, or to open a source.
    std::chrono::milliseconds decoding{30'000};
};

inline tidegate::circuit_breaker_options backend_breaker_options() {
    return tidegate::circuit_breaker_options().consecutive_failures(10).open_duration(
        std::chrono::milliseconds(500));
}

inline auto make_backend_guard(tidegate::circuit_breaker& breaker, const guard_limits& limits) {
    auto const retries = tidegate::retry_options()
                             .max_attempts(5)
                             .base(std::chrono::milliseconds(20))
                             .cap(std::chrono::seconds(2))
                             .idempotent(true);
    tidegate::timeout const in_time(limits.inference);
    tidegate::retry const again(retries);
    return tidegate::policy(in_time, again, breaker);
}

// A decoder cannot be interrupted: who waits for one that hangs leaves it behind.
inline auto make_decoder_guard(const guard_limits& limits) {
    tidegate::timeout in_time(limits.decoding);
    in_time.abandon(true);
    return tidegate::policy(in_time);
}

using backend_guard =
    decltype(make_backend_guard(std::declval<tidegate::circuit_breaker&>(), guard_limits()));
using decoder_guard = decltype(make_decoder_guard(guard_limits()));

} // namespace vision
