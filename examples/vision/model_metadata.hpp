// SPDX-License-Identifier: BSL-1.0
// What an ONNX file says about itself, in the words that Ultralytics' exporters use.
#pragma once

#include "image_size.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vision {

// Every field may be missing: YOLOX writes nothing, YOLOv5 only stride and names, and text that
// cannot be read counts as not written.
struct model_metadata {
    std::string author;
    std::string task;               // "detect", "segment", "pose", ...
    std::vector<std::string> names; // of the classes, by number
    std::optional<image_size> input;
    std::optional<int> stride;
    std::optional<bool> end_to_end;         // the head suppresses overlaps itself
    std::optional<bool> suppression_inside; // exported with nms=True

    // Such models want RGB in 0..1 with centred padding.
    [[nodiscard]] bool from_ultralytics() const noexcept;
    // The output is a list of finished boxes.
    [[nodiscard]] bool says_finished_boxes() const noexcept;
};

// Never throws on bad text: at most 10,000 names of at most 100 bytes, made printable UTF-8.
[[nodiscard]] model_metadata
parse_model_metadata(const std::map<std::string, std::string, std::less<>>& entries);

// A class name fit for a terminal, a picture and JSON: control characters become spaces, bytes that
// are no UTF-8 become '?', and the rest is cut at 100 bytes.
[[nodiscard]] std::string printable_name(std::string_view name);

// `text` with each byte that is no UTF-8 as '?'.
[[nodiscard]] std::string valid_utf8(std::string_view text);

} // namespace vision
