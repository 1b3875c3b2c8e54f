// SPDX-License-Identifier: BSL-1.0
// tidegate-vision: finds objects in videos and pictures.
#include "error.hpp"
#include "execution_provider_options.hpp"
#include "naive.hpp"
#include "opencv_setup.hpp"
#include "pipeline.hpp"
#include "progress_line.hpp"
#include "report.hpp"
#include "serve_command.hpp"

#include <CLI/CLI.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace {

namespace asio = boost::asio;

struct command_line {
    vision::engine_options engine;
    vision::video_options video;
    bool naive = false;
};

constexpr int interrupted = 130; // what shells expect after a Ctrl-C

// The first Ctrl-C ends the run cleanly. Another one soon after it is taken for the same: it would
// spoil the files that are being closed. Later it has its usual effect.
class interrupt {
public:
    interrupt(asio::io_context& io, vision::engine& engine)
        : signals_(io, SIGINT, SIGTERM), engine_(engine) {
        wait();
    }

    void forget() { signals_.cancel(); }

private:
    using steady = std::chrono::steady_clock;

    void wait() {
        signals_.async_wait([this](tidegate::error_code ec, int signal) {
            if (!ec) arrived(signal);
        });
    }

    void arrived(int signal) {
        // Before the model is there nothing is written, and a large one takes long to load.
        if (!engine_.models.get_if_ready()) {
            std::fputs("tidegate-vision: interrupted before the first frame\n", stderr);
            std::_Exit(interrupted);
        }
        if (!engine_.stopped()) {
            first_ = steady::now();
            engine_.stop();
        } else if (steady::now() - first_ > std::chrono::seconds(2)) {
            signals_.clear();
            std::raise(signal);
        }
        wait();
    }

    asio::signal_set signals_;
    vision::engine& engine_;
    steady::time_point first_;
};

asio::awaitable<vision::video_summary> run_video(vision::engine& engine,
                                                 vision::video_options options) {
    vision::progress_line progress;
    vision::video_run run =
        vision::detect_objects(co_await asio::this_coro::executor, engine, std::move(options));
    for (;;) {
        auto step = co_await run.async_resume(asio::use_awaitable);
        if (auto* const summary = std::get_if<vision::video_summary>(&step)) {
            progress.finish();
            co_return std::move(*summary);
        }
        progress.show(std::get<vision::partial_result>(step));
    }
}

void print_result(const vision::run_report& report, const std::filesystem::path& out) {
    const vision::video_summary& video = report.video;
    for (const std::string& warning : video.warnings) fmt::print(stderr, "warning: {}\n", warning);
    fmt::print("{} frames, {} detections, {:.1f} frames/s{}\n", video.frames, video.detections,
               video.frames_per_second(), video.interrupted ? " (interrupted)" : "");
    fmt::print("detections  {}\n", video.detections_file.string());
    if (!video.video_file.empty()) fmt::print("video       {}\n", video.video_file.string());
    fmt::print("report      {}\n", (out / "report.txt").string());
}

int detect(const command_line& wanted) {
    asio::io_context io(1);
    vision::engine engine(io.get_executor(), wanted.engine);
    interrupt on_signal(io, engine);
    std::exception_ptr failure;
    std::optional<vision::video_summary> summary;
    asio::co_spawn(io, run_video(engine, wanted.video),
                   [&](std::exception_ptr why, vision::video_summary done) {
                       failure = why;
                       if (!why) summary = std::move(done);
                       on_signal.forget();
                   });
    io.run();
    if (failure) std::rethrow_exception(failure);
    auto const loaded = engine.models.get_if_ready();
    auto const report = vision::make_report(wanted.engine.model.model, engine, *loaded, *summary);
    report.write_to(wanted.video.out);
    print_result(report, wanted.video.out);
    return summary->interrupted ? interrupted : 0;
}

volatile std::sig_atomic_t naive_interrupted = 0;

int detect_naively(const command_line& wanted) {
    for (int const signal : {SIGINT, SIGTERM}) {
        std::signal(signal, [](int) { naive_interrupted = 1; });
    }
    auto const summary = vision::detect_naively(wanted.engine, wanted.video,
                                                [](std::int64_t) { return !naive_interrupted; });
    fmt::print("naive: {} frames, {} detections, {:.1f} frames/s\n", summary.frames,
               summary.detections, static_cast<double>(summary.frames) / summary.seconds);
    return naive_interrupted ? interrupted : 0;
}

// Reads the sign too: vision::check refuses "-1" as what it is.
template <class Target>
void add_count(CLI::App& app, const char* name, Target& target, const char* description) {
    auto const set = [&target](std::int64_t n) { target = static_cast<std::size_t>(n); };
    app.add_option_function<std::int64_t>(name, set, description)->type_name("N");
}

void add_detect(CLI::App& app, command_line& wanted) {
    CLI::App* const detect = app.add_subcommand(
        "detect", "Find objects in a video, a picture or a folder of pictures, and write "
                  "detections.jsonl, annotated.mp4, report.txt and report.json");
    auto& model = wanted.engine.model;
    auto& video = wanted.video;
    detect->add_option("--model", model.model, "YOLO model, an ONNX file")->required();
    vision::add_execution_providers(*detect, model);
    detect->add_option("--source", video.source, "Video file, picture or folder")->required();
    detect->add_option("--out", video.out, "Folder for the results")->required();
    detect->add_option("--confidence", model.confidence, "Report boxes above this score, 0 to 1")
        ->capture_default_str();
    detect->add_option("--iou", model.iou, "Suppress boxes of a class that overlap more, 0 to 1")
        ->capture_default_str();
    detect
        ->add_option_function<std::string>(
            "--layout",
            [&model](const std::string& name) {
                model.layout.family = vision::parse_layout_family(name);
            },
            "Output layout, if the model does not tell: yolov5, yolov8, yolox, yolox-decoded, "
            "end-to-end")
        ->type_name("NAME");
    add_count(*detect, "--batch", wanted.engine.batch,
              "Frames in a batch, 1 to 16 (default: calibrated)");
    add_count(*detect, "--workers", wanted.engine.workers,
              "Inferences at once, 1 to 64 (default: calibrated)");
    detect
        ->add_option_function<std::int64_t>(
            "--max-delay",
            [&wanted](std::int64_t ms) { wanted.engine.max_delay = std::chrono::milliseconds(ms); },
            "Milliseconds an incomplete batch may wait, 0 to 10000 (default 0: an idle worker "
            "takes what is there)")
        ->type_name("MS");
    add_count(*detect, "--queue", wanted.engine.frames_in_flight,
              "Frames under way at most, 2 to 1024: the bound on memory (default: by workers and "
              "batch)");
    detect
        ->add_option_function<std::int64_t>(
            "--decoder-timeout",
            [&wanted](std::int64_t s) { wanted.engine.limits.decoding = std::chrono::seconds(s); },
            "Seconds of one frame after which the decoder is taken to hang, 1 to 3600 (default 30)")
        ->type_name("SECONDS");
    add_count(*detect, "--every-n", video.every_n, "Look at every n-th frame only (default 1)");
    add_count(*detect, "--chunk", video.chunk,
              "Frames between two reports of progress (default 30)");
    detect->add_flag("!--no-video", video.annotate, "Write no annotated video");
    detect->add_flag("--naive", wanted.naive,
                     "One frame after another on one thread, to compare with (no video)");
}

// One line on stderr, whatever state that is in.
void complain(const std::string& what) {
    std::fputs(fmt::format("tidegate-vision: {}\n", what).c_str(), stderr);
}

} // namespace

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN); // a reader of our output that has left ends no run
    vision::set_up_opencv();
    CLI::App app{"Object detection on video with tidegate, OpenCV and ONNX Runtime",
                 "tidegate-vision"};
    app.require_subcommand(1);
    command_line wanted;
    vision::service::service_options to_serve;
    vision::service::service_options to_work;
    try {
        add_detect(app, wanted);
        CLI::App const& serve = vision::add_serve(app, to_serve);
        CLI::App const& work = vision::add_work(app, to_work);
        app.parse(argc, argv);
        if (serve.parsed()) return vision::serve(to_serve);
        if (work.parsed()) return vision::serve(to_work);
        vision::check(wanted.engine);
        vision::check(wanted.video);
        return wanted.naive ? detect_naively(wanted) : detect(wanted);
    } catch (const CLI::Success& help) {
        return app.exit(help);
    } catch (const CLI::ParseError& e) {
        complain(fmt::format("{} (--help lists what is allowed)", e.what()));
        return e.get_exit_code();
    } catch (const std::exception& e) {
        complain(e.what());
        return 1;
    }
}
