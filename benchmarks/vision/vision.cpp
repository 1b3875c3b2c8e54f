// SPDX-License-Identifier: BSL-1.0
// The video pipeline beside what people write first, and beside what the model alone can do.
#include "bench.hpp"
#include "process_memory.hpp"
#include "warm_engine.hpp"

#include "detections_writer.hpp"
#include "naive.hpp"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace bench;

warm_engine& engine() { return warm_engine::instance(); }

// Wall time, and CPU time of all threads of the process.
class stopwatch {
public:
    void start() {
        wall_ = std::chrono::steady_clock::now();
        cpu_ = cpu_seconds();
    }

    void report(run& r, std::int64_t frames) const {
        std::chrono::duration<double> const wall = std::chrono::steady_clock::now() - wall_;
        double const cpu = cpu_seconds() - cpu_;
        r.report("frames_per_second", static_cast<double>(frames) / wall.count());
        r.report("cpu_ms_a_frame", 1000 * cpu / static_cast<double>(frames));
    }

private:
    static double cpu_seconds() {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        auto const seconds = [](timeval t) {
            return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
        };
        return seconds(usage.ru_utime) + seconds(usage.ru_stime);
    }

    std::chrono::steady_clock::time_point wall_;
    double cpu_ = 0;
};

// `body(stopwatch)` gives the number of its frames. The watch runs already; a body with something
// to prepare starts it again.
template <class Body>
void measure(run& r, Body body) {
    engine();
    r.skip_warm_up();
    while (r.more()) {
        stopwatch watch;
        watch.start();
        std::int64_t const frames = body(watch);
        watch.report(r, frames);
    }
}

// The first 300 frames, so that the slowest row does not take most of the time. Its own loading of
// the model is not counted: the others have theirs loaded.
void naive(run& r) {
    measure(r, [](stopwatch& watch) {
        auto const go_on = [&watch](std::int64_t frames) {
            if (frames == 0) watch.start(); // the model is loaded
            return frames < 300;
        };
        return vision::detect_naively(engine_options(), video_options(), go_on).frames;
    });
}

void pipeline(run& r) {
    measure(r, [](stopwatch&) { return engine().detect(video_options()); });
}

void pipeline_with_video(run& r) {
    measure(r, [](stopwatch&) {
        auto options = video_options();
        options.annotate = true;
        return engine().detect(options);
    });
}

// The limit: inference on tensors that are ready (with the video's first picture in them), on
// plain threads.
void raw(run& r) {
    measure(r, [](stopwatch& watch) {
        constexpr std::int64_t wanted = 400;
        vision::detector const& model = engine().model();
        cv::Mat picture;
        static_cast<void>(vision::open_source(video_options().source)->read(picture));
        auto const plan = model.plan({picture.cols, picture.rows});
        std::vector<std::uint8_t> pixels(model.picture_bytes());
        vision::apply_letterbox(picture, plan, pixels);

        auto const batch = static_cast<std::int64_t>(engine().batch());
        std::atomic<std::int64_t> frames = 0;
        watch.start();
        engine().on_all_workers([&](warm_engine::inferrer& own) {
            for (std::size_t i = 0; i < engine().batch(); ++i) {
                model.load({pixels, plan}, i, own.scratch);
            }
            while ((frames += batch) <= wanted) {
                model.infer(engine().batch(), own.scratch, own.control);
            }
            frames -= batch;
        });
        return frames.load();
    });
}

// The pipeline's stages without the library: the calibrated number of threads, each of which takes
// a batch of frames all the way, reading and writing under a lock.
class bare_run {
public:
    std::int64_t operator()() {
        engine().on_all_workers([this](warm_engine::inferrer& own) { work(own); });
        return frames_;
    }

private:
    struct frame {
        std::int64_t index = 0;
        vision::letterbox_plan plan;
        std::vector<std::uint8_t> pixels;
    };

    bool read(cv::Mat& picture, frame& into) {
        std::lock_guard lock(reading_);
        auto status = vision::read_status::skipped;
        while (status == vision::read_status::skipped) status = source_->read(picture);
        into.index = source_->index();
        return status == vision::read_status::frame;
    }

    void work(warm_engine::inferrer& own) {
        cv::Mat picture;
        std::vector<frame> batch(engine().batch());
        for (frame& each : batch) each.pixels.resize(own.model.picture_bytes());
        for (;;) {
            std::size_t n = 0;
            for (; n < batch.size() && read(picture, batch[n]); ++n) {
                frame& one = batch[n];
                one.plan = own.model.plan({picture.cols, picture.rows});
                vision::apply_letterbox(picture, one.plan, one.pixels);
                own.model.load({one.pixels, one.plan}, n, own.scratch);
            }
            if (n == 0) return;
            own.model.infer(n, own.scratch, own.control);
            for (std::size_t i = 0; i < n; ++i) {
                auto const found = own.model.detections(i, batch[i].plan, own.scratch);
                std::lock_guard lock(writing_);
                writer_.write(batch[i].index, source_->seconds(batch[i].index), found);
                ++frames_;
            }
        }
    }

    std::unique_ptr<vision::video_source> source_ = vision::open_source(video_options().source);
    vision::detections_writer writer_{video_options().out / "bare.jsonl",
                                      engine().model().layout().class_names};
    std::mutex reading_;
    std::mutex writing_;
    std::int64_t frames_ = 0;
};

void bare(run& r) {
    measure(r, [](stopwatch&) { return bare_run()(); });
}

// The real program in a process of its own.
void program(run& r) {
    r.skip_warm_up();
    while (r.more()) {
        auto const video = video_options();
        r.report("peak_memory_mb",
                 peak_memory_of({TIDEGATE_VISION_PROGRAM, "detect", "--no-video", "--model",
                                 engine_options().model.model, "--source", video.source, "--out",
                                 video.out / "program"}));
    }
}

void whole_runs(std::string const& name, int rounds, std::function<void(run&)> body) {
    row(name, wall_time, std::move(body))->Iterations(1)->Repetitions(rounds);
}

group const speed{[] {
    whole_runs("video/naive", 5, naive);
    whole_runs("video/pipeline", 5, pipeline);
    whole_runs("video/raw", 5, raw);
    whole_runs("video/pipeline_with_video", 1, pipeline_with_video);
    // The best round of each, as everywhere: neighbours only ever cost time.
    claim("frames_per_second_over_naive",
          ratio_of(most_of("video/pipeline", "frames_per_second"),
                   most_of("video/naive", "frames_per_second")),
          at_least(1.7));
    claim("of_raw_per_cpu_second",
          ratio_of(least_of("video/raw", "cpu_ms_a_frame"),
                   least_of("video/pipeline", "cpu_ms_a_frame")),
          at_least(0.82));

    // The library's own cost is a small difference of large times. So both sides must have the same
    // work on the same number of threads, or it would measure the caches: inference on two threads
    // at once takes more CPU time a frame than on one. What the pipeline adds to the bare stages
    // counts all as the library's: queues, coroutines, batcher, waking of threads, the monitor, and
    // that a frame visits several threads and finds their caches cold.
    whole_runs("video/bare", 5, bare);
    claim("overhead_cpu_ms",
          difference_of(least_of("video/pipeline", "cpu_ms_a_frame"),
                        least_of("video/bare", "cpu_ms_a_frame")),
          at_most(0.3));

    whole_runs("video/program", 1, program);
    claim("peak_memory_mb", most_of("video/program", "peak_memory_mb"), at_most(250));
}};

} // namespace
