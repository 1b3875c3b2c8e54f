// SPDX-License-Identifier: BSL-1.0
// OpenCV's process-wide settings, in one place.
#pragma once

namespace vision {

// Call once at the start of main, before any other thread runs: it sets environment variables. One
// OpenCV thread (parallelism is over frames), no lines of OpenCV or FFmpeg on stderr, and FFmpeg
// may open local files only. What the user's environment sets already stays.
void set_up_opencv();

} // namespace vision
