// SPDX-License-Identifier: BSL-1.0
// The page that the service shows, from page.html.
#pragma once

#include <string_view>

namespace vision::service {

extern const std::string_view page;

// Nothing from elsewhere: all that the page needs is in it.
inline constexpr const char* page_policy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

} // namespace vision::service
