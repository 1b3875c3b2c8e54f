// SPDX-License-Identifier: BSL-1.0
// How many inferences to run at once, and of how many pictures each: measured, not believed.
#pragma once

#include "detector.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace vision {

// On a CPU, several inferences of one picture each mostly beat one inference of a large batch,
// whose activations leave the caches; on a GPU it is the other way round.
struct throughput_point {
    std::size_t workers = 1;
    std::size_t batch = 1;
    double frames_per_second = 0;
};

struct calibration {
    throughput_point chosen;
    std::vector<throughput_point> measured; // empty where the user chose

    // One line a point, the chosen one marked.
    [[nodiscard]] std::string table() const;
};

struct calibration_limits {
    std::size_t max_workers = 1;
    std::size_t max_batch = 8;
    std::chrono::milliseconds budget{2000}; // soft: a run that has begun is finished
};

// Measures 1, 2, 4, ... pictures a batch on 1, 2, 4, ... workers, and stops where a larger batch
// brings less than 5 %: it would only cost memory. Of what is within 5 % of the best it takes the
// smallest batch, then the fewest workers. Blocks; throws run_stopped when `stop` says so.
[[nodiscard]] calibration calibrate(const detector& model, const calibration_limits& limits,
                                    run_control& stop);

} // namespace vision
