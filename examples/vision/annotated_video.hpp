// SPDX-License-Identifier: BSL-1.0
// The source's pictures with boxes and labels drawn on them, as an .mp4 file.
#pragma once

#include "detection.hpp"
#include "image_size.hpp"
#include "layout.hpp"
#include "partial_file.hpp"

#include <cstdint>
#include <filesystem>
#include <opencv2/core/mat.hpp>
#include <opencv2/videoio.hpp>
#include <span>
#include <string>

namespace vision {

// Boxes in the colour of their class, each with "name 0.87" on a bar of that colour.
void draw_detections(cv::Mat& bgr, std::span<const detection> detections,
                     const model_layout& layout);

// At most 640 pixels wide, to look at.
[[nodiscard]] std::string small_jpeg(const cv::Mat& bgr);

// The first picture sets the size; others are fitted into it on black. One thread at a time;
// encoding blocks. The file has its name only after commit(). All failures throw vision::error
// naming the path.
class annotated_video {
public:
    annotated_video(const std::filesystem::path& path, double frames_per_second);

    // Draws onto `frame` itself.
    void write(cv::Mat& frame, std::span<const detection> detections, const model_layout& layout);
    // Reads the file back as far as its frame count: OpenCV's writer says nothing of a full disk.
    // With no frame written there is no file, and no error.
    void commit();

private:
    void open(image_size first);
    const cv::Mat& fit(const cv::Mat& frame);
    [[noreturn]] void fail(const char* why) const;

    partial_file file_;
    double rate_;
    cv::VideoWriter writer_;
    cv::Mat canvas_;
    image_size size_;
    std::int64_t frames_ = 0;
};

} // namespace vision
