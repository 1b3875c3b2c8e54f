// SPDX-License-Identifier: BSL-1.0
// What all videos of a process share: the model, loaded once, and the threads.
#pragma once

#include "calibration.hpp"
#include "detector.hpp"
#include "guards.hpp"
#include "pipeline_options.hpp"

#include <tidegate/batcher.hpp>
#include <tidegate/lazy.hpp>
#include <tidegate/monitor.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <span>
#include <string>
#include <vector>

namespace vision {

// The memory of one frame on its way; lent from a pool, so nothing is allocated a frame.
struct frame_slot {
    std::int64_t index = 0;             // in the source
    std::int64_t number = 0;            // among those inferred, without gaps
    std::string image_name;             // where the source is images
    cv::Mat picture;                    // as decoded
    std::vector<std::uint8_t> prepared; // letterboxed, as the model wants it
    letterbox_plan plan;
    std::uint64_t video = 0; // whose it is: the videos take turns in a batch
    detection_limits limits{};
};
using frame_pool = tidegate::object_pool<frame_slot>;

// A frame with what was found in it. The slot travels along, so that whoever holds the frame keeps
// its memory, also when the one who asked for the inference has gone.
struct detected_frame {
    frame_pool::lease slot;
    std::vector<detection> found;
    std::exception_ptr failure; // of the backend: the frame can be tried again
};

// A model that is ready to run, with the batcher in front of it.
class loaded_model {
public:
    loaded_model(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                 const engine_options& options, run_control& stop);

    detector model;
    calibration tuned;
    tidegate::batcher<frame_pool::lease, detected_frame> batches;

private:
    std::vector<detected_frame> run(std::span<frame_pool::lease> batch);
    void infer(std::size_t count, detector_scratch& scratch);

    tidegate::monitor& monitor_;
    std::function<void()> before_inference_;
    run_control& stop_;
    // As many as batches can run at once.
    tidegate::object_pool<detector_scratch> scratches_;
};

// Lives as long as all that run on it.
class engine {
public:
    // Throws vision::error for options out of range.
    engine(boost::asio::any_io_executor executor, const engine_options& options);

    // Ends inferences that run, within a millisecond or so, and lets none begin. Called from
    // elsewhere than the videos' executor, it may take max_delay to be noticed.
    void stop() noexcept;
    [[nodiscard]] bool stopped() const noexcept { return stop_.stop_requested(); }

    tidegate::monitor monitor;

private:
    run_control stop_;

public:
    tidegate::worker_pool compute; // preparation and inference: as many threads as cores
    tidegate::worker_pool decode;  // blocking reads: as many videos at once as it has threads
    tidegate::worker_pool write;   // blocking writes, one thread: in order
    tidegate::lazy<loaded_model> model;
    tidegate::circuit_breaker backend;
    const backend_guard guarded;
    const decoder_guard in_time;
    std::function<void()> const before_read; // see engine_options

    // A thread of the decode pool will not come back: another one takes its place.
    void give_up_decoder();
    [[nodiscard]] std::size_t lost_decoders() const noexcept { return lost_decoders_; }

private:
    std::size_t lost_decoders_ = 0;
};

} // namespace vision
