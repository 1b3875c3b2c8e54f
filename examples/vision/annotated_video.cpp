// SPDX-License-Identifier: BSL-1.0
// MPEG-4 part 2 in .mp4: every build of FFmpeg encodes it, and every player plays it.
#include "annotated_video.hpp"

#include "error.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <vector>

namespace vision {
namespace {

// Hues a golden angle apart: neighbouring classes look different.
cv::Scalar class_colour(int class_id) {
    const double hue = std::fmod(class_id * 137.508, 360.0) / 60;
    const double fraction = hue - std::floor(hue);
    constexpr double high = 255;
    constexpr double low = 40;
    const double rising = low + (high - low) * fraction;
    const double falling = high - (high - low) * fraction;
    switch (static_cast<int>(hue)) { // as BGR
    case 0: return {low, rising, high};
    case 1: return {low, high, falling};
    case 2: return {rising, high, low};
    case 3: return {high, falling, low};
    case 4: return {high, low, rising};
    default: return {falling, low, high};
    }
}

cv::Scalar text_colour(const cv::Scalar& on) {
    const double brightness = 0.114 * on[0] + 0.587 * on[1] + 0.299 * on[2];
    return brightness > 140 ? cv::Scalar::all(0) : cv::Scalar::all(255);
}

// OpenCV's fonts hold ASCII only.
std::string ascii(std::string text) {
    std::string result;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7F) {
            result += c;
        } else if (byte >= 0xC0) { // one for each character, whatever its bytes
            result += '?';
        }
    }
    return result;
}

struct pen {
    double font_scale;
    int thickness;
    static constexpr int font = cv::FONT_HERSHEY_SIMPLEX;
};

pen pen_for(const cv::Mat& picture) {
    const double side = std::min(picture.cols, picture.rows);
    return {std::clamp(side / 1000, 0.4, 2.0),
            std::max(1, static_cast<int>(std::lround(side / 360)))};
}

// The first of three places that no label has taken yet: above the box, inside its top, below it.
cv::Rect free_place(cv::Size label, const cv::Rect& box, cv::Size picture,
                    const std::vector<cv::Rect>& taken) {
    const int left = std::max(0, std::min(box.x, picture.width - label.width));
    const auto is_free = [&](int top) {
        const cv::Rect place(cv::Point(left, top), label);
        return top >= 0 && top + label.height <= picture.height &&
               std::ranges::none_of(
                   taken, [&](const cv::Rect& other) { return (other & place).area() > 0; });
    };
    for (const int top : {box.y - label.height, box.y, box.y + box.height}) {
        if (is_free(top)) {
            return {cv::Point(left, top), label};
        }
    }
    return {cv::Point(left, std::max(0, box.y - label.height)), label};
}

cv::Rect draw_label(cv::Mat& bgr, const cv::Rect& box, const std::string& text,
                    const cv::Scalar& colour, pen p, const std::vector<cv::Rect>& taken) {
    int below = 0;
    const int stroke = std::max(1, p.thickness / 2);
    const cv::Size size = cv::getTextSize(text, pen::font, p.font_scale, stroke, &below);
    const cv::Rect place =
        free_place({size.width + 2, size.height + below + 2}, box, bgr.size(), taken);
    cv::rectangle(bgr, place, colour, cv::FILLED);
    cv::putText(bgr, text, {place.x + 1, place.y + size.height + 1}, pen::font, p.font_scale,
                text_colour(colour), stroke, cv::LINE_AA);
    return place;
}

// Even sides, as the encoder wants them, and room enough for it.
image_size canvas_size(image_size first) {
    const auto even = [](int side) { return std::max(16, side + side % 2); };
    return {even(first.width), even(first.height)};
}

} // namespace

void draw_detections(cv::Mat& bgr, std::span<const detection> detections,
                     const model_layout& layout) {
    const pen p = pen_for(bgr);
    const auto box_of = [](const detection& d) {
        return cv::Rect(
            cv::Point(static_cast<int>(d.x1), static_cast<int>(d.y1)),
            cv::Point(static_cast<int>(std::ceil(d.x2)), static_cast<int>(std::ceil(d.y2))));
    };
    for (auto d = detections.rbegin(); d != detections.rend(); ++d) { // the best on top
        cv::rectangle(bgr, box_of(*d), class_colour(d->class_id), p.thickness);
    }
    std::vector<cv::Rect> taken;
    for (const detection& d : detections) { // the best has first choice of a place
        const std::string text =
            fmt::format("{} {:.2f}", ascii(layout.class_name(d.class_id)), d.score);
        taken.push_back(draw_label(bgr, box_of(d), text, class_colour(d.class_id), p, taken));
    }
}

std::string small_jpeg(const cv::Mat& bgr) {
    constexpr int widest = 640;
    cv::Mat small = bgr;
    if (bgr.cols > widest) {
        const double scale = static_cast<double>(widest) / bgr.cols;
        const int height = std::max(1, static_cast<int>(std::lround(bgr.rows * scale)));
        cv::resize(bgr, small, {widest, height}, 0, 0, cv::INTER_AREA);
    }
    std::vector<unsigned char> bytes;
    cv::imencode(".jpg", small, bytes, {cv::IMWRITE_JPEG_QUALITY, 75});
    return {bytes.begin(), bytes.end()};
}

annotated_video::annotated_video(const std::filesystem::path& path, double frames_per_second)
    : file_(path), rate_(std::clamp(frames_per_second, 1.0, 120.0)) {}

void annotated_video::write(cv::Mat& frame, std::span<const detection> detections,
                            const model_layout& layout) {
    draw_detections(frame, detections, layout);
    if (frames_ == 0) {
        open({frame.cols, frame.rows});
    }
    try {
        writer_.write(fit(frame));
    } catch (const cv::Exception&) {
        fail("the encoder failed");
    }
    ++frames_;
}

void annotated_video::commit() {
    if (frames_ == 0) {
        return;
    }
    try {
        writer_.release();
    } catch (const cv::Exception&) {
        fail("the encoder failed");
    }
    cv::VideoCapture check(std::filesystem::absolute(file_.temporary()).string(), cv::CAP_FFMPEG);
    const bool whole =
        check.isOpened() && check.get(cv::CAP_PROP_FRAME_COUNT) >= static_cast<double>(frames_);
    check.release();
    if (!whole) {
        fail("the file is incomplete; is the disk full?");
    }
    file_.commit();
}

void annotated_video::open(image_size first) {
    size_ = canvas_size(first);
    const int codec = cv::VideoWriter::fourcc('m', 'p', '4', 'v');
    bool opened = false;
    try {
        opened = writer_.open(std::filesystem::absolute(file_.temporary()).string(), cv::CAP_FFMPEG,
                              codec, rate_, {size_.width, size_.height});
    } catch (const cv::Exception&) {
        opened = false;
    }
    if (!opened) {
        fail("the file cannot be opened for an mp4v video");
    }
}

const cv::Mat& annotated_video::fit(const cv::Mat& frame) {
    if (frame.cols == size_.width && frame.rows == size_.height) {
        return frame;
    }
    canvas_.create(size_.height, size_.width, CV_8UC3);
    canvas_.setTo(cv::Scalar::all(0));
    const double ratio = std::min({1.0, static_cast<double>(size_.width) / frame.cols,
                                   static_cast<double>(size_.height) / frame.rows});
    const cv::Size inner(std::max(1, static_cast<int>(frame.cols * ratio)),
                         std::max(1, static_cast<int>(frame.rows * ratio)));
    cv::Mat area = canvas_(cv::Rect(cv::Point(0, 0), inner));
    cv::resize(frame, area, inner, 0, 0, cv::INTER_AREA);
    return canvas_;
}

void annotated_video::fail(const char* why) const {
    throw output_error(fmt::format("cannot write '{}': {}", file_.path().string(), why));
}

} // namespace vision
