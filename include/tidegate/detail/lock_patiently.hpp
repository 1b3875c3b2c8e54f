// SPDX-License-Identifier: BSL-1.0
// Locks a mutex that its holders keep for a few instructions only.
#pragma once

#include <tidegate/detail/cpu_pause.hpp>

#include <mutex>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Tries for a moment before it lets the thread sleep. Where threads take turns at a short critical
/// section, sleeping costs two context switches for a wait of some tens of nanoseconds. Bounded, so
/// a holder that was preempted is waited for asleep.
inline void lock_patiently(std::unique_lock<std::mutex>& lock) {
    for (int i = 0; i < 64; ++i) {
        if (lock.try_lock()) return;
        cpu_pause();
    }
    lock.lock();
}

[[nodiscard]] inline std::unique_lock<std::mutex> lock_patiently(std::mutex& mutex) {
    std::unique_lock lock(mutex, std::defer_lock);
    lock_patiently(lock);
    return lock;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
