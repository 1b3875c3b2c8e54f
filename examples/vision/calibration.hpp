// SPDX-License-Identifier: BSL-1.0
// How many inferences to run at once, and of how many pictures each: measured, not believed.
#pragma once

#include "detector.hpp"

#include <tidegate/batch_calibration.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace vision {

// On a CPU, several inferences of one picture each mostly beat one inference of a large batch,
// whose activations leave the caches; on a GPU it is the other way round.
struct calibration {
    tidegate::batch_measurement chosen;
    std::vector<tidegate::batch_measurement> measured; // empty where the user chose

    // One line a measurement, the chosen one marked.
    [[nodiscard]] std::string table() const;
};

[[nodiscard]] std::size_t processor_cores() noexcept; // 1 or more

struct calibration_limits {
    std::size_t max_workers = 1;
    std::size_t max_batch = 8;
    std::chrono::milliseconds budget{2000}; // soft: a run that has begun is finished
};

// Blocks; throws run_stopped when `stop` says so.
[[nodiscard]] calibration calibrate(const detector& model, const calibration_limits& limits,
                                    run_control& stop);

} // namespace vision
