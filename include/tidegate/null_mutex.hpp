// SPDX-License-Identifier: BSL-1.0
// A mutex that does nothing, for primitives that one thread alone uses.
#pragma once

#include <tidegate/config.hpp>

TIDEGATE_BEGIN_NAMESPACE

/// Takes the place of `std::mutex` in a primitive's template arguments. All use of that primitive,
/// its permits and leases, and everything that runs on its executor must then stay on one thread
/// (or one strand).
struct null_mutex {
    void lock() noexcept {}
    bool try_lock() noexcept { return true; }
    void unlock() noexcept {}
};

TIDEGATE_END_NAMESPACE
