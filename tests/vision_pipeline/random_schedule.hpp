// SPDX-License-Identifier: BSL-1.0
// Many videos in one engine, started, stopped and made to fail at random: each must have its own
// frames, all of them, in order.
#pragma once

#include "run_video.hpp"
#include "support/stress.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <list>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

// What the schedules play with, and what must come out.
struct known_videos {
    std::filesystem::path model;
    std::function<std::filesystem::path(int video)> file;
    std::int64_t frames = 0; // of each
    // What is wrong with a frame of a video, in words; empty where nothing is.
    std::function<std::string(int video, const vision::partial_result::frame&)> fault;
};

struct scheduled_video {
    int number = 0;
    finished_video done;
    std::stop_source stop;
    std::int64_t stop_after = -1;  // frames; never: -1
    std::int64_t drain_after = -1; // the same, for the engine
    bool has_checkpoint = false;   // and ends early when the engine drains
    std::string failure;
};

inline std::string fault_of(const scheduled_video& one, const known_videos& known) {
    if (!one.failure.empty()) return one.failure;
    bool const interrupted = one.done.summary.interrupted;
    if (one.stop_after < 0 && !one.has_checkpoint && interrupted) return "nobody stopped it";
    std::int64_t next = 0;
    for (const auto& part : one.done.parts) {
        for (const auto& frame : part.frames) {
            std::string const which = "frame " + std::to_string(frame.index);
            if (frame.index != next++) return which + " is out of order";
            if (auto const why = known.fault(one.number, frame); !why.empty()) {
                return which + ": " + why;
            }
        }
    }
    bool const goes_on = interrupted && one.has_checkpoint; // which has the last ones
    if (goes_on ? next > one.done.summary.frames : next != one.done.summary.frames) {
        return "frames are missing";
    }
    if (!interrupted && next != known.frames) {
        return "ended after " + std::to_string(next);
    }
    return {};
}

class random_schedule {
public:
    static constexpr int videos = 10;

    random_schedule(const known_videos& known, std::uint64_t seed, std::size_t batch)
        : known_(known), random_(seed) {
        vision::engine_options options;
        options.model.model = known.model;
        options.workers = 2;
        options.batch = batch;
        options.decoders = 3;
        options.before_inference = [this] { // some fail, and are tried again
            if (++inferences_ % 50 == 0) throw std::runtime_error("planted");
        };
        options.before_read =
            [this] { // some dawdle, and are left behind when their video is stopped
                if (++reads_ % 5 == 0) {
                    for (int i = 0; i < 200; ++i) std::this_thread::yield();
                }
            };
        engine_.emplace(io_.get_executor(), options);
    }

    std::list<scheduled_video> const& play() {
        for (int i = 0; i < videos; ++i) {
            auto& one = all_.emplace_back();
            one.number = i;
            if (test::below(random_, 4) == 0) {
                one.stop_after = static_cast<std::int64_t>(test::below(random_, 60));
            }
            if (test::below(random_, 40) == 0) {
                one.drain_after = static_cast<std::int64_t>(test::below(random_, 60));
            }
            one.has_checkpoint = test::below(random_, 3) == 0;
            boost::asio::co_spawn(io_, run(one, test::below(random_, 400)), boost::asio::detached);
        }
        io_.run();
        return all_;
    }

private:
    boost::asio::awaitable<void> run(scheduled_video& one, std::size_t turns) {
        for (std::size_t i = 0; i < turns; ++i) {
            co_await boost::asio::post(io_, boost::asio::use_awaitable);
        }
        vision::video_options options;
        options.source = known_.file(one.number);
        options.out = folder_ / std::to_string(one.number);
        options.annotate = false;
        options.previews = one.number % 2 == 0; // which are drawn upon
        options.chunk = 1 + test::below(random_, 20);
        options.stop = one.stop.get_token();
        if (one.has_checkpoint) options.checkpoint = options.out / "checkpoint.jsonl";
        if (one.number % 3 == 0) { // it changes its mind in the middle
            options.is_urgent = [this] { return test::below(random_, 4) != 0; };
        }
        auto const watch = [this, &one](const vision::partial_result& part) {
            if (one.stop_after >= 0 && part.frames_done >= one.stop_after) one.stop.request_stop();
            if (one.drain_after >= 0 && part.frames_done >= one.drain_after) engine_->drain();
        };
        try {
            auto running = run_video(*engine_, options, one.done, watch);
            co_await std::move(running);
        } catch (const std::exception& e) {
            one.failure = std::string("failed: ") + e.what();
        }
    }

    const known_videos& known_;
    temp_folder folder_;
    test::random random_;
    std::atomic<std::uint64_t> inferences_{0};
    std::atomic<std::uint64_t> reads_{0};
    boost::asio::io_context io_{1};
    std::optional<vision::engine> engine_;
    std::list<scheduled_video> all_;
};

// Plays `count` of them with batches of several sizes.
inline void play_schedules(const known_videos& known, std::size_t count) {
    std::size_t const batches[] = {1, 3, 4, 8};
    std::uint64_t const first = test::seeds().back();
    for (std::size_t i = 0; i < count; ++i) {
        INFO("TIDEGATE_STRESS_SEED=" << first + i << ", batch " << batches[i % 4]);
        random_schedule one(known, first + i, batches[i % 4]);
        for (const auto& video : one.play()) CHECK(fault_of(video, known) == "");
    }
}
