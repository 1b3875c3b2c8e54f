// SPDX-License-Identifier: BSL-1.0
// Many videos at once, started, stopped and made to fail at random: each has its own frames, all of
// them, in order.
#include "real_data.hpp"
#include "run_video.hpp"
#include "support/stress.hpp"
#include "temp_folder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>

#include <atomic>
#include <list>
#include <stdexcept>

namespace {

namespace asio = boost::asio;
constexpr int videos = 10;

struct one_video {
    finished_video done;
    std::stop_source stop;
    std::int64_t stop_after = -1; // frames; never: -1
    bool failed = false;
    std::string why;
};

class schedule {
public:
    schedule(std::uint64_t seed, std::size_t batch) : random_(seed) {
        vision::engine_options options;
        options.model.model = real_data() / "models/synthetic_blob_v8_416_dyn.onnx";
        options.workers = 2;
        options.batch = batch;
        options.decoders = 3;
        options.before_inference = [this] { // some fail, and are tried again
            if (++inferences_ % 50 == 0) throw std::runtime_error("planted");
        };
        engine_.emplace(io_.get_executor(), options);
    }

    void play() {
        for (int i = 0; i < videos; ++i) {
            auto& one = all_.emplace_back();
            if (test::below(random_, 4) == 0) {
                one.stop_after = static_cast<std::int64_t>(test::below(random_, 60));
            }
            asio::co_spawn(io_, run(one, i, test::below(random_, 400)), asio::detached);
        }
        io_.run();
    }

    std::list<one_video> const& all() const { return all_; }

private:
    asio::awaitable<void> run(one_video& one, int number, std::size_t turns) {
        for (std::size_t i = 0; i < turns; ++i) co_await asio::post(io_, asio::use_awaitable);
        vision::video_options options;
        options.source = real_data() / "video/synthetic_blobs.avi";
        options.out = folder_ / std::to_string(number);
        options.annotate = false;
        options.chunk = 1 + test::below(random_, 20);
        options.stop = one.stop.get_token();
        auto const watch = [&one](const vision::partial_result& part) {
            if (one.stop_after >= 0 && part.frames_done >= one.stop_after) one.stop.request_stop();
        };
        try {
            auto running = run_video(*engine_, options, one.done, watch);
            co_await std::move(running);
        } catch (const std::exception& e) {
            one.failed = true;
            one.why = e.what();
        }
    }

    temp_folder folder_;
    test::random random_;
    std::atomic<std::uint64_t> inferences_{0};
    asio::io_context io_{1};
    std::optional<vision::engine> engine_;
    std::list<one_video> all_;
};

std::string wrong(const one_video& one, const std::map<std::string, boxes>& truth) {
    std::int64_t next = 0;
    for (const auto& part : one.done.parts) {
        for (const auto& frame : part.frames) {
            if (frame.index != next++)
                return "frame " + std::to_string(frame.index) + " is out of order";
            auto const why =
                difference(truth.at(std::to_string(frame.index)), frame.found, 0.98F, 1);
            if (!why.empty()) return "frame " + std::to_string(frame.index) + ": " + why;
        }
    }
    if (next != one.done.summary.frames) return "frames are missing";
    if (!one.done.summary.interrupted && next != static_cast<std::int64_t>(truth.size())) {
        return "ended after " + std::to_string(next);
    }
    return {};
}

} // namespace

TEST_CASE("ten videos at once, in random schedules, have each its own truth") {
    NEEDS_REAL_DATA();
    auto const truth = reference("synthetic_blobs_truth.jsonl");
    std::size_t const batches[] = {1, 3, 4, 8};
    std::uint64_t const first = test::seeds().back();
    std::size_t const schedules = test::schedules(50);
    for (std::size_t i = 0; i < schedules; ++i) {
        INFO("TIDEGATE_STRESS_SEED=" << first + i << ", batch " << batches[i % 4]);
        schedule one(first + i, batches[i % 4]);
        one.play();
        for (const auto& video : one.all()) {
            CHECK(video.why == "");
            if (video.stop_after < 0) CHECK(!video.done.summary.interrupted);
            CHECK(wrong(video, truth) == "");
        }
    }
}
