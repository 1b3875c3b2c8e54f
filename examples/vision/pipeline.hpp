// SPDX-License-Identifier: BSL-1.0
// One video through the engine: decode, prepare, infer, write, all at once and in bounded memory.
//
//   source --decode--> channel --prepare, infer x N--> channel --reorder--> files, partial results
//
// A frame holds a slot of the frame pool from its decoding until it is written, so the slots bound
// the memory, whatever the video's length and however slow any stage is.
#pragma once

#include "engine.hpp"
#include "pipeline_options.hpp"
#include "video_source.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/experimental/coro.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace vision {

// Some more frames are done. The last one of a video may be shorter.
struct partial_result {
    struct frame {
        std::int64_t index = 0;
        std::vector<detection> found;
    };
    std::vector<frame> frames;                    // since the last one, in order
    std::int64_t frames_done = 0;                 // in all
    std::int64_t frames_resumed = 0;              // of those, known from a checkpoint
    std::optional<std::int64_t> announced_frames; // what the file says, which may be wrong
    double frames_per_second = 0;                 // so far, without those
    std::shared_ptr<const std::string> preview;   // a JPEG of the last frame, where wanted

    // 0..1; nothing if unknown. It reaches 1 only at the real end.
    [[nodiscard]] std::optional<double> progress() const;
};

struct video_summary {
    source_info source;
    std::int64_t frames = 0;      // written
    std::int64_t resumed = 0;     // of those, known from a checkpoint; the others were inferred
    std::int64_t undecodable = 0; // skipped
    std::int64_t detections = 0;
    std::int64_t dropped_boxes = 0;   // no finite numbers: the model is broken
    std::size_t frames_in_flight = 0; // the bound that was in force
    bool interrupted = false;
    std::chrono::duration<double> took{0};
    std::vector<std::string> warnings;
    std::filesystem::path detections_file;
    std::filesystem::path video_file; // empty where none was asked for

    [[nodiscard]] double frames_per_second() const {
        return took.count() > 0 ? static_cast<double>(frames - resumed) / took.count() : 0;
    }
};

using video_run = boost::asio::experimental::coro<partial_result(), video_summary>;

// Runs a video: every resumption gives the next partial result (a chunk of frames), the end gives
// the summary. Throws vision::error for what is wrong with model, source or output; then no file is
// left behind. After engine::stop, or a stop of its own, it ends soon with what was done by then,
// in whole files, or in a checkpoint. `executor` runs one handler at a time (an io_context with one
// thread, or a strand).
video_run detect_objects(boost::asio::any_io_executor executor, engine& shared,
                         video_options options);

} // namespace vision
