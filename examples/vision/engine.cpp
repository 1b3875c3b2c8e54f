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
      before_inference_(options.before_inference),
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
        if (!failure) found = model.detections(i, batch[i]->plan, *scratch, batch[i]->limits);
        results.push_back({std::move(batch[i]), std::move(found), failure});
    }
    return results;
}

void loaded_model::infer(std::size_t count, detector_scratch& scratch) {
    auto const timer = monitor_.measure("infer");
    if (before_inference_) before_inference_();
    model.infer(count, scratch, stop_);
}

engine::engine(boost::asio::any_io_executor executor, const engine_options& options)
    : compute(executor, threads("compute", compute_threads(options))),
      decode(executor, threads("decode", options.decoders)),
      write(executor, threads("write", 1)),
      model(compute,
            [this, options] {
                auto const timer = monitor.measure("load model");
                return std::make_shared<loaded_model>(compute, monitor, options, stop_);
            }),
      backend(backend_breaker_options()),
      guarded(make_backend_guard(backend, options.limits)),
      in_time(make_decoder_guard(options.limits)),
      before_read(options.before_read) {}

void engine::give_up_decoder() {
    ++lost_decoders_;
    decode.resize(decode.size() + 1);
}

void engine::stop() noexcept {
    stop_.request_stop();
    // Frames that wait for their batch to fill hear of it at once.
    if (auto const loaded = model.get_if_ready()) loaded->batches.flush();
}

} // namespace vision
