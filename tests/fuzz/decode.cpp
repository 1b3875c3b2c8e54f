// SPDX-License-Identifier: BSL-1.0
// Outputs of any shape with any floats in them: a layout or a refusal, and sane boxes.
#include "fuzz/input.hpp"

#include "decode.hpp"
#include "error.hpp"
#include "layout.hpp"

#include <bit>
#include <cmath>
#include <optional>
#include <vector>

namespace {

std::optional<vision::model_layout> layout_of(vision::layout_question const& question) {
    try {
        return vision::deduce_layout(question);
    } catch (vision::error const&) {
        return std::nullopt; // refused
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    fuzz::input in(data, size);
    vision::layout_question question;
    question.input = {static_cast<int>(32 * (1 + in.below(4))),
                      static_cast<int>(32 * (1 + in.below(4)))};
    int const cells = static_cast<int>(vision::grid_cells(question.input));
    // Shapes that models have, and others.
    std::int64_t const rows = in.byte() % 4 ? cells * (in.byte() % 2 ? 3 : 1)
                                            : 1 + static_cast<std::int64_t>(in.below(400));
    std::int64_t const channels = static_cast<std::int64_t>(in.below(24));
    question.output_shape = {1, rows, channels};
    if (in.byte() % 2) std::swap(question.output_shape[1], question.output_shape[2]);
    if (in.byte() % 16 == 0) question.output_shape.push_back(static_cast<std::int64_t>(in.any()));
    if (in.byte() % 2) question.options.family = static_cast<vision::layout_family>(in.below(5));

    std::vector<float> output(static_cast<std::size_t>(rows * channels));
    for (float& f : output) {
        if (in.empty()) break;
        f = std::bit_cast<float>(static_cast<std::uint32_t>(in.number(4)));
    }
    question.grey_output = output;
    auto const layout = layout_of(question);
    if (!layout) return 0;

    std::vector<vision::detection> found;
    vision::decode(*layout, output, 0.25F, found);
    fuzz::require(found.size() <= output.size(), "no more boxes than numbers");
    for (auto const& box : found) {
        fuzz::require(box.score > 0.25F && std::isfinite(box.score), "a score above the threshold");
        fuzz::require(box.x1 < box.x2 && box.y1 < box.y2, "a box with an area");
        fuzz::require(std::isfinite(box.x1 + box.x2 + box.y1 + box.y2), "corners that are numbers");
        fuzz::require(box.class_id >= 0, "a class");
    }
    return 0;
}
