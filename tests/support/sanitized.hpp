// SPDX-License-Identifier: BSL-1.0
// Whether a sanitizer watches, which makes a program ten times slower and larger.
#pragma once

namespace test {

#if defined(__has_feature)
inline constexpr bool sanitized =
    __has_feature(thread_sanitizer) || __has_feature(address_sanitizer);
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

} // namespace test
