// SPDX-License-Identifier: BSL-1.0
// The random schedules of the pipeline where the sanitizers see every access: OpenCV and ONNX
// Runtime, which no sanitizer looks into, are stood in for.
#include "marked_picture.hpp"
#include "random_schedule.hpp"

#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>

TEST_CASE("ten videos at once, in random schedules, share nothing without order", "[stress]") {
    known_videos known;
    known.file = [](int video) { return std::to_string(video) + ".marked"; };
    known.frames = stand_in::frames;
    known.fault = [](int video, const vision::partial_result::frame& frame) -> std::string {
        return frame.found == stand_in::boxes_in(video, frame.index) ? "" : "not its own boxes";
    };
    play_schedules(known, test::schedules(50));
}

// All who want a batch can leave while it runs, and with the last of them its model may go.
TEST_CASE("an inference that nobody waits for any more outlives its model") {
    std::promise<void> inside, go_on;
    auto const went_on = go_on.get_future().share();
    std::stop_source stop;
    temp_folder folder;
    boost::asio::io_context io{1};
    std::optional<vision::engine> engine;
    std::weak_ptr<int> copies; // of what is called before an inference
    {
        auto const copy = std::make_shared<int>();
        copies = copy;
        vision::engine_options options;
        options.workers = 1;
        options.batch = 1;
        options.before_inference = [&inside, went_on, copy] {
            inside.set_value();
            went_on.wait();
        };
        engine.emplace(io.get_executor(), options);
    }
    finished_video done;
    vision::video_options video;
    video.source = "1.marked";
    video.out = folder / "out";
    video.annotate = false;
    video.stop = stop.get_token();
    boost::asio::co_spawn(io, run_video(*engine, video, done), boost::asio::detached);
    std::jthread const stopper([&] {
        inside.get_future().wait();
        stop.request_stop();
    });
    io.run(); // the video ends without its inference
    CHECK(done.summary.interrupted);
    std::jthread const opener([&] {
        while (copies.use_count() > 1) std::this_thread::yield(); // the model is still loaded
        go_on.set_value();
    });
    engine.reset();
}
