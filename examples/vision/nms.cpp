// SPDX-License-Identifier: BSL-1.0
// Classes are compared: shifting boxes apart by class, the usual trick, costs float precision.
#include "nms.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

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
    std::vector<std::size_t> order(boxes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto kept = static_cast<std::ptrdiff_t>(std::min(most, boxes.size()));
    std::partial_sort(
        order.begin(), order.begin() + kept, order.end(), [&](std::size_t a, std::size_t b) {
            return boxes[a].score != boxes[b].score ? boxes[a].score > boxes[b].score : a < b;
        });
    order.resize(static_cast<std::size_t>(kept));
    std::vector<detection> best;
    best.reserve(order.size());
    for (const std::size_t i : order) {
        best.push_back(boxes[i]);
    }
    boxes = std::move(best);
}

void suppress_overlaps(std::vector<detection>& boxes, const nms_limits& limits) {
    keep_best(boxes, limits.most_candidates);
    std::size_t kept = 0; // the survivors are boxes[0, kept)
    for (const detection& candidate : boxes) {
        const bool covered =
            std::any_of(boxes.begin(), boxes.begin() + static_cast<std::ptrdiff_t>(kept),
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
