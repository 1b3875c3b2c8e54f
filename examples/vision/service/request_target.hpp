// SPDX-License-Identifier: BSL-1.0
// The path and the query of a request's target, by uriparser.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vision::service {

struct request_target {
    std::vector<std::string> segments; // of the path, decoded; none for "/"
    std::vector<std::pair<std::string, std::string>> query;
};

// Nothing for what is no absolute path of this server (RFC 9112, origin-form), and for what holds a
// NUL once decoded.
[[nodiscard]] std::optional<request_target> parse_target(const std::string& text);

} // namespace vision::service
