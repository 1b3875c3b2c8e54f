// SPDX-License-Identifier: BSL-1.0
// Width and height of a picture in pixels.
#pragma once

#include <cstddef>

namespace vision {

struct image_size {
    int width = 0;
    int height = 0;

    [[nodiscard]] constexpr std::size_t pixels() const noexcept {
        return static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    }
    friend bool operator==(const image_size&, const image_size&) = default;
};

} // namespace vision
