// SPDX-License-Identifier: BSL-1.0
// Names the running thread for debuggers and top.
#pragma once

#include <tidegate/config.hpp>

#include <string>

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// No effect on systems that cannot; Linux keeps 15 characters.
inline void name_this_thread(std::string const& name) noexcept {
#if defined(__linux__)
    char short_name[16] = {};
    name.copy(short_name, sizeof(short_name) - 1);
    pthread_setname_np(pthread_self(), short_name);
#elif defined(__APPLE__)
    pthread_setname_np(name.c_str());
#else
    static_cast<void>(name);
#endif
}

} // namespace detail
TIDEGATE_END_NAMESPACE
