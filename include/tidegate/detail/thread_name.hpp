// SPDX-License-Identifier: BSL-1.0
// Names the running thread for debuggers and top.
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// No effect on systems that cannot; Linux keeps 15 characters, macOS 63.
inline void name_this_thread(std::string_view name) noexcept {
#if defined(__linux__)
    char kept[16] = {};
    name.copy(kept, sizeof(kept) - 1);
    pthread_setname_np(pthread_self(), kept);
#elif defined(__APPLE__)
    char kept[64] = {};
    name.copy(kept, sizeof(kept) - 1);
    pthread_setname_np(kept);
#else
    static_cast<void>(name);
#endif
}

/// "pool-number". No string: a thread that starts has nobody to tell that there is no memory.
inline void name_this_thread(std::string const& pool, std::size_t number) noexcept {
    char name[64];
    std::snprintf(name, sizeof(name), "%s-%zu", pool.c_str(), number);
    name_this_thread(std::string_view(name));
}

} // namespace detail
TIDEGATE_END_NAMESPACE
