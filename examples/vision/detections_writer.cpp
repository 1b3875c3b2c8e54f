// SPDX-License-Identifier: BSL-1.0
// Numbers get fixed decimals, which a JSON library would not give: lines stay short and comparable.
#include "detections_writer.hpp"

#include "model_metadata.hpp"

#include <fmt/format.h>
#include <iterator>

namespace vision {

std::string json_quoted(std::string_view text) {
    std::string result = "\"";
    for (const char c : valid_utf8(text)) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            result += '\\';
            result += c;
        } else if (byte < 0x20) {
            result += fmt::format("\\u{:04x}", byte);
        } else {
            result += c;
        }
    }
    return result += '"';
}

detections_writer::detections_writer(const std::filesystem::path& path,
                                     std::span<const std::string> class_names)
    : file_(path), out_(file_) {
    for (const std::string& name : class_names) {
        quoted_names_.push_back(json_quoted(name));
    }
}

void detections_writer::write(std::int64_t frame, double seconds,
                              std::span<const detection> detections, std::string_view image_name) {
    line_.clear();
    const auto to = std::back_inserter(line_);
    fmt::format_to(to, R"({{"frame":{},"time":{:.3f},)", frame, seconds);
    if (!image_name.empty()) {
        fmt::format_to(to, R"("image":{},)", json_quoted(image_name));
    }
    line_ += R"("detections":[)";
    for (std::size_t i = 0; i < detections.size(); ++i) {
        const detection& d = detections[i];
        fmt::format_to(
            to,
            R"({}{{"class":{},"class_id":{},"score":{:.4f},"box":[{:.2f},{:.2f},{:.2f},{:.2f}]}})",
            i == 0 ? "" : ",", quoted_class(d.class_id), d.class_id, d.score, d.x1, d.y1, d.x2,
            d.y2);
    }
    line_ += "]}\n";
    out_.write(line_);
}

void detections_writer::close() { out_.close(); }

void detections_writer::commit() {
    close();
    file_.commit();
}

std::string detections_writer::quoted_class(int class_id) const {
    const auto index = static_cast<std::size_t>(class_id);
    return class_id >= 0 && index < quoted_names_.size() ? quoted_names_[index]
                                                         : fmt::format("\"class {}\"", class_id);
}

} // namespace vision
