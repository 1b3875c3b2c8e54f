// SPDX-License-Identifier: BSL-1.0
// Counts what this program allocates.
#pragma once

#include <cstddef>

namespace test {

/// Calls of the global operator new so far.
std::size_t allocated() noexcept;
/// How many of those are not given back yet.
std::size_t allocated_now() noexcept;

} // namespace test
