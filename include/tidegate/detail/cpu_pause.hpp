// SPDX-License-Identifier: BSL-1.0
// Tells the processor that this thread spins.
#pragma once

#include <tidegate/config.hpp>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

inline void cpu_pause() noexcept {
#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
    _mm_pause();
#elif defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

} // namespace detail
TIDEGATE_END_NAMESPACE
