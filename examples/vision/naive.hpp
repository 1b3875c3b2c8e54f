// SPDX-License-Identifier: BSL-1.0
// What people write first, to compare with: everything in one loop on one thread.
#pragma once

#include "pipeline_options.hpp"

#include <cstdint>
#include <functional>

namespace vision {

struct naive_summary {
    std::int64_t frames = 0;
    std::int64_t detections = 0;
    double seconds = 0;
};

// Loads the model inside the job, then reads, prepares, infers and writes one frame after another.
// No annotated video. `go_on` is asked before each frame. Blocks; throws vision::error.
naive_summary detect_naively(const engine_options& model, const video_options& video,
                             const std::function<bool(std::int64_t frames)>& go_on);

} // namespace vision
