// SPDX-License-Identifier: BSL-1.0
// Pictures one after another: from a video file, a folder of images or one image.
#pragma once

#include "image_size.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <optional>
#include <string>

namespace vision {

enum class read_status {
    frame,   // a picture
    skipped, // there is one, but it cannot be decoded; the next may be whole
    end,     // no more
};

struct source_info {
    std::filesystem::path path;
    image_size size; // after rotation; of the first picture where they differ
    double frames_per_second = 0;
    // What the file announces, which may be wrong in both directions; unset where it is absurd.
    std::optional<std::int64_t> announced_frames;
    int rotation = 0; // degrees clockwise that were applied: 0, 90, 180 or 270
    bool images = false;
};

// One thread at a time. Reading blocks: keep it off the event loop.
class video_source {
public:
    virtual ~video_source() = default;

    [[nodiscard]] const source_info& info() const noexcept { return info_; }

    // The next picture, 8-bit BGR, upright. `frame` keeps its memory where the size fits, and is
    // the caller's: no later call touches it. Throws vision::error at the end of a source without
    // any picture that could be decoded.
    [[nodiscard]] read_status read(cv::Mat& frame);
    // Passes over one picture, cheaper than read(); for "every n-th".
    [[nodiscard]] read_status skip();

    // Index of the picture that was read or passed over last, from 0; the end does not count.
    [[nodiscard]] std::int64_t index() const noexcept { return next_ - 1; }
    // The time of picture `index`, from the frame rate: timestamps in files are not always
    // monotonic.
    [[nodiscard]] double seconds(std::int64_t index) const noexcept {
        return static_cast<double>(index) / info_.frames_per_second;
    }
    // Of the image that was read last; empty for a video.
    [[nodiscard]] virtual std::string image_name() const { return {}; }

    [[nodiscard]] std::int64_t undecodable() const noexcept { return undecodable_; }
    // At the end: fewer pictures came than were announced. A line for the user, or empty.
    [[nodiscard]] std::string truncation_warning() const;

protected:
    virtual read_status next(cv::Mat* frame) = 0; // null: pass over

    source_info info_;

private:
    read_status count(read_status status);

    std::int64_t next_ = 0;
    std::int64_t undecodable_ = 0;
    std::int64_t good_ = 0;
    bool ended_ = false;
};

// A local file or folder; anything else (URL, device, pattern) is refused, as is what holds no
// picture. Folders: *.jpg, *.jpeg, *.png and *.bmp in the order of their names. Throws
// vision::error.
[[nodiscard]] std::unique_ptr<video_source> open_source(const std::filesystem::path& path);

// Degrees clockwise from what OpenCV's CAP_PROP_ORIENTATION_META says: 4.6 turned the sign round.
[[nodiscard]] int rotation_from_meta(double meta, int opencv_major, int opencv_minor) noexcept;

} // namespace vision
