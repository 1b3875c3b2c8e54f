// SPDX-License-Identifier: BSL-1.0
// Text from outside as UTF-8, whatever it is.
#pragma once

#include <tidegate/config.hpp>

#include <cstddef>
#include <string>
#include <string_view>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// How many bytes the character has that `text`, which is not empty, begins with (Unicode, table
/// 3-7: none in more bytes than it needs, no surrogates); 0 if it begins with none.
inline std::size_t utf8_length(std::string_view text) noexcept {
    auto const byte = [&](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
    };
    unsigned const first = byte(0);
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    unsigned const low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned const high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(1) < low || byte(1) > high) return 0;
    std::size_t const length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    for (std::size_t i = 2; i < length; ++i) {
        if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
    }
    return length;
}

inline bool is_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        std::size_t const length = utf8_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

/// With U+FFFD for each byte that belongs to no character.
inline std::string to_utf8(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        std::size_t const length = utf8_length(text);
        result += length ? text.substr(0, length) : "\xEF\xBF\xBD";
        text.remove_prefix(length ? length : 1);
    }
    return result;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
