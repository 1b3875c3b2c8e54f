// SPDX-License-Identifier: BSL-1.0
#include "loaded_model.hpp"

#include "error.hpp"

#include <boost/hash2/xxhash.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace vision {

namespace {

calibration tune(const detector& model, const engine_options& options, run_control& stop) {
    std::size_t const fixed = model.fixed_batch();
    if (fixed && options.batch.value_or(fixed) != fixed) {
        throw error(fmt::format("--batch is {}, but the model's batch is fixed at {}",
                                *options.batch, fixed));
    }
    if (options.batch || options.workers) {
        std::size_t const batch = options.batch.value_or(fixed ? fixed : 1);
        return {{options.workers.value_or(processor_cores()), batch, 0}, {}};
    }
    return calibrate(model, {.max_workers = processor_cores()}, stop);
}

tidegate::batcher_options batching(const calibration& tuned, const engine_options& options) {
    return tidegate::batcher_options{}
        .max_size(tuned.chosen.batch)
        .max_in_flight(tuned.chosen.workers)
        .max_delay(options.max_delay);
}

// Enough for every worker to find a full batch while others are read and written, and some for
// each of the videos.
std::size_t frames_under_way(const calibration& tuned, const engine_options& options) {
    std::size_t const wide = tuned.chosen.workers * tuned.chosen.batch;
    return options.frames_in_flight.value_or(std::max(4 * wide + 4, 2 * options.decoders));
}

} // namespace

std::string digest_of_model(const std::filesystem::path& file) {
    boost::hash2::xxhash_64 hash;
    std::ifstream in(file, std::ios::binary);
    std::vector<char> block(std::size_t{1} << 16);
    while (in.read(block.data(), static_cast<std::streamsize>(block.size())) || in.gcount() > 0) {
        hash.update(block.data(), static_cast<std::size_t>(in.gcount()));
    }
    return fmt::format("{:016x}", hash.result());
}

// The weights in the file, and once more as the session keeps them.
std::uint64_t bytes_of_model(const std::filesystem::path& file) {
    std::error_code unreadable;
    auto const bytes = std::filesystem::file_size(file, unreadable);
    return 2 * (unreadable ? 0 : bytes);
}

batch_inference::batch_inference(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                                 const detector_options& which, const engine_options& options,
                                 run_control& stop)
    : model(which),
      tuned(tune(model, options, stop)),
      monitor_(monitor),
      before_inference_(options.before_inference),
      stop_(stop),
      scratches_(pool.get_executor(), tuned.chosen.workers, [this] {
          return std::make_unique<detector_scratch>(model.make_scratch(tuned.chosen.batch));
      }) {}

std::vector<detected_frame> batch_inference::run(std::span<frame_pool::lease> batch) {
    auto const scratch = scratches_.try_acquire(); // there are as many as batches at once
    {
        auto const timer = monitor_.measure("normalise");
        for (std::size_t i = 0; i < batch.size(); ++i) {
            if (stop_.stop_requested()) throw run_stopped(); // a large batch takes its time
            model.load({batch[i]->prepared, batch[i]->plan}, i, *scratch);
        }
    }
    std::exception_ptr failure;
    try {
        infer(batch.size(), *scratch);
    } catch (const run_stopped&) {
        throw;
    } catch (...) {
        failure = std::current_exception();
    }
    auto const timer = monitor_.measure("find boxes");
    std::vector<detected_frame> results;
    results.reserve(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        std::vector<detection> found;
        std::size_t const before = scratch->dropped_boxes();
        if (!failure) found = model.detections(i, batch[i]->plan, *scratch, batch[i]->limits);
        results.push_back(
            {std::move(batch[i]), std::move(found), scratch->dropped_boxes() - before, failure});
    }
    return results;
}

void batch_inference::infer(std::size_t count, detector_scratch& scratch) {
    auto const timer = monitor_.measure("infer");
    if (before_inference_) before_inference_();
    model.infer(count, scratch, stop_);
}

loaded_model::loaded_model(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                           const detector_options& which, const engine_options& options,
                           run_control& stop)
    : inference_(std::make_shared<batch_inference>(pool, monitor, which, options, stop)),
      model(inference_->model),
      tuned(inference_->tuned),
      digest(digest_of_model(which.model)),
      frames(pool.get_executor(), frames_under_way(tuned, options), model.picture_bytes()),
      batches(
          pool, batching(tuned, options),
          [inference = inference_](std::span<frame_pool::lease> batch) {
              return inference->run(batch);
          },
          std::monostate(), [](const frame_pool::lease& frame) { return frame->video; },
          [](const frame_pool::lease& frame) {
              return frame->urgent ? tidegate::job_priority::urgent
                                   : tidegate::job_priority::normal;
          }),
      bytes_(bytes_of_model(which.model) +
             tuned.chosen.workers * model.make_scratch(tuned.chosen.batch).bytes() +
             frames_under_way(tuned, options) * model.picture_bytes()) {}

} // namespace vision
