// SPDX-License-Identifier: BSL-1.0
// Stands in for what OpenCV scales: the pictures have the network's size already.
#include "letterbox.hpp"

#include <algorithm>

namespace vision {

void apply_letterbox(const cv::Mat& bgr, const letterbox_plan&, std::span<std::uint8_t> target) {
    std::ranges::copy(bgr.bytes, target.begin());
}

} // namespace vision
