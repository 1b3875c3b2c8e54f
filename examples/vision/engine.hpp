// SPDX-License-Identifier: BSL-1.0
// What all videos of a process share: the models, each loaded once, and the threads.
#pragma once

#include "guards.hpp"
#include "model_store.hpp"
#include "pipeline_options.hpp"

#include <tidegate/monitor.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace vision {

// Lives as long as all that run on it.
class engine {
public:
    // Throws vision::error for options out of range.
    engine(boost::asio::any_io_executor executor, const engine_options& options);

    // Ends inferences that run, within a millisecond or so, and lets none begin. Called from
    // elsewhere than the videos' executor, it may take max_delay to be noticed.
    void stop() noexcept;
    [[nodiscard]] bool stopped() const noexcept { return stop_.stop_requested(); }

    // From now on videos that can be gone on with later, from a checkpoint, read no more frames,
    // and end when those under way are written. The others go on. Any thread.
    void drain() noexcept { draining_ = true; }
    [[nodiscard]] bool draining() const noexcept { return draining_; }

    // What jobs use is declared before the pools, and so outlives their threads.
    tidegate::monitor monitor;
    std::function<void()> const before_read;       // see engine_options
    std::atomic<std::uint64_t> frames_decoded = 0; // of all videos, also those passed over

private:
    std::atomic<bool> draining_ = false;
    run_control stop_;

public:
    tidegate::worker_pool compute; // preparation and inference: as many threads as cores
    tidegate::worker_pool decode;  // blocking reads: as many videos at once as it has threads
    tidegate::worker_pool write;   // blocking writes, one thread: in order
    model_store models;
    tidegate::circuit_breaker backend;
    const backend_guard guarded;
    const decoder_guard in_time;

    // Of all videos, counted on the executor.
    std::uint64_t frames_inferred = 0;
    std::uint64_t frames_resumed = 0; // known from a checkpoint, and not inferred again
    std::uint64_t dropped_boxes = 0;  // no finite numbers

    // A thread of the decode pool will not come back: another one takes its place.
    void give_up_decoder();
    [[nodiscard]] std::size_t lost_decoders() const noexcept { return lost_decoders_; }

private:
    std::size_t lost_decoders_ = 0;
};

} // namespace vision
