// SPDX-License-Identifier: BSL-1.0
// Writes ONNX models of a few hundred bytes for the detector's tests: no model file is needed for
// them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// output = base + gain * (mean of the input's first channel), for each picture of the batch by
// itself; base and gain are tensors of 1 x d1 x d2.
struct tiny_onnx {
    std::vector<std::int64_t> input = {-1, 3, 64, 64}; // -1: open
    std::vector<std::int64_t> item = {1, 5, 84}; // of the output; yolov8 with one class on 64 x 64
    std::vector<float> base;                     // empty: zeros
    std::vector<float> gain;                     // empty: zeros
    std::map<std::string, std::string> metadata = {};
    int input_type = 1;          // 1: float, 2: uint8
    bool second_output = false;  // the mean, as another output
    bool only_batch_one = false; // says any batch, then reshapes to 1

    // The file's bytes.
    std::string bytes() const;
};
