// SPDX-License-Identifier: BSL-1.0
// Refuses a bad option with a message that says what is wrong.
#pragma once

#include <tidegate/config.hpp>

#include <stdexcept>
#include <string>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Throws std::invalid_argument naming the option, its value and the allowed range.
template <class Integer>
void check_option(char const* option, Integer value, Integer lowest, Integer highest) {
    if (value >= lowest && value <= highest) return;
    throw std::invalid_argument(std::string("tidegate: ") + option + " is " +
                                std::to_string(value) + ", allowed is " + std::to_string(lowest) +
                                " to " + std::to_string(highest));
}

} // namespace detail
TIDEGATE_END_NAMESPACE
