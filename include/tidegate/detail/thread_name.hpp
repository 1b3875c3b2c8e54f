// SPDX-License-Identifier: BSL-1.0
// Names the running thread for debuggers and top.
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <cstdio>
#include <string>

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// "pool-number". No effect on systems that cannot; Linux keeps 15 characters, macOS 63.
inline void name_this_thread(std::string const& pool, std::size_t number) noexcept {
#if defined(__linux__)
    char name[16]; // no string: a thread that starts has nobody to tell that there is no memory
    std::snprintf(name, sizeof(name), "%s-%zu", pool.c_str(), number);
    pthread_setname_np(pthread_self(), name);
#elif defined(__APPLE__)
    char name[64];
    std::snprintf(name, sizeof(name), "%s-%zu", pool.c_str(), number);
    pthread_setname_np(name);
#else
    static_cast<void>(pool);
    static_cast<void>(number);
#endif
}

} // namespace detail
TIDEGATE_END_NAMESPACE
