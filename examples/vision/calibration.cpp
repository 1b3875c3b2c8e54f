// SPDX-License-Identifier: BSL-1.0
#include "calibration.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <thread>

namespace vision {

std::size_t processor_cores() noexcept { return std::max(1U, std::thread::hardware_concurrency()); }

calibration calibrate(const detector& model, const calibration_limits& limits, run_control& stop) {
    std::size_t const fixed = model.fixed_batch();
    auto const make_worker = [&](std::size_t batch) {
        auto scratch = std::make_shared<detector_scratch>(model.make_scratch(batch));
        return [&model, &stop, batch, scratch] { model.infer(batch, *scratch, stop); };
    };
    auto tuned = tidegate::calibrate_batches(
        make_worker, tidegate::batch_calibration_options{}
                         .max_workers(limits.max_workers)
                         .batches(fixed ? fixed : 1, fixed ? fixed : limits.max_batch)
                         .budget(limits.budget));
    return {tuned.chosen, std::move(tuned.measured)};
}

std::string calibration::table() const {
    std::string text;
    for (const tidegate::batch_measurement& p : measured) {
        bool const is_chosen = p.workers == chosen.workers && p.batch == chosen.batch;
        text += fmt::format("  {} workers x batch {}: {:7.1f} frames/s{}\n", p.workers, p.batch,
                            p.items_per_second, is_chosen ? "  <- chosen" : "");
    }
    return text;
}

} // namespace vision
