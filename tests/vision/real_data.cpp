// SPDX-License-Identifier: BSL-1.0
// Reads the reference files and compares detections with them.
#include "real_data.hpp"

#include "nms.hpp"

#include <algorithm>
#include <boost/json/src.hpp>
#include <cmath>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>

namespace {

vision::detection detection_from(const boost::json::object& object) {
    const auto& box = object.at("box").as_array();
    const auto number = [](const boost::json::value& v) { return v.to_number<float>(); };
    const auto* score = object.if_contains("score");
    return {object.at("class").to_number<int>(),
            score ? number(*score) : 1.0F,
            number(box[0]),
            number(box[1]),
            number(box[2]),
            number(box[3])};
}

// Boxes of `wanted` over 0.4 without a partner in `others`; each partner serves once.
std::string without_partner(const boxes& wanted, boxes others, float iou, float score,
                            const char* which) {
    std::string text;
    for (const auto& box : wanted) {
        if (box.score <= 0.4F) {
            continue;
        }
        const auto partner = std::ranges::find_if(others, [&](const vision::detection& other) {
            return other.class_id == box.class_id && std::abs(other.score - box.score) <= score &&
                   vision::overlap(box, other) >= iou;
        });
        if (partner == others.end()) {
            text += fmt::format("{} class {} score {:.4f} at {:.1f},{:.1f},{:.1f},{:.1f}; ", which,
                                box.class_id, box.score, box.x1, box.y1, box.x2, box.y2);
        } else {
            others.erase(partner);
        }
    }
    return text;
}

} // namespace

std::filesystem::path real_data() {
    const char* set = std::getenv("TIDEGATE_REAL_DATA");
    const std::filesystem::path folder =
        set ? std::filesystem::path(set)
            : std::filesystem::path(TIDEGATE_SOURCE_ROOT) / ".." / "shared" / "real";
    std::error_code ignored;
    return std::filesystem::is_directory(folder / "models", ignored) ? folder
                                                                     : std::filesystem::path();
}

std::map<std::string, boxes> reference(const std::string& name) {
    std::map<std::string, boxes> result;
    std::ifstream in(real_data() / "reference" / name);
    for (std::string line; std::getline(in, line);) {
        const auto object = boost::json::parse(line).as_object();
        const auto* image = object.if_contains("image");
        auto& list = result[image ? std::string(image->as_string())
                                  : std::to_string(object.at("frame").as_int64())];
        for (const auto& entry : object.at("detections").as_array()) {
            list.push_back(detection_from(entry.as_object()));
        }
    }
    return result;
}

std::string difference(const boxes& expected, const boxes& found, float iou, float score) {
    return without_partner(expected, found, iou, score, "missing") +
           without_partner(found, expected, iou, score, "added");
}
