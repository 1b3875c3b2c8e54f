// SPDX-License-Identifier: BSL-1.0
// cv::VideoCapture behind an interface that believes nothing the container says.
#include "video_source.hpp"

#include "container_check.hpp"
#include "error.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <opencv2/core.hpp>
#include <opencv2/core/utility.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/videoio.hpp>
#include <vector>

namespace vision {
namespace {

namespace fs = std::filesystem;

constexpr double default_rate = 25;

[[noreturn]] void fail(const fs::path& path, std::string_view why) {
    throw source_error(fmt::format("source '{}': {}", path.string(), why));
}

bool is_image(const fs::path& path) {
    std::string extension = path.extension().string();
    std::ranges::transform(extension, extension.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return extension == ".jpg" || extension == ".jpeg" || extension == ".png" ||
           extension == ".bmp";
}

double sane_rate(double rate) {
    return std::isfinite(rate) && rate >= 0.1 && rate <= 1000 ? rate : default_rate;
}

// Up to a month at 400 frames/s; files claim up to -2^63, which no integer conversion survives.
std::optional<std::int64_t> sane_count(double count) {
    return count >= 1 && count <= 1e9 ? std::optional(static_cast<std::int64_t>(count))
                                      : std::nullopt;
}

void rotate(const cv::Mat& from, int degrees, cv::Mat& to) {
    switch (degrees) {
    case 90: cv::rotate(from, to, cv::ROTATE_90_CLOCKWISE); break;
    case 180: cv::rotate(from, to, cv::ROTATE_180); break;
    case 270: cv::rotate(from, to, cv::ROTATE_90_COUNTERCLOCKWISE); break;
    default: from.copyTo(to); break;
    }
}

class video_file final : public video_source {
public:
    explicit video_file(const fs::path& path) {
        info_.path = path;
        // An absolute path cannot be taken for a URL, and the file is known to exist.
        if (!capture_.open(fs::absolute(path).string(), cv::CAP_FFMPEG)) {
            fail(path, "not a video that can be decoded here");
        }
        capture_.set(cv::CAP_PROP_ORIENTATION_AUTO, 0); // 4.6 turns the wrong way
        info_.rotation = rotation_from_meta(capture_.get(cv::CAP_PROP_ORIENTATION_META),
                                            cv::getVersionMajor(), cv::getVersionMinor());
        info_.frames_per_second = sane_rate(capture_.get(cv::CAP_PROP_FPS));
        info_.announced_frames = sane_count(capture_.get(cv::CAP_PROP_FRAME_COUNT));
        grabbed_ahead_ = capture_.grab();
        if (!grabbed_ahead_) {
            fail(path, "holds no frame");
        }
        info_.size = {static_cast<int>(capture_.get(cv::CAP_PROP_FRAME_WIDTH)),
                      static_cast<int>(capture_.get(cv::CAP_PROP_FRAME_HEIGHT))};
        if (info_.rotation % 180 != 0) {
            std::swap(info_.size.width, info_.size.height);
        }
    }

private:
    // grab() walks over damaged packets by itself and fails only at the end of what can be read; a
    // frame that was grabbed and cannot be retrieved is one bad frame in the middle.
    read_status next(cv::Mat* frame) override {
        if (!std::exchange(grabbed_ahead_, false) && !capture_.grab()) {
            return read_status::end;
        }
        if (!frame) {
            return read_status::frame;
        }
        cv::Mat& target = info_.rotation == 0 ? *frame : unrotated_;
        if (!retrieve(target)) {
            return read_status::skipped;
        }
        if (info_.rotation != 0) {
            rotate(unrotated_, info_.rotation, *frame);
        }
        return read_status::frame;
    }

    bool retrieve(cv::Mat& target) {
        try {
            return capture_.retrieve(target) && !target.empty() && target.type() == CV_8UC3;
        } catch (const cv::Exception&) {
            return false;
        }
    }

    cv::VideoCapture capture_;
    cv::Mat unrotated_;
    bool grabbed_ahead_ = false;
};

class image_files final : public video_source {
public:
    image_files(const fs::path& path, std::vector<fs::path> files) : files_(std::move(files)) {
        info_.path = path;
        info_.images = true;
        info_.frames_per_second = 1;
        info_.announced_frames = static_cast<std::int64_t>(files_.size());
        if (files_.empty()) {
            fail(path, "a folder without images; allowed: *.jpg, *.jpeg, *.png, *.bmp");
        }
        if (decode(files_.front(), ahead_)) {
            info_.size = {ahead_.cols, ahead_.rows};
        }
    }

    std::string image_name() const override {
        return at_ == 0 ? std::string() : files_[at_ - 1].filename().string();
    }

private:
    read_status next(cv::Mat* frame) override {
        if (at_ == files_.size()) {
            return read_status::end;
        }
        const fs::path& file = files_[at_++];
        if (!frame) {
            ahead_.release();
            return read_status::frame;
        }
        if (at_ == 1 && !ahead_.empty()) {
            *frame = std::move(ahead_);
            return read_status::frame;
        }
        return decode(file, *frame) ? read_status::frame : read_status::skipped;
    }

    static bool decode(const fs::path& file, cv::Mat& frame) {
        try {
            frame = cv::imread(file.string(), cv::IMREAD_COLOR); // turned upright by its EXIF data
            return !frame.empty();
        } catch (const cv::Exception&) {
            return false; // more pixels than OpenCV allows
        }
    }

    std::vector<fs::path> files_;
    std::size_t at_ = 0;
    cv::Mat ahead_; // the first one, decoded early for its size
};

std::vector<fs::path> images_in(const fs::path& folder) {
    std::vector<fs::path> files;
    std::error_code problem;
    for (fs::directory_iterator entry(folder, problem), last; !problem && entry != last;
         entry.increment(problem)) {
        std::error_code ignored;
        if (is_image(entry->path()) && entry->is_regular_file(ignored)) {
            files.push_back(entry->path());
        }
    }
    if (problem) {
        fail(folder, "cannot be listed: " + problem.message());
    }
    std::ranges::sort(files);
    return files;
}

} // namespace

read_status video_source::read(cv::Mat& frame) {
    return count(ended_ ? read_status::end : next(&frame));
}

read_status video_source::skip() { return count(ended_ ? read_status::end : next(nullptr)); }

read_status video_source::count(read_status status) {
    switch (status) {
    case read_status::frame:
        ++next_;
        ++good_;
        break;
    case read_status::skipped:
        ++next_;
        ++undecodable_;
        break;
    case read_status::end:
        if (!std::exchange(ended_, true) && good_ == 0) {
            fail(info_.path, "no picture in it can be decoded");
        }
        break;
    }
    return status;
}

std::string video_source::truncation_warning() const {
    if (!ended_ || !info_.announced_frames || next_ >= *info_.announced_frames) {
        return {};
    }
    return fmt::format("source '{}' announces {} frames but holds {}", info_.path.string(),
                       *info_.announced_frames, next_);
}

std::unique_ptr<video_source> open_source(const fs::path& path) {
    std::error_code problem;
    const fs::file_status status = fs::status(path, problem);
    if (fs::is_directory(status)) {
        return std::make_unique<image_files>(path, images_in(path));
    }
    if (!fs::is_regular_file(status)) {
        fail(path, fs::exists(status)
                       ? "neither a file nor a folder; allowed: a local video, image or folder"
                       : "no such file or folder; allowed: a local video, image or folder");
    }
    if (is_image(path)) {
        return std::make_unique<image_files>(path, std::vector{path});
    }
    if (auto const promised = promised_size(path)) {
        fail(path, fmt::format("truncated: {} bytes of the {} that its container has",
                               fs::file_size(path), *promised));
    }
    return std::make_unique<video_file>(path);
}

int rotation_from_meta(double meta, int opencv_major, int opencv_minor) noexcept {
    if (!std::isfinite(meta) || std::abs(meta) > 3600) {
        return 0;
    }
    const int clockwise = (static_cast<int>(std::lround(meta)) % 360 + 360) % 360;
    if (clockwise % 90 != 0) {
        return 0; // OpenCV does not turn such films either
    }
    const bool counter_clockwise = opencv_major == 4 && opencv_minor == 6;
    return counter_clockwise ? (360 - clockwise) % 360 : clockwise;
}

} // namespace vision
