// SPDX-License-Identifier: BSL-1.0
// About what time it is, for an eighth of the price.
#pragma once

#include <tidegate/config.hpp>

#include <chrono>
#include <cstdint>
#include <limits>

#if defined(__linux__)
#include <time.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Decides most comparisons with a deadline without reading the clock itself, which takes 20 to 25
/// ns. `quick_clock::now()` is never ahead of the clock, and behind it by less than `lag`; who is
/// that near to a deadline has to ask the clock. Times are nanoseconds since the clock's epoch.
template <class Clock>
struct quick_clock {
    static constexpr std::int64_t lag = 0;
    static std::int64_t now() noexcept { return exact(); }
    static std::int64_t exact() noexcept {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
            .count();
    }
};

#if defined(__linux__)
/// The kernel's time as of its last tick: at most 10 ms old by its configuration. On a virtual
/// machine whose processors were taken away it has been seen 8 ms old with ticks of 4 ms.
template <>
struct quick_clock<std::chrono::steady_clock> {
    static constexpr std::int64_t lag = 30'000'000;
    static std::int64_t now() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
        return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
    }
    static std::int64_t exact() noexcept {
        return std::chrono::steady_clock::now().time_since_epoch().count();
    }
};
#endif

/// `a + b`, at most the largest number; `b` must not be negative.
inline std::int64_t add_saturated(std::int64_t a, std::int64_t b) noexcept {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    return a > most - b ? most : a + b;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
