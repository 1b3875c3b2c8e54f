// SPDX-License-Identifier: BSL-1.0
// Collects every reading that fits the shapes, lets options and metadata choose among them, and
// accepts only when exactly one is left.
#include "layout.hpp"

#include "coco_names.hpp"
#include "error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>

namespace vision {
namespace {

// A way to read the output: `family` over `rows` candidates of `classes` classes.
struct reading {
    layout_family family;
    std::int64_t rows;
    std::int64_t classes; // 0: not in the shape
};

constexpr std::int64_t most_classes = 10'000;

std::string text_of(const reading& r) {
    return r.classes == 0
               ? fmt::format("{} ({} boxes)", to_string(r.family), r.rows)
               : fmt::format("{} ({} rows, {} classes)", to_string(r.family), r.rows, r.classes);
}

std::string text_of(const std::vector<reading>& readings) {
    std::string text;
    for (const reading& r : readings) {
        text += (text.empty() ? "" : ", ") + text_of(r);
    }
    return text;
}

[[noreturn]] void refuse(const layout_question& q, const std::string& why) {
    const std::int64_t cells = grid_cells(q.input);
    throw error(fmt::format(
        "output {} for a {}x{} input {}; allowed for this input: yolov5 Nx{}x(5+classes), "
        "yolov8 Nx(4+classes)x{}, yolox Nx{}x(5+classes), end-to-end Nx(boxes)x6",
        shape_text(q.output_shape), q.input.width, q.input.height, why, 3 * cells, cells, cells));
}

bool is_grid(const layout_question& q, std::int64_t count, std::int64_t times) {
    return count == times * grid_cells(q.input, 32) || count == times * grid_cells(q.input, 64);
}

// By arithmetic alone. Raw and decoded YOLOX have one shape: the grey picture tells them apart
// later.
std::vector<reading> readings_of_shape(const layout_question& q, std::int64_t d1, std::int64_t d2) {
    std::vector<reading> fitting;
    const bool has_classes = d2 > 5 && d2 - 5 <= most_classes;
    if (has_classes && is_grid(q, d1, 3)) {
        fitting.push_back({layout_family::yolov5, d1, d2 - 5});
    }
    if (d1 > 4 && d1 - 4 <= most_classes && is_grid(q, d2, 1)) {
        fitting.push_back({layout_family::yolov8, d2, d1 - 4});
    }
    if (has_classes && d1 == grid_cells(q.input)) {
        fitting.push_back({layout_family::yolox_raw, d1, d2 - 5});
    }
    // "Last dimension 6" alone proves nothing: one-class grids have it too.
    if (fitting.empty() && d2 == 6) {
        fitting.push_back({layout_family::end_to_end, d1, 0});
    }
    return fitting;
}

// Heads with fewer strides or other anchor counts fit no arithmetic, but their names fit the
// channels.
std::vector<reading> readings_of_names(const layout_question& q, std::int64_t d1, std::int64_t d2) {
    std::vector<reading> fitting;
    const auto names = static_cast<std::int64_t>(q.metadata.names.size());
    if (names == 0 || !q.metadata.from_ultralytics()) {
        return fitting;
    }
    if (d1 == 4 + names) {
        fitting.push_back({layout_family::yolov8, d2, names});
    }
    if (d2 == 5 + names) {
        fitting.push_back({layout_family::yolov5, d1, names});
    }
    return fitting;
}

// The reading that the user asked for, where the shape allows it at all.
reading explicit_reading(const layout_question& q, layout_family family, std::int64_t d1,
                         std::int64_t d2) {
    const bool rows_of_classes = d2 > 5 && d2 - 5 <= most_classes;
    switch (family) {
    case layout_family::yolov5:
    case layout_family::yolox_decoded:
        if (rows_of_classes) {
            return {family, d1, d2 - 5};
        }
        break;
    case layout_family::yolox_raw:
        if (rows_of_classes && d1 == grid_cells(q.input)) {
            return {family, d1, d2 - 5};
        }
        break;
    case layout_family::yolov8:
        if (d1 > 4 && d1 - 4 <= most_classes) {
            return {family, d2, d1 - 4};
        }
        break;
    case layout_family::end_to_end:
        if (d2 == 6) {
            return {family, d1, 0};
        }
        break;
    }
    refuse(q, fmt::format("cannot be read as {}, which was asked for", to_string(family)));
}

reading choose(const layout_question& q, std::int64_t d1, std::int64_t d2) {
    if (q.options.family) {
        return explicit_reading(q, *q.options.family, d1, d2);
    }
    if (q.metadata.says_finished_boxes()) {
        if (d2 != 6) {
            refuse(q, "does not hold finished boxes, though the metadata says so");
        }
        return {layout_family::end_to_end, d1, 0};
    }
    std::vector<reading> fitting = readings_of_shape(q, d1, d2);
    if (fitting.empty() || (fitting.front().family == layout_family::end_to_end && d1 != 300)) {
        // Names decide before "some boxes of 6" does; 300 is what end-to-end exporters write.
        if (auto named = readings_of_names(q, d1, d2); !named.empty()) {
            fitting = std::move(named);
        }
    }
    if (fitting.size() > 1 && !q.metadata.names.empty()) {
        const auto names = static_cast<std::int64_t>(q.metadata.names.size());
        std::erase_if(fitting, [&](const reading& r) { return r.classes != names; });
    }
    if (fitting.empty()) {
        refuse(q, "is no YOLO layout");
    }
    if (fitting.size() > 1) {
        refuse(q,
               fmt::format("is ambiguous: {}; name one with the layout option", text_of(fitting)));
    }
    return fitting.front();
}

// Decoded centres lie all over the picture; raw offsets stay around their own cell.
bool centres_are_pixels(std::span<const float> output, std::size_t channels) {
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t at = 0; at + channels <= output.size(); at += channels) {
        if (std::isfinite(output[at])) {
            sum += std::abs(static_cast<double>(output[at]));
            ++count;
        }
    }
    return count > 0 && sum / static_cast<double>(count) > 8;
}

layout_family settle_yolox(const layout_question& q, std::int64_t channels) {
    // Ultralytics' metadata on such rows: a YOLOv5-like head, which wants another preparation.
    if (q.metadata.from_ultralytics()) {
        return layout_family::yolov5;
    }
    return centres_are_pixels(q.grey_output, static_cast<std::size_t>(channels))
               ? layout_family::yolox_decoded
               : layout_family::yolox_raw;
}

preparation preparation_for(const layout_question& q, layout_family family) {
    const bool yolox = family == layout_family::yolox_raw || family == layout_family::yolox_decoded;
    preparation result = yolox ? preparation::yolox() : preparation::ultralytics();
    result.colour = q.options.colour.value_or(result.colour);
    result.scale = q.options.scale.value_or(result.scale);
    result.padding = q.options.padding.value_or(result.padding);
    return result;
}

// A head without its sigmoid, or something else in a familiar shape, shows in the scores of a grey
// picture.
void require_probabilities(const layout_question& q, const model_layout& layout, std::int64_t d2) {
    const std::size_t channels = static_cast<std::size_t>(d2);
    const bool channels_first = layout.family == layout_family::yolov8;
    const bool one_score = layout.family == layout_family::end_to_end;
    for (std::size_t i = 0; i < q.grey_output.size(); ++i) {
        const std::size_t channel = channels_first ? i / channels : i % channels;
        const float score = q.grey_output[i];
        const bool is_score = channel == 4 || (channel > 4 && !one_score);
        if (is_score && std::isfinite(score) && (score < -0.001F || score > 1.001F)) {
            refuse(q, fmt::format("read as {} has a score of {:.3g}, but scores lie in 0..1",
                                  to_string(layout.family), score));
        }
    }
}

void name_classes(const layout_question& q, model_layout& layout) {
    layout.class_names = !q.options.class_names.empty() ? q.options.class_names : q.metadata.names;
    const auto named = static_cast<int>(layout.class_names.size());
    if (layout.family == layout_family::end_to_end) {
        layout.class_count = named;
    } else if (named != 0 && named != layout.class_count) {
        layout.warnings.push_back(fmt::format("the output has {} classes but there are {} names",
                                              layout.class_count, named));
    } else if (named == 0 && layout.class_count == static_cast<int>(coco_names.size())) {
        layout.class_names.assign(coco_names.begin(), coco_names.end());
        layout.warnings.emplace_back("the model names no classes; its 80 are taken to be COCO's");
    }
}

} // namespace

model_layout deduce_layout(const layout_question& q) {
    if (!q.metadata.task.empty() && q.metadata.task != "detect") {
        throw error(fmt::format("the model's task is '{}'; allowed: detect", q.metadata.task));
    }
    if (q.output_shape.size() != 3 || q.output_shape[0] != 1 || q.output_shape[1] < 1 ||
        q.output_shape[2] < 1) {
        refuse(q, "is no YOLO layout");
    }
    const std::int64_t d1 = q.output_shape[1];
    const std::int64_t d2 = q.output_shape[2];
    reading chosen = choose(q, d1, d2);
    if (chosen.family == layout_family::yolox_raw && !q.options.family) {
        chosen.family = settle_yolox(q, d2);
    }
    model_layout layout;
    layout.family = chosen.family;
    layout.prepare = preparation_for(q, chosen.family);
    layout.input = q.input;
    layout.rows = static_cast<int>(chosen.rows);
    layout.class_count = static_cast<int>(chosen.classes);
    require_probabilities(q, layout, d2);
    name_classes(q, layout);
    return layout;
}

std::string model_layout::class_name(int class_id) const {
    const auto index = static_cast<std::size_t>(class_id);
    return class_id >= 0 && index < class_names.size() ? class_names[index]
                                                       : fmt::format("class {}", class_id);
}

std::string model_layout::description() const {
    return fmt::format(
        "{}, {}, {}x{}, {} x {:.3g}, {} padding", to_string(family),
        class_count == 0 ? "classes unknown" : fmt::format("{} classes", class_count), input.width,
        input.height, prepare.colour == colour_order::rgb ? "RGB" : "BGR", prepare.scale,
        prepare.padding == padding_rule::centred ? "centred" : "top-left");
}

std::string_view to_string(layout_family family) noexcept {
    switch (family) {
    case layout_family::yolov5: return "yolov5";
    case layout_family::yolov8: return "yolov8";
    case layout_family::yolox_raw: return "yolox";
    case layout_family::yolox_decoded: return "yolox-decoded";
    case layout_family::end_to_end: return "end-to-end";
    }
    return "?";
}

layout_family parse_layout_family(std::string_view name) {
    for (const auto family :
         {layout_family::yolov5, layout_family::yolov8, layout_family::yolox_raw,
          layout_family::yolox_decoded, layout_family::end_to_end}) {
        if (to_string(family) == name) {
            return family;
        }
    }
    throw error(fmt::format(
        "layout is '{}'; allowed: yolov5, yolov8, yolox, yolox-decoded, end-to-end", name));
}

std::string shape_text(std::span<const std::int64_t> shape) {
    std::string text;
    for (const std::int64_t dimension : shape) {
        text += (text.empty() ? "" : "x") +
                (dimension < 0 ? std::string("?") : std::to_string(dimension));
    }
    return text.empty() ? "(no dimensions)" : text;
}

std::int64_t grid_cells(image_size input, int last_stride) noexcept {
    std::int64_t cells = 0;
    for (int stride = 8; stride <= last_stride; stride *= 2) {
        cells += static_cast<std::int64_t>(input.height / stride) * (input.width / stride);
    }
    return cells;
}

} // namespace vision
