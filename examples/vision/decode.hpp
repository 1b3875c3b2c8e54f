// SPDX-License-Identifier: BSL-1.0
// Turns one picture's share of the output tensor into candidate boxes.
#pragma once

#include "detection.hpp"
#include "layout.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace vision {

// Appends what scores above `confidence` to `candidates`, in input pixels, in the order of the
// rows: unclipped, overlaps not yet suppressed. `output` is the whole share: rows times channels
// floats. Returns how many candidates were dropped because the score or a corner was no finite
// number; boxes without an area are dropped too, silently.
std::size_t decode(const model_layout& layout, std::span<const float> output, float confidence,
                   std::vector<detection>& candidates);

} // namespace vision
