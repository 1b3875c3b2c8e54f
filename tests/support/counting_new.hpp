// SPDX-License-Identifier: BSL-1.0
// Counts what this program allocates.
#pragma once

#include <cstddef>

namespace test {

/// Calls of the global operator new so far.
std::size_t allocated() noexcept;
/// How many of those are not given back yet.
std::size_t allocated_now() noexcept;
/// Lets the `n`-th call from now on, counted from 1, throw std::bad_alloc; 0: none.
void fail_allocation(std::size_t n) noexcept;
/// How many calls before the one that is to fail; 0 if none is.
std::size_t until_failure() noexcept;

} // namespace test
