// SPDX-License-Identifier: BSL-1.0
// A token bucket whose arithmetic is exact, against a level that is kept as a fraction.
#include "fuzz/input.hpp"

#include <tidegate/core/token_bucket.hpp>

#include <chrono>

namespace {

__extension__ using wide = __int128;

// Permits in the bucket, times the period.
struct exact_level {
    wide permits, period, burst, level;
    std::int64_t at;

    void move_to(std::int64_t now) {
        level = std::min(burst * period, level + wide(now - at) * permits);
        at = now;
    }
    bool take(std::uint64_t n) {
        if (level < wide(n) * period) return false;
        level -= wide(n) * period;
        return true;
    }
    void give_back(std::uint64_t n) { level = std::min(burst * period, level + wide(n) * period); }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    std::uint64_t const permits = 1 + in.below(1000);
    std::uint64_t const period = permits + in.number(5);
    std::uint64_t const burst = 1 + in.below(1000);
    std::int64_t now = static_cast<std::int64_t>(in.number(6));
    bool const full = in.byte() % 2;
    tidegate::core::token_bucket bucket(permits, std::chrono::nanoseconds(period), burst, now,
                                        full);
    exact_level model{permits, period, burst, full ? wide(burst) * period : 0, now};

    for (int step = 0; step < 300 && !in.empty(); ++step) {
        std::uint64_t const n = 1 + in.below(burst);
        switch (in.byte() % 4) {
        case 0: now += static_cast<std::int64_t>(in.number(4)); break;
        case 1:
            // To the very moment at which it says that there are enough, or just before it.
            if (std::int64_t const when = bucket.when(n, now);
                when > now && when - now < 1LL << 50) {
                model.move_to(when - 1);
                fuzz::require(model.level < wide(n) * model.period, "no permits before that time");
                now = when;
                model.move_to(now);
                fuzz::require(model.level >= wide(n) * model.period, "permits at that time");
            }
            break;
        default: {
            model.move_to(now);
            bool const expected = model.take(n);
            fuzz::require(bucket.take(n, now) == expected, "it takes what the model takes");
            if (expected && in.byte() % 4 == 0) {
                bucket.refund(n);
                model.give_back(n);
            }
        }
        }
    }
    return 0;
}
