// SPDX-License-Identifier: BSL-1.0
// Non-maximum suppression: of boxes of one class that overlap, the best stays.
#pragma once

#include "detection.hpp"

#include <cstddef>
#include <vector>

namespace vision {

struct nms_limits {
    float iou = 0.45F;                    // more overlap than this (strictly) suppresses
    std::size_t most_candidates = 30'000; // the best of them are looked at
    std::size_t most_detections = 300;    // so the work is bounded by the product
};

// Intersection over union; 0 where either box is empty.
[[nodiscard]] float overlap(const detection& a, const detection& b) noexcept;

// Orders by falling score, equal scores by their place before, and cuts to the best `most`.
void keep_best(std::vector<detection>& boxes, std::size_t most);

// Leaves the survivors in `boxes`, ordered by falling score. Boxes of different classes never meet.
void suppress_overlaps(std::vector<detection>& boxes, const nms_limits& limits);

} // namespace vision
