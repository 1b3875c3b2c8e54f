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
#include <string>
#include <vector>

namespace vision {

struct named_model {
    std::string name; // 1 to 64 letters, digits, '.', '-' and '_'
    std::filesystem::path file;
};

struct engine_options {
    detector_options model;               // the one that is current at first
    std::string model_name;               // unset: its file's name without the ending
    std::vector<named_model> more_models; // with the settings of `model`
    // Bytes for all of them, about, 1 to 2^50: those that are idle make room.
    std::uint64_t model_memory = std::uint64_t{4} << 30;
    // Unset: calibrated when the model is loaded.
    std::optional<std::size_t> batch;       // 1..16: a run is cut short between its nodes
    std::optional<std::size_t> workers;     // 1..64, inferences at once
    std::chrono::milliseconds max_delay{0}; // 0..10000, how long a batch waits to fill; 0: never
    std::size_t decoders = 1;               // 1..64, threads that read videos
    // 2..1024, frames of all videos under way, the bound on their memory; unset: as many as keep
    // the workers busy.
    std::optional<std::size_t> frames_in_flight;
    guard_limits limits;
    // For tests, who make them fail or hang: called on the pool before each frame that is read, and
    // before each inference.
    std::function<void()> before_read;
    std::function<void()> before_inference;
};

struct video_options {
    std::filesystem::path source;
    std::filesystem::path out; // a folder; made if it is not there
    std::string model;         // by name; unset: the current one
    std::size_t every_n = 1;   // 1..100000, infer every n-th frame only
    std::size_t chunk = 30;    // 1..100000, frames between two partial results
    bool annotate = true;      // write the video with boxes
    bool previews = false;     // a small picture with each partial result
    // Unset: the model's.
    std::optional<float> confidence; // in 0..1
    std::optional<float> iou;        // in 0..1
    // A video with more is refused.
    std::int64_t max_pixels = std::int64_t{1} << 28; // of a frame
    std::int64_t max_frames = std::int64_t{1} << 40;
    // Whether its frames go before those of other videos that are not urgent. Asked for each frame,
    // on the executor; unset: they do not.
    std::function<bool()> is_urgent;
    std::stop_token stop; // ends this video soon, as engine::stop ends all of them
    // A file that keeps what was found so far, until all of it is written: a run that ends early
    // leaves it and nothing else, and another one goes on from it. Empty: none.
    std::filesystem::path checkpoint;
    // Checkpoints of other runs of the same video: the one that has got furthest is gone on from,
    // if what it found is what this run would find.
    std::vector<std::filesystem::path> earlier;
};

// All of them, the current one first.
[[nodiscard]] std::vector<named_model> models_of(const engine_options& options);

// Throw vision::error naming the option, its value and the allowed range.
void check(const engine_options& options);
void check(const video_options& options);

} // namespace vision
