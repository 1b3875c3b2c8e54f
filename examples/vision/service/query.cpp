// SPDX-License-Identifier: BSL-1.0
#include "query.hpp"

#include "model_metadata.hpp"

#include <algorithm>

namespace vision::service {

std::string label(std::string_view text) {
    std::string kept(text.substr(0, 200));
    std::ranges::replace_if(
        kept, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
    return valid_utf8(kept);
}

bool flag(std::string_view name, std::string_view text) {
    if (text == "true" || text == "1" || text.empty()) return true;
    if (text == "false" || text == "0") return false;
    throw bad_request(fmt::format("{} is '{}', allowed is true or false", name, label(text)));
}

} // namespace vision::service
