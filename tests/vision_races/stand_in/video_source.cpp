// SPDX-License-Identifier: BSL-1.0
// Stands in for the sources that OpenCV reads: the file's name is the video's number.
#include "video_source.hpp"

#include "marked_picture.hpp"

namespace vision {

namespace {

class marked_video final : public video_source {
public:
    explicit marked_video(const std::filesystem::path& path)
        : video_(static_cast<std::uint8_t>(std::stoi(path.stem().string()))) {
        info_.path = path;
        info_.size = stand_in::size;
        info_.frames_per_second = 25;
        info_.announced_frames = stand_in::frames;
    }

private:
    read_status next(cv::Mat* frame) override {
        if (index() + 1 == stand_in::frames) return read_status::end;
        if (!frame) return read_status::frame;
        frame->rows = stand_in::size.height;
        frame->cols = stand_in::size.width;
        frame->bytes.resize(3 * stand_in::size.pixels());
        auto const number = static_cast<std::uint8_t>(index() + 1);
        for (std::size_t i = 0; i < frame->bytes.size(); i += 3) {
            frame->bytes[i] = video_;
            frame->bytes[i + 1] = number;
            frame->bytes[i + 2] = 0; // drawn upon later
        }
        return read_status::frame;
    }

    std::uint8_t video_;
};

} // namespace

read_status video_source::read(cv::Mat& frame) { return count(next(&frame)); }
read_status video_source::skip() { return count(next(nullptr)); }

read_status video_source::count(read_status status) {
    if (status == read_status::frame) ++next_;
    return status;
}

std::string video_source::truncation_warning() const { return {}; }

std::unique_ptr<video_source> open_source(const std::filesystem::path& path) {
    return std::make_unique<marked_video>(path);
}

} // namespace vision
