// SPDX-License-Identifier: BSL-1.0
// Classes are compared: shifting boxes apart by class, the usual trick, costs float precision.
#include "nms.hpp"

#include <algorithm>

namespace vision {

float overlap(const detection& a, const detection& b) noexcept {
    const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
    const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
    if (width <= 0 || height <= 0) {
        return 0;
    }
    const float shared = width * height;
    const float all = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared;
    return shared / all;
}

void keep_best(std::vector<detection>& boxes, std::size_t most) {
    std::ranges::stable_sort(boxes, std::ranges::greater{}, &detection::score);
    if (boxes.size() > most) {
        boxes.resize(most);
    }
}

void suppress_overlaps(std::vector<detection>& boxes, const nms_limits& limits) {
    keep_best(boxes, limits.most_candidates);
    std::size_t kept = 0; // the survivors are boxes[0, kept)
    for (const detection& candidate : boxes) {
        const bool covered = std::any_of(boxes.begin(), boxes.begin() + static_cast<std::ptrdiff_t>(kept),
                                         [&](const detection& better) {
                                             return better.class_id == candidate.class_id &&
                                                    overlap(better, candidate) > limits.iou;
                                         });
        if (!covered) {
            boxes[kept++] = candidate;
            if (kept == limits.most_detections) {
                break;
            }
        }
    }
    boxes.resize(kept);
}

} // namespace vision
