// SPDX-License-Identifier: BSL-1.0
// Finds out how a detector's output is to be read, and how its input is to be prepared: the model's
// shapes, its metadata and the user's options in, one model_layout or a clear refusal out.
#pragma once

#include "image_size.hpp"
#include "model_metadata.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vision {

// A is the number of grid cells: the sum of (H/s)(W/s) over the strides s.
enum class layout_family {
    yolov5,        // 3A (sometimes A) rows: centre, size in pixels, objectness, classes
    yolov8,        // 4+classes channels of A: centre, size in pixels, classes (also v9, v11)
    yolox_raw,     // A rows: offsets in the cell, logarithms of sizes, objectness, classes
    yolox_decoded, // A rows in pixels
    end_to_end,    // finished boxes: corners, score, class (v10, exports with nms=True)
};

enum class colour_order { rgb, bgr };
enum class padding_rule { centred, top_left };
enum class resize_rounding { half_to_even, truncate };

// From a decoded picture to the network's input.
struct preparation {
    colour_order colour = colour_order::rgb;
    float scale = 1.0F / 255;
    padding_rule padding = padding_rule::centred;
    resize_rounding rounding = resize_rounding::half_to_even;

    [[nodiscard]] static constexpr preparation ultralytics() noexcept { return {}; }
    [[nodiscard]] static constexpr preparation yolox() noexcept {
        return {colour_order::bgr, 1.0F, padding_rule::top_left, resize_rounding::truncate};
    }
    friend bool operator==(const preparation&, const preparation&) = default;
};

// What the user says wins over what the model says. Unset: found out.
struct layout_options {
    std::optional<layout_family> family;
    std::optional<colour_order> colour;
    std::optional<float> scale;
    std::optional<padding_rule> padding;
    std::vector<std::string> class_names;
};

struct model_layout {
    layout_family family = layout_family::yolov8;
    preparation prepare;
    image_size input;
    int rows = 0;        // candidates in one output
    int class_count = 0; // 0: not known (only end_to_end)
    std::vector<std::string> class_names;
    std::vector<std::string> warnings; // for the user, one line each

    // "class 17" where the model has no name for it.
    [[nodiscard]] std::string class_name(int class_id) const;
    // One line: "yolov8, 80 classes, 416x416, RGB x 0.00392, centred padding".
    [[nodiscard]] std::string description() const;
};

// All that is known about a loaded model.
struct layout_question {
    image_size input;
    std::vector<std::int64_t> output_shape; // as one run with a single picture gave it
    std::span<const float> grey_output;     // what that run gave for a grey picture
    model_metadata metadata;
    layout_options options;
};

// Throws vision::error, listing shapes and candidates, where the answer is none or more than one.
[[nodiscard]] model_layout deduce_layout(const layout_question& question);

[[nodiscard]] std::string_view to_string(layout_family family) noexcept;
// "yolov5", "yolov8", "yolox", "yolox-decoded", "end-to-end"; throws vision::error on anything
// else.
[[nodiscard]] layout_family parse_layout_family(std::string_view name);
// "1x3549x85"; unknown dimensions are '?'.
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape);
// Grid cells of an input, with strides 8, 16, 32 and so on up to the last one.
[[nodiscard]] std::int64_t grid_cells(image_size input, int last_stride = 32) noexcept;

} // namespace vision
