// SPDX-License-Identifier: BSL-1.0
// How values become bytes on their way out of the process.
#pragma once

#include <tidegate/config.hpp>

#include <charconv>
#include <concepts>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Turns values into bytes and back. Both functions may throw: what cannot be encoded is not
/// written, what cannot be decoded counts as not there. There are defaults for strings, vectors of
/// bytes, integers and enumerations (see `default_codec`). A format that may change should say
/// which version it is; refusing the old one by an exception is a fine way to migrate.
template <class V>
struct value_codec {
    std::function<std::string(V const&)> encode;
    std::function<V(std::string_view)> decode;
};

namespace detail {

template <class V>
inline constexpr bool is_byte_vector =
    std::is_same_v<V, std::vector<std::byte>> || std::is_same_v<V, std::vector<unsigned char>> ||
    std::is_same_v<V, std::vector<char>>;

template <class V>
inline constexpr bool has_default_codec =
    std::is_same_v<V, std::string> || is_byte_vector<V> || std::is_enum_v<V> ||
    (std::integral<V> && !std::is_same_v<V, bool>);

template <class Integer>
Integer parse_integer(std::string_view text) {
    Integer value{};
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        throw std::invalid_argument("tidegate: default_codec: '" + std::string(text) +
                                    "' is no integer of its type");
    return value;
}

} // namespace detail

/// Strings and bytes as they are, integers and enumerations in decimal.
template <class V>
    requires detail::has_default_codec<V>
value_codec<V> default_codec() {
    if constexpr (std::is_same_v<V, std::string>) {
        return {[](V const& v) { return v; }, [](std::string_view b) { return V(b); }};
    } else if constexpr (detail::is_byte_vector<V>) {
        using byte = typename V::value_type;
        return {[](V const& v) {
                    return std::string(reinterpret_cast<char const*>(v.data()), v.size());
                },
                [](std::string_view b) {
                    auto const first = reinterpret_cast<byte const*>(b.data());
                    return V(first, first + b.size());
                }};
    } else if constexpr (std::is_enum_v<V>) {
        using number = std::underlying_type_t<V>;
        return {[](V const& v) { return std::to_string(static_cast<number>(v)); },
                [](std::string_view b) { return V(detail::parse_integer<number>(b)); }};
    } else {
        return {[](V const& v) { return std::to_string(v); },
                [](std::string_view b) { return detail::parse_integer<V>(b); }};
    }
}

TIDEGATE_END_NAMESPACE
