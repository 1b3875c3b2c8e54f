// SPDX-License-Identifier: BSL-1.0
// How many files this process has open.
#pragma once

#include <cstddef>
#include <filesystem>
#include <iterator>

namespace test {

inline std::size_t open_descriptors() {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                      std::filesystem::directory_iterator()));
}

} // namespace test
