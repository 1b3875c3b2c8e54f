// SPDX-License-Identifier: BSL-1.0
// A model that is ready to run, with the batcher in front of it and the frames on their way to it.
#pragma once

#include "calibration.hpp"
#include "detector.hpp"
#include "frame_supply.hpp"
#include "pipeline_options.hpp"

#include <tidegate/batcher.hpp>
#include <tidegate/monitor.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/worker_pool.hpp>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace vision {

// A frame with what was found in it. The slot travels along, so that whoever holds the frame keeps
// its memory, also when the one who asked for the inference has gone.
struct detected_frame {
    frame_pool::lease slot;
    std::vector<detection> found;
    std::size_t dropped = 0;    // boxes that were no finite numbers
    std::exception_ptr failure; // of the backend: the frame can be tried again
    bool known = false;         // from a checkpoint, not from an inference
};

// Tells models of one name apart. Blocks.
[[nodiscard]] std::string digest_of_model(const std::filesystem::path& file);

// Bytes that the model of a file takes, about, before it is loaded.
[[nodiscard]] std::uint64_t bytes_of_model(const std::filesystem::path& file);

// What a batch needs. Shared with those that run: when all who wanted a batch have left, it may
// outlive the model's being loaded.
class batch_inference {
public:
    batch_inference(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                    const detector_options& which, const engine_options& options,
                    run_control& stop);

    // One result for each frame. Any thread, as many at once as are to run.
    std::vector<detected_frame> run(std::span<frame_pool::lease> batch);

    detector const model;
    calibration const tuned;

private:
    void infer(std::size_t count, detector_scratch& scratch);

    tidegate::monitor& monitor_;
    std::function<void()> before_inference_;
    run_control& stop_;
    // As many as batches can run at once.
    tidegate::object_pool<detector_scratch> scratches_;
};

class loaded_model {
    std::shared_ptr<batch_inference> const inference_;

public:
    // Blocks: reads the file, runs it, and measures how it runs best where the options leave it
    // open. Throws vision::error. Pool, monitor and control outlive what runs on the pool.
    loaded_model(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                 const detector_options& which, const engine_options& options, run_control& stop);

    // Bytes that it takes, about: the model, its tensors, and the letterboxed frames.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

    detector const& model;
    calibration const& tuned;
    std::string const digest;
    frame_supply frames;
    tidegate::batcher<frame_pool::lease, detected_frame> batches;

private:
    std::uint64_t bytes_;
};

} // namespace vision
