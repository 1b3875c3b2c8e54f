// SPDX-License-Identifier: BSL-1.0
// Random schedules of real videos through a real model.
#include "random_schedule.hpp"
#include "real_data.hpp"

TEST_CASE("ten videos at once, in random schedules, have each its own truth") {
    NEEDS_REAL_DATA();
    auto const truth = reference("synthetic_blobs_truth.jsonl");
    known_videos known;
    known.model = real_data() / "models/synthetic_blob_v8_416_dyn.onnx";
    known.file = [](int) { return real_data() / "video/synthetic_blobs.avi"; };
    known.frames = static_cast<std::int64_t>(truth.size());
    known.fault = [&truth](int, const vision::partial_result::frame& frame) {
        return difference(truth.at(std::to_string(frame.index)), frame.found, 0.98F, 1);
    };
    play_schedules(known, test::schedules(50));
}
