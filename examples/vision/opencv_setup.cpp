// SPDX-License-Identifier: BSL-1.0
// The FFmpeg variables are read by OpenCV at its first video, so they must be there before it.
#include "opencv_setup.hpp"

#include <cstdlib>
#include <opencv2/core/utility.hpp>
#include <opencv2/core/utils/logger.hpp>

namespace vision {

void set_up_opencv() {
    constexpr int keep_existing = 0;
    setenv("OPENCV_FFMPEG_LOGLEVEL", "-8", keep_existing);
    // A playlist that is named like a video must not reach the network.
    setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file", keep_existing);
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
    cv::setNumThreads(1);
}

} // namespace vision
