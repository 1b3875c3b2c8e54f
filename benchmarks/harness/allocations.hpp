// SPDX-License-Identifier: BSL-1.0
// Counts every heap allocation of the process, whoever makes it and by whichever call.
#pragma once

#include <cstdint>

namespace bench {

// False where malloc cannot be replaced; the allocation column is then empty.
extern bool const allocations_are_counted;

// Allocations of all threads since the program started. Exact once the other threads are quiet.
std::int64_t allocations_so_far() noexcept;

} // namespace bench
