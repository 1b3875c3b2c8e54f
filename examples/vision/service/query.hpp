// SPDX-License-Identifier: BSL-1.0
// What clients write into queries, checked.
#pragma once

#include "error.hpp"

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

namespace vision::service {

// The client's fault, in words for the client.
class bad_request : public error {
public:
    using error::error;
};

// Fit for other clients and logs, whatever it was.
[[nodiscard]] std::string label(std::string_view text);

// Throw bad_request naming the option, its value and what is allowed.
template <class Number>
Number number_in(std::string_view name, std::string_view text, Number lowest, Number highest) {
    Number value{};
    auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || !(value >= lowest) ||
        !(value <= highest)) {
        throw bad_request(
            fmt::format("{} is '{}', allowed is {} to {}", name, label(text), lowest, highest));
    }
    return value;
}

[[nodiscard]] bool flag(std::string_view name, std::string_view text);

} // namespace vision::service
