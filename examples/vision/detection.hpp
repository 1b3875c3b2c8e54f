// SPDX-License-Identifier: BSL-1.0
// One found object: what it is, how sure the model is, and where.
#pragma once

namespace vision {

// Corners in pixels: of the source picture in everything a user sees, of the network's input
// between decoding and mapping back.
struct detection {
    int class_id = 0;
    float score = 0;
    float x1 = 0;
    float y1 = 0;
    float x2 = 0;
    float y2 = 0;

    friend bool operator==(const detection&, const detection&) = default;
};

} // namespace vision
