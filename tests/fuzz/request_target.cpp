// SPDX-License-Identifier: BSL-1.0
// Anything that a client may write where the target of a request belongs.
#include "fuzz/input.hpp"

#include "service/request_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string const text(reinterpret_cast<char const*>(data), size);
    auto const target = vision::service::parse_target(text);
    if (!target) return 0;
    fuzz::require(text.starts_with('/'), "it is a path of this server");
    for (auto const& segment : target->segments) {
        fuzz::require(segment.find('\0') == std::string::npos, "without a NUL");
        fuzz::require(segment.size() <= size, "no longer than what was sent");
    }
    return 0;
}
