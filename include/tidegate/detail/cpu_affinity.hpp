// SPDX-License-Identifier: BSL-1.0
// Binds threads to processors, where the system can.
#pragma once

#include <tidegate/config.hpp>

#include <stdexcept>
#include <string>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Throws std::invalid_argument for a processor that this process may not use.
inline void check_cpus(char const* option, std::vector<unsigned> const& cpus) {
#if defined(__linux__)
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return; // more than the set can name
    for (unsigned const cpu : cpus) {
        if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)) continue;
        throw std::invalid_argument(std::string("tidegate: ") + option + " names processor " +
                                    std::to_string(cpu) +
                                    ", which this process may not use or which is not there");
    }
#else
    static_cast<void>(option);
    static_cast<void>(cpus);
#endif
}

inline void bind_this_thread(unsigned cpu) noexcept {
#if defined(__linux__)
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    pthread_setaffinity_np(pthread_self(), sizeof(only), &only);
#else
    static_cast<void>(cpu);
#endif
}

} // namespace detail
TIDEGATE_END_NAMESPACE
