// SPDX-License-Identifier: BSL-1.0
#include "engine.hpp"

#include "error.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <thread>

namespace vision {

namespace {

std::size_t cores() { return std::max(1U, std::thread::hardware_concurrency()); }

calibration tune(const detector& model, const engine_options& options, run_control& stop) {
    std::size_t const fixed = model.fixed_batch();
    if (fixed && options.batch.value_or(fixed) != fixed) {
        throw error(fmt::format("--batch is {}, but the model's batch is fixed at {}",
                                *options.batch, fixed));
    }
    if (options.batch || options.workers) {
        std::size_t const batch = options.batch.value_or(fixed ? fixed : 1);
        return {{options.workers.value_or(cores()), batch, 0}, {}};
    }
    return calibrate(model, {.max_workers = cores()}, stop);
}

tidegate::batcher_options batching(const calibration& tuned, const engine_options& options) {
    return tidegate::batcher_options{}
        .max_size(tuned.chosen.batch)
        .max_in_flight(tuned.chosen.workers)
        .max_delay(options.max_delay);
}

std::size_t compute_threads(const engine_options& options) {
    check(options);
    return std::max(cores(), options.workers.value_or(0));
}

tidegate::worker_pool_options threads(const char* name, std::size_t n) {
    return tidegate::worker_pool_options{}.name(name).threads(n);
}

} // namespace

loaded_model::loaded_model(tidegate::worker_pool& pool, tidegate::monitor& monitor,
                           const engine_options& options, run_control& stop)
    : model(options.model),
      tuned(tune(model, options, stop)),
      batches(
          pool, batching(tuned, options),
          [this](std::span<frame_pool::lease> batch) { return run(batch); }, std::monostate(),
          [](const frame_pool::lease& frame) { return frame->video; }),
      monitor_(monitor),
      stop_(stop),
      scratches_(pool.get_executor(), tuned.chosen.workers, [this] {
          return std::make_unique<detector_scratch>(model.make_scratch(tuned.chosen.batch));
      }) {}

std::vector<detected_frame> loaded_model::run(std::span<frame_pool::lease> batch) {
    auto const scratch = scratches_.try_acquire(); // there are as many as batches at once
    {
        auto const timer = monitor_.measure("normalise");
        for (std::size_t i = 0; i < batch.size(); ++i) {
            if (stop_.stop_requested()) throw run_stopped(); // a large batch takes its time
            model.load({batch[i]->prepared, batch[i]->plan}, i, *scratch);
        }
    }
    {
        auto const timer = monitor_.measure("infer");
        model.infer(batch.size(), *scratch, stop_);
    }
    auto const timer = monitor_.measure("find boxes");
    std::vector<detected_frame> results;
    results.reserve(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        auto found = model.detections(i, batch[i]->plan, *scratch, batch[i]->limits);
        results.push_back({std::move(batch[i]), std::move(found)});
    }
    return results;
}

engine::engine(boost::asio::any_io_executor executor, const engine_options& options)
    : compute(executor, threads("compute", compute_threads(options))),
      decode(executor, threads("decode", options.decoders)),
      write(executor, threads("write", 1)),
      model(compute, [this, options] {
          auto const timer = monitor.measure("load model");
          return std::make_shared<loaded_model>(compute, monitor, options, stop_);
      }) {}

void engine::stop() noexcept {
    stop_.request_stop();
    // Frames that wait for their batch to fill hear of it at once.
    if (auto const loaded = model.get_if_ready()) loaded->batches.flush();
}

} // namespace vision
