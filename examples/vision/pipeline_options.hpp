// SPDX-License-Identifier: BSL-1.0
// What a user can say about a run, and its checks.
#pragma once

#include "detector.hpp"
#include "guards.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>

namespace vision {

struct engine_options {
    detector_options model;
    // Unset: calibrated when the model is loaded.
    std::optional<std::size_t> batch;       // 1..16: a run is cut short between its nodes
    std::optional<std::size_t> workers;     // 1..64, inferences at once
    std::chrono::milliseconds max_delay{0}; // 0..10000, how long a batch waits to fill; 0: never
    std::size_t decoders = 1;               // 1..64, threads that read videos
    guard_limits limits;
    // For tests, who make them fail or hang: called on the pool before each frame that is read, and
    // before each inference.
    std::function<void()> before_read;
    std::function<void()> before_inference;
};

struct video_options {
    std::filesystem::path source;
    std::filesystem::path out; // a folder; made if it is not there
    // 2..1024, the memory's bound; unset: as many as keep the workers busy.
    std::optional<std::size_t> frames_in_flight;
    std::size_t every_n = 1; // 1..100000, infer every n-th frame only
    std::size_t chunk = 30;  // 1..100000, frames between two partial results
    bool annotate = true;    // write the video with boxes
    bool previews = false;   // a small picture with each partial result
    // Unset: the model's.
    std::optional<float> confidence; // in 0..1
    std::optional<float> iou;        // in 0..1
    // A video with more is refused.
    std::int64_t max_pixels = std::int64_t{1} << 28; // of a frame
    std::int64_t max_frames = std::int64_t{1} << 40;
    std::stop_token stop; // ends this video soon, as engine::stop ends all of them
};

// Throw vision::error naming the option, its value and the allowed range.
void check(const engine_options& options);
void check(const video_options& options);

} // namespace vision
