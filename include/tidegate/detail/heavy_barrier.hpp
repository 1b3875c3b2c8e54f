// SPDX-License-Identifier: BSL-1.0
// A memory barrier that the other threads need not take part in.
#pragma once

#include <tidegate/detail/fast_word.hpp>

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/membarrier.h>)
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TIDEGATE_HAS_MEMBARRIER 1
#endif
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The heavy half of an asymmetric fence (C++ Concurrency TS 2, P1202): after `pass`, every thread
/// of the process has gone through a full barrier since it was called. So what another thread
/// stored before its own later loads, with nothing but the compiler kept from swapping them
/// (`std::atomic_signal_fence`), is either seen by who comes from `pass`, or those loads see what
/// was stored before `pass`. Takes microseconds.
class heavy_barrier {
public:
    /// False if the system has none.
    static bool works() noexcept {
#if defined(TIDEGATE_HAS_MEMBARRIER)
        static bool const ready = call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) &&
                                  call(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        return ready;
#else
        return false;
#endif
    }

    /// False if it did not work after all.
    static bool pass() noexcept {
        if (process_has_one_thread()) return true;
#if defined(TIDEGATE_HAS_MEMBARRIER)
        return works() && call(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
#else
        return false;
#endif
    }

private:
#if defined(TIDEGATE_HAS_MEMBARRIER)
    static bool call(int command) noexcept { return ::syscall(SYS_membarrier, command, 0, 0) == 0; }
#endif
};

} // namespace detail
TIDEGATE_END_NAMESPACE
