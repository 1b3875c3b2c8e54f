// SPDX-License-Identifier: BSL-1.0
// Random numbers where nobody wants to repeat them.
#pragma once

#include <tidegate/config.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
/// For what should differ, such as pauses; no secret depends on it.
class split_mix {
public:
    using result_type = std::uint64_t;

    explicit split_mix(std::uint64_t seed) noexcept : state_(seed) {}

    static constexpr result_type min() noexcept { return 0; }
    static constexpr result_type max() noexcept { return ~result_type{0}; }

    result_type operator()() noexcept {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

private:
    std::uint64_t state_;
};

/// This thread's generator. Its seed differs between threads by a count, and between processes and
/// machines by two clocks and by where the system put the thread's memory. Do not keep the
/// reference across a suspension: the coroutine may go on elsewhere.
inline split_mix& thread_random() noexcept {
    static std::atomic<std::uint64_t> threads{0};
    static thread_local char here = 0;
    static thread_local split_mix engine = [] {
        auto const ticks = [](auto now) {
            return static_cast<std::uint64_t>(now.time_since_epoch().count());
        };
        std::uint64_t seed = 0;
        for (std::uint64_t const differs :
             {threads.fetch_add(1, std::memory_order_relaxed),
              std::uint64_t{reinterpret_cast<std::uintptr_t>(&here)},
              ticks(std::chrono::steady_clock::now()), ticks(std::chrono::system_clock::now())}) {
            seed = split_mix(seed ^ differs)();
        }
        return split_mix(seed);
    }();
    return engine;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
