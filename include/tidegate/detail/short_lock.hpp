// SPDX-License-Identifier: BSL-1.0
// A lock for a few dozen instructions.
#pragma once

#include <tidegate/detail/cpu_pause.hpp>

#include <atomic>
#include <thread>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Half the price of a std::mutex when nobody contends, since unlocking is a plain store. Who has
/// to wait looks for a moment, then gives up its turn: a holder that was preempted is waited for by
/// yielding. For critical sections that are short and call nothing unknown.
class short_lock {
public:
    void lock() noexcept {
        if (held_.exchange(true, std::memory_order_acquire)) [[unlikely]]
            wait();
    }
    bool try_lock() noexcept { return !held_.exchange(true, std::memory_order_acquire); }
    void unlock() noexcept { held_.store(false, std::memory_order_release); }

private:
    void wait() noexcept {
        int looks = 0;
        do {
            while (held_.load(std::memory_order_relaxed)) {
                if (++looks < 64) cpu_pause();
                else std::this_thread::yield();
            }
        } while (!try_lock());
    }

    std::atomic<bool> held_{false};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
