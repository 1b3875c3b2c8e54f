// SPDX-License-Identifier: BSL-1.0
#include "pipeline_options.hpp"

#include "check_range.hpp"

#include <algorithm>
#include <cctype>

namespace vision {

namespace {

void check_names(const std::vector<named_model>& models) {
    for (auto one = models.begin(); one != models.end(); ++one) {
        auto const is_word = [](unsigned char c) {
            return std::isalnum(c) || c == '.' || c == '-' || c == '_';
        };
        if (one->name.empty() || one->name.size() > 64 ||
            !std::ranges::all_of(one->name, is_word)) {
            throw error(
                fmt::format("--model has the name '{}', allowed are 1 to 64 letters, digits, "
                            "'.', '-' and '_'",
                            one->name));
        }
        auto const same = [&](const named_model& other) { return other.name == one->name; };
        if (std::any_of(models.begin(), one, same)) {
            throw error(fmt::format("--model has the name '{}' twice, allowed is NAME=FILE with "
                                    "another name",
                                    one->name));
        }
    }
}

} // namespace

std::vector<named_model> models_of(const engine_options& options) {
    const auto& first = options.model.model;
    std::vector<named_model> all{
        {options.model_name.empty() ? first.stem().string() : options.model_name, first}};
    all.insert(all.end(), options.more_models.begin(), options.more_models.end());
    return all;
}

void check(const engine_options& options) {
    if (!options.more_models.empty() || !options.model_name.empty())
        check_names(models_of(options));
    check_range<std::uint64_t>("--model-memory", options.model_memory, 1, std::uint64_t{1} << 50);
    if (options.frames_in_flight) {
        check_range<std::size_t>("--queue", *options.frames_in_flight, 2, 1024);
    }
    if (options.batch) check_range<std::size_t>("--batch", *options.batch, 1, 16);
    if (options.workers) check_range<std::size_t>("--workers", *options.workers, 1, 64);
    check_range<std::int64_t>("--max-delay", options.max_delay.count(), 0, 10000);
    check_range<std::size_t>("--decoders", options.decoders, 1, 64);
    check_range<std::int64_t>("--decoder-timeout in ms", options.limits.decoding.count(), 100,
                              3'600'000);
    check_range("--confidence", options.model.confidence, 0.0F, 1.0F);
    check_range("--iou", options.model.iou, 0.0F, 1.0F);
}

void check(const video_options& options) {
    check_range<std::size_t>("--every-n", options.every_n, 1, 100000);
    check_range<std::size_t>("--chunk", options.chunk, 1, 100000);
    if (options.confidence) check_range("--confidence", *options.confidence, 0.0F, 1.0F);
    if (options.iou) check_range("--iou", *options.iou, 0.0F, 1.0F);
}

} // namespace vision
