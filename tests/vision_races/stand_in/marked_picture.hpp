// SPDX-License-Identifier: BSL-1.0
// Pictures that carry their video's and their own number in every pixel, and what the detector that
// stands in finds in them.
#pragma once

#include "detection.hpp"
#include "image_size.hpp"

#include <cstdint>
#include <vector>

namespace stand_in {

inline constexpr vision::image_size size{8, 8};
inline constexpr std::int64_t frames = 48; // of each video

// One box more with each frame, and none again after three; all of them tell where they are from.
inline std::vector<vision::detection> boxes_in(int video, std::int64_t frame) {
    std::vector<vision::detection> boxes;
    for (std::int64_t i = 0; i < frame % 4; ++i) {
        auto const left = static_cast<float>(i);
        boxes.push_back({video, 1, left, static_cast<float>(frame), left + 1, size.height});
    }
    return boxes;
}

} // namespace stand_in
