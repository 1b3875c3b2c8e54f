// SPDX-License-Identifier: BSL-1.0
// The stages of a video that run beside each other: reading, and preparing with inferring.
#pragma once

#include "checkpoint.hpp"
#include "engine.hpp"
#include "video_source.hpp"

#include <tidegate/channel.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>

namespace vision {

// A frame that has been through inference, or fell out of it.
struct finished_frame {
    std::int64_t number = 0; // see frame_slot
    std::optional<detected_frame> result;
};

// What the stages of one video share. Every stage holds it, so none outlives it.
struct frame_stages {
    frame_stages(boost::asio::any_io_executor executor, engine& e,
                 std::shared_ptr<loaded_model> loaded, std::unique_ptr<video_source> from,
                 const video_options& options, std::optional<known_frames> from_checkpoint);

    // The first failure ends the video; later ones are its consequences. One that comes from
    // engine::stop is none.
    void fail(std::exception_ptr why);
    // Nobody wants the frames any more: the stages end by themselves.
    void abandon() noexcept;
    // The video is to end before its end. Any thread, as the next.
    [[nodiscard]] bool stopped() const noexcept {
        return shared.stopped() || stop.stop_requested();
    }
    [[nodiscard]] bool ending() const noexcept { return ended || stopped(); }
    // No frame is read any more; those under way go on.
    [[nodiscard]] bool reads_no_more() const noexcept {
        return ending() || (can_go_on_later && shared.draining());
    }
    // Ends what the stages wait for.
    void cancel();

    engine& shared;
    std::shared_ptr<loaded_model> model;
    std::mutex reading;                   // held by who uses the source
    std::unique_ptr<video_source> source; // used by the decode pool; null once closed
    std::optional<known_frames> known;    // and so is this
    bool needs_pictures;                  // also of what is known
    std::atomic<bool> read_all = false;   // the source came to its end
    std::int64_t passed_undecodable = 0;
    std::atomic<std::int64_t> undecodable = 0;
    const std::filesystem::path path;
    std::size_t every_n;
    detection_limits limits;
    std::int64_t max_frames;
    bool can_go_on_later; // from a checkpoint
    std::function<bool()> is_urgent;
    std::stop_token stop;
    std::uint64_t number; // of the video, among those of this process
    tidegate::channel<frame_pool::lease> decoded;
    tidegate::channel<finished_frame> done; // closed once all stages have ended
    std::exception_ptr failure;
    std::atomic<bool> ended = false;
    std::size_t running = 0;                              // stages
    std::deque<boost::asio::cancellation_signal> signals; // one for each
};

[[nodiscard]] detection_limits limits_of(const loaded_model& model, const video_options& options);

// Starts the stages on `executor`; their results arrive in `done`, in any order. Once the video's
// stop is requested they end, without what is still on its way.
void start_stages(boost::asio::any_io_executor executor, std::shared_ptr<frame_stages> stages);

} // namespace vision
