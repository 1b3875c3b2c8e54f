// SPDX-License-Identifier: BSL-1.0
// What the vision scenario runs on: YOLOX-nano and a street video where the folder of real data is
// there (the goals are about these), the bundled model and clip otherwise.
#pragma once

#include "pipeline_options.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <unistd.h>

namespace bench {

// A folder for the output of all rows, gone at the end.
class output_folder {
public:
    output_folder()
        : path_(std::filesystem::temp_directory_path() /
                ("tidegate-bench-vision-" + std::to_string(getpid()))) {
        std::filesystem::create_directories(path_);
    }
    output_folder(output_folder const&) = delete;
    output_folder& operator=(output_folder const&) = delete;
    ~output_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    std::filesystem::path const& path() const { return path_; }

private:
    std::filesystem::path path_;
};

struct vision_input {
    std::filesystem::path model;
    std::filesystem::path video;
};

inline vision_input find_input() {
    std::filesystem::path const root(TIDEGATE_SOURCE_ROOT);
    char const* const named = std::getenv("TIDEGATE_REAL_DATA");
    auto const real = named ? std::filesystem::path(named) : root / "../shared/real";
    vision_input found{real / "models/yolox_nano_416_dyn.onnx", real / "video/vtest.avi"};
    if (exists(found.model) && exists(found.video)) return found;
    auto const assets = root / "examples/vision/assets";
    return {assets / "shapes.onnx", assets / "shapes.mp4"};
}

inline vision::engine_options engine_options() {
    vision::engine_options options;
    options.model.model = find_input().model;
    return options;
}

// No annotated video.
inline vision::video_options video_options() {
    static output_folder const out;
    vision::video_options options;
    options.source = find_input().video;
    options.out = out.path();
    options.annotate = false;
    return options;
}

} // namespace bench
