// SPDX-License-Identifier: BSL-1.0
// One reader for each layout; all end in the same check of score and box.
#include "decode.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace vision {
namespace {

struct centre_box {
    float x, y, width, height;
};

// Collects candidates and counts those that are no numbers.
class collector {
public:
    collector(float confidence, std::vector<detection>& candidates)
        : confidence_(confidence), candidates_(candidates) {}

    // False for NaN too, so a broken score must be counted by the caller's else branch.
    [[nodiscard]] bool wants(float score) {
        if (std::isfinite(score)) {
            return score > confidence_;
        }
        ++not_finite;
        return false;
    }

    void add(const detection& box) {
        if (!std::isfinite(box.x1 + box.y1 + box.x2 + box.y2)) {
            ++not_finite;
        } else if (box.x2 > box.x1 && box.y2 > box.y1) {
            candidates_.push_back(box);
        }
    }

    void add(const centre_box& box, float score, int class_id) {
        const float half_width = box.width / 2;
        const float half_height = box.height / 2;
        add({class_id, score, box.x - half_width, box.y - half_height, box.x + half_width,
             box.y + half_height});
    }

    std::size_t not_finite = 0;

private:
    float confidence_;
    std::vector<detection>& candidates_;
};

// Rows of x, y, w, h, objectness, classes. `box_of` makes the box of row i.
template <class BoxOf>
void read_rows(const model_layout& layout, std::span<const float> output, collector& found,
               BoxOf box_of) {
    const auto classes = static_cast<std::size_t>(layout.class_count);
    const std::size_t channels = 5 + classes;
    for (std::size_t i = 0; i < static_cast<std::size_t>(layout.rows); ++i) {
        const float* row = output.data() + i * channels;
        // Objectness first: it rules out nearly every row without a look at its classes.
        if (!found.wants(row[4])) {
            continue;
        }
        const float* best = std::max_element(row + 5, row + channels);
        const float score = row[4] * *best;
        if (found.wants(score)) {
            found.add(box_of(row, i), score, static_cast<int>(best - (row + 5)));
        }
    }
}

centre_box box_in_pixels(const float* row, std::size_t) { return {row[0], row[1], row[2], row[3]}; }

// The cell that row i of a raw YOLOX head belongs to: stride 8 first, then 16 and 32, each row by
// row.
struct grid_walk {
    image_size input;

    [[nodiscard]] centre_box operator()(const float* row, std::size_t i) const {
        auto cell = static_cast<int>(i);
        for (int stride = 8; stride <= 32; stride *= 2) {
            const int width = input.width / stride;
            const int cells = width * (input.height / stride);
            if (cell < cells) {
                const auto s = static_cast<float>(stride);
                return {(row[0] + static_cast<float>(cell % width)) * s,
                        (row[1] + static_cast<float>(cell / width)) * s, std::exp(row[2]) * s,
                        std::exp(row[3]) * s};
            }
            cell -= cells;
        }
        return {}; // the layout has no such row
    }
};

// Channels first: a block of columns at a time, class by class, so that memory is read in runs and
// the maximum becomes SIMD. Only the few columns that pass are asked for their class.
void read_columns(const model_layout& layout, std::span<const float> output, collector& found) {
    constexpr std::size_t block = 256;
    std::array<float, block> best;
    const auto rows = static_cast<std::size_t>(layout.rows);
    const auto classes = static_cast<std::size_t>(layout.class_count);
    const float* const scores = output.data() + 4 * rows;
    for (std::size_t first = 0; first < rows; first += block) {
        const std::size_t count = std::min(block, rows - first);
        best.fill(-std::numeric_limits<float>::infinity());
        for (std::size_t c = 0; c < classes; ++c) {
            const float* const of_class = scores + c * rows + first;
            for (std::size_t i = 0; i < count; ++i) {
                best[i] = of_class[i] > best[i] ? of_class[i] : best[i]; // keeps best where NaN
            }
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (!found.wants(best[i])) {
                continue;
            }
            const float* const column = output.data() + first + i;
            std::size_t c = 0;
            while (c + 1 < classes && column[(4 + c) * rows] != best[i]) {
                ++c;
            }
            found.add({column[0], column[rows], column[2 * rows], column[3 * rows]}, best[i],
                      static_cast<int>(c));
        }
    }
}

// Rows of corners, score, class: finished but for the threshold.
void read_finished(const model_layout& layout, std::span<const float> output, collector& found) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(layout.rows); ++i) {
        const float* row = output.data() + i * 6;
        if (!found.wants(row[4])) {
            continue;
        }
        const float class_id = row[5];
        const bool known =
            class_id >= 0 && class_id < 10'000 &&
            (layout.class_count == 0 || class_id < static_cast<float>(layout.class_count));
        if (known) {
            found.add({static_cast<int>(class_id), row[4], row[0], row[1], row[2], row[3]});
        } else {
            ++found.not_finite;
        }
    }
}

} // namespace

std::size_t decode(const model_layout& layout, std::span<const float> output, float confidence,
                   std::vector<detection>& candidates) {
    collector found(confidence, candidates);
    switch (layout.family) {
    case layout_family::yolov5:
    case layout_family::yolox_decoded: read_rows(layout, output, found, box_in_pixels); break;
    case layout_family::yolox_raw: read_rows(layout, output, found, grid_walk{layout.input}); break;
    case layout_family::yolov8: read_columns(layout, output, found); break;
    case layout_family::end_to_end: read_finished(layout, output, found); break;
    }
    return found.not_finite;
}

} // namespace vision
