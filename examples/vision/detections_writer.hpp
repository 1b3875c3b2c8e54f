// SPDX-License-Identifier: BSL-1.0
// detections.jsonl: one line a frame, boxes in source pixels.
#pragma once

#include "detection.hpp"
#include "output_stream.hpp"
#include "partial_file.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vision {

// {"frame":12,"time":0.480,"detections":[{"class":"dog","class_id":16,"score":0.8977,
//  "box":[x1,y1,x2,y2]}]} with an "image":"name.jpg" after the time where the source is images.
// The file has its name only after commit(). All failures throw vision::error naming the path.
class detections_writer {
public:
    // Classes beyond `class_names` are written as "class 17".
    detections_writer(const std::filesystem::path& path, std::span<const std::string> class_names);

    void write(std::int64_t frame, double seconds, std::span<const detection> detections,
               std::string_view image_name = {});
    // Writes what is left; commit() does so by itself. Nothing can be written after it.
    void close();
    void commit();

private:
    [[nodiscard]] std::string quoted_class(int class_id) const;

    partial_file file_;
    output_stream out_;
    std::vector<std::string> quoted_names_;
    std::string line_;
};

// `text` as a JSON string with its quotes; bytes that are no UTF-8 become '?'.
[[nodiscard]] std::string json_quoted(std::string_view text);

} // namespace vision
