// SPDX-License-Identifier: BSL-1.0
#include "pipeline_options.hpp"

#include "error.hpp"

#include <cstdint>
#include <fmt/format.h>
#include <type_traits>

namespace vision {

namespace {

template <class Value>
void check_range(const char* name, Value value, Value lowest, Value highest) {
    if (value >= lowest && value <= highest) return;
    if constexpr (std::is_unsigned_v<Value>) { // "-1" is to be refused as what it is
        check_range(name, static_cast<std::int64_t>(value), static_cast<std::int64_t>(lowest),
                    static_cast<std::int64_t>(highest));
    }
    throw error(fmt::format("{} is {}, allowed is {} to {}", name, value, lowest, highest));
}

} // namespace

void check(const engine_options& options) {
    if (options.batch) check_range<std::size_t>("--batch", *options.batch, 1, 16);
    if (options.workers) check_range<std::size_t>("--workers", *options.workers, 1, 64);
    check_range<std::int64_t>("--max-delay", options.max_delay.count(), 0, 10000);
    check_range<std::size_t>("--decoders", options.decoders, 1, 64);
    check_range("--confidence", options.model.confidence, 0.0F, 1.0F);
    check_range("--iou", options.model.iou, 0.0F, 1.0F);
}

void check(const video_options& options) {
    if (options.frames_in_flight) {
        check_range<std::size_t>("--queue", *options.frames_in_flight, 2, 1024);
    }
    check_range<std::size_t>("--every-n", options.every_n, 1, 100000);
    check_range<std::size_t>("--chunk", options.chunk, 1, 100000);
    if (options.confidence) check_range("--confidence", *options.confidence, 0.0F, 1.0F);
    if (options.iou) check_range("--iou", *options.iou, 0.0F, 1.0F);
}

} // namespace vision
