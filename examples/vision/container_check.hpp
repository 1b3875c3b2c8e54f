// SPDX-License-Identifier: BSL-1.0
// Notices a video file that ends before its container says it does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace vision {

/// The size that an AVI (RIFF) or MP4/MOV file says it has, if that is more than there is: an
/// upload or a copy that broke off. Nothing for a whole file, and for containers that do not tell;
/// a number of frames that a header announces is no such promise, it is often wrong in whole files.
std::optional<std::uint64_t> promised_size(const std::filesystem::path& file);

} // namespace vision
