// SPDX-License-Identifier: BSL-1.0
// The random schedules of the pipeline where the sanitizers see every access: OpenCV and ONNX
// Runtime, which no sanitizer looks into, are stood in for.
#include "marked_picture.hpp"
#include "random_schedule.hpp"

TEST_CASE("ten videos at once, in random schedules, share nothing without order", "[stress]") {
    known_videos known;
    known.file = [](int video) { return std::to_string(video) + ".marked"; };
    known.frames = stand_in::frames;
    known.fault = [](int video, const vision::partial_result::frame& frame) -> std::string {
        return frame.found == stand_in::boxes_in(video, frame.index) ? "" : "not its own boxes";
    };
    play_schedules(known, test::schedules(50));
}
