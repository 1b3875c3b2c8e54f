// SPDX-License-Identifier: BSL-1.0
// How a value that several own is handed out.
#pragma once

#include <tidegate/config.hpp>

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// True if a copy costs no more than a shared pointer would.
template <class V>
inline constexpr bool is_cheap_to_copy =
    std::is_trivially_copyable_v<V> && sizeof(V) <= 16 && std::is_default_constructible_v<V>;

/// A value that stays valid whatever becomes of the cache it came from: a copy in an optional where
/// that is cheap, else shared ownership. Either way `if (v) use(*v)`; empty means "there is none".
template <class V>
using shared_value =
    std::conditional_t<is_cheap_to_copy<V>, std::optional<V>, std::shared_ptr<V const>>;

namespace detail {

template <class V>
shared_value<V> share(std::type_identity_t<V> value) {
    if constexpr (is_cheap_to_copy<V>) return std::optional<V>(value);
    else return std::make_shared<V const>(std::move(value));
}

} // namespace detail
TIDEGATE_END_NAMESPACE
