// SPDX-License-Identifier: BSL-1.0
// Fits a picture of any size into the network's input without distorting it, and maps boxes back.
#pragma once

#include "detection.hpp"
#include "image_size.hpp"
#include "layout.hpp"

#include <cstddef>
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <span>

namespace vision {

// Where the scaled source lies in the input.
struct letterbox_plan {
    image_size source;
    image_size input;
    image_size scaled = {};
    double ratio = 1; // input pixels per source pixel
    int left = 0;
    int top = 0;
};

// The padding's grey, the same for every family.
inline constexpr std::uint8_t letterbox_grey = 114;

// Pure arithmetic. Throws vision::error for an empty source or input.
[[nodiscard]] letterbox_plan plan_letterbox(image_size source, image_size input,
                                            const preparation& prepare);

// Bytes of one letterboxed picture: 3 a pixel.
[[nodiscard]] constexpr std::size_t letterbox_bytes(image_size input) noexcept {
    return input.pixels() * 3;
}

// Scales `bgr` (8 bits, 3 channels, of the plan's source size) into `target`, which holds
// letterbox_bytes(plan.input) bytes, all of them written. Allocates nothing but what cv::resize
// does.
void apply_letterbox(const cv::Mat& bgr, const letterbox_plan& plan,
                     std::span<std::uint8_t> target);

// Interleaved BGR bytes to planes of floats in the model's colour order and scale. `planes` holds
// as many floats as `bgr` holds bytes.
void to_planes(std::span<const std::uint8_t> bgr, const preparation& prepare,
               std::span<float> planes);

// From input pixels to source pixels, clipped to the picture. What lies outside gets an empty box.
[[nodiscard]] detection to_source(const detection& in_input, const letterbox_plan& plan) noexcept;

} // namespace vision
