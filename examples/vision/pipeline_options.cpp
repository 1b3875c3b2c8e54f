// SPDX-License-Identifier: BSL-1.0
#include "pipeline_options.hpp"

#include "check_range.hpp"

namespace vision {

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
