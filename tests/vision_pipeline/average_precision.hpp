// SPDX-License-Identifier: BSL-1.0
// Average precision: how good a detector is on pictures whose truth is known.
#pragma once

#include "detection.hpp"
#include "nms.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

using boxes_by_frame = std::map<std::int64_t, std::vector<vision::detection>>;

// Area under the interpolated precision-recall curve of one class, as in PASCAL VOC 2010 and later.
inline double average_precision(const boxes_by_frame& truth, const boxes_by_frame& found,
                                int class_id, float min_iou) {
    struct candidate {
        std::int64_t frame;
        const vision::detection* box;
    };
    std::vector<candidate> ranked;
    for (const auto& [frame, listed] : found) {
        for (const auto& box : listed) {
            if (box.class_id == class_id) ranked.push_back({frame, &box});
        }
    }
    std::sort(ranked.begin(), ranked.end(),
              [](auto& a, auto& b) { return a.box->score > b.box->score; });
    std::map<const vision::detection*, bool> taken;
    for (const auto& [frame, listed] : truth) {
        for (const auto& box : listed) {
            if (box.class_id == class_id) taken[&box] = false;
        }
    }
    std::vector<double> precision, recall;
    double right = 0;
    for (std::size_t i = 0; i < ranked.size(); ++i) {
        const vision::detection* best = nullptr;
        float best_iou = min_iou;
        auto const in_frame = truth.find(ranked[i].frame);
        if (in_frame != truth.end()) {
            for (const auto& box : in_frame->second) {
                float const iou = vision::overlap(box, *ranked[i].box);
                if (box.class_id == class_id && iou >= best_iou) {
                    best = &box;
                    best_iou = iou;
                }
            }
        }
        if (best && !std::exchange(taken[best], true)) ++right;
        precision.push_back(right / static_cast<double>(i + 1));
        recall.push_back(right / static_cast<double>(taken.size()));
    }
    double area = 0;
    for (std::size_t i = precision.size(); i-- > 0;) {
        if (i + 1 < precision.size()) precision[i] = std::max(precision[i], precision[i + 1]);
        area += precision[i] * (recall[i] - (i > 0 ? recall[i - 1] : 0));
    }
    return area;
}
