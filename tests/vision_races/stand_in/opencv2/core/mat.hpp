// SPDX-License-Identifier: BSL-1.0
// Stands in for OpenCV's picture where every access must be seen by the sanitizers: its bytes are
// touched by instrumented code only. No more of it than the pipeline uses.
#pragma once

#include <cstdint>
#include <vector>

namespace cv {

struct Mat {
    int rows = 0;
    int cols = 0;
    std::vector<std::uint8_t> bytes; // 3 a pixel

    bool empty() const noexcept { return bytes.empty(); }
    void release() noexcept { *this = {}; }
};

} // namespace cv
