// SPDX-License-Identifier: BSL-1.0
// Refuses a setting that is out of its range, by name, value and range.
#pragma once

#include "error.hpp"

#include <cstdint>
#include <fmt/format.h>
#include <type_traits>

namespace vision {

template <class Value>
void check_range(const char* name, Value value, Value lowest, Value highest) {
    if (value >= lowest && value <= highest) return;
    if constexpr (std::is_unsigned_v<Value>) { // "-1" is to be refused as what it is
        check_range(name, static_cast<std::int64_t>(value), static_cast<std::int64_t>(lowest),
                    static_cast<std::int64_t>(highest));
    }
    throw error(fmt::format("{} is {}, allowed is {} to {}", name, value, lowest, highest));
}

} // namespace vision
