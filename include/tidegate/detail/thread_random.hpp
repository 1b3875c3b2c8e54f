// SPDX-License-Identifier: BSL-1.0
// Random numbers where nobody wants to repeat them.
#pragma once

#include <tidegate/config.hpp>

#include <random>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// This thread's generator, seeded once from the system. Do not keep the reference across a
/// suspension: the coroutine may go on elsewhere.
inline std::mt19937_64& thread_random() {
    static thread_local std::mt19937_64 engine = [] {
        std::random_device device;
        std::seed_seq seed{device(), device(), device(), device()};
        return std::mt19937_64(seed);
    }();
    return engine;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
