// SPDX-License-Identifier: BSL-1.0
// Counts what this program allocates.
#pragma once

#include <cstddef>

namespace test {

/// Calls of the global operator new so far.
std::size_t allocated() noexcept;

} // namespace test
