// SPDX-License-Identifier: BSL-1.0
// Stands in for OpenCV's writer of videos, which the pipeline only names.
#pragma once

namespace cv {

struct VideoWriter {};

} // namespace cv
