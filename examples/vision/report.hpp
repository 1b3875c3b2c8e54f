// SPDX-License-Identifier: BSL-1.0
// report.txt for people and report.json for machines: what a run did and where its time went.
#pragma once

#include "engine.hpp"
#include "pipeline.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vision {

struct run_report {
    std::string model;
    std::string layout;
    calibration tuned;
    video_summary video;
    tidegate::batcher_statistics batches;
    std::vector<tidegate::operation_summary> stages;
    double cpu_seconds = 0;             // of the process
    std::int64_t peak_memory_bytes = 0; // of the process

    [[nodiscard]] std::string text() const;
    [[nodiscard]] std::string json() const;

    // Throws vision::error.
    void write_to(const std::filesystem::path& folder) const;
};

// What the engine knows after a video; `model` names its file.
[[nodiscard]] run_report make_report(const std::filesystem::path& model, engine& shared,
                                     const loaded_model& loaded, video_summary video);

// User and system time of this process so far, and the most memory it ever had.
[[nodiscard]] double process_cpu_seconds();
[[nodiscard]] std::int64_t process_peak_memory();

} // namespace vision
