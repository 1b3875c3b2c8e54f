// SPDX-License-Identifier: BSL-1.0
#include "pipeline.hpp"

#include "annotated_video.hpp"
#include "detections_writer.hpp"
#include "error.hpp"
#include "frame_stages.hpp"
#include "reorder_buffer.hpp"

#include <boost/asio/deferred.hpp>
#include <boost/asio/redirect_error.hpp>

#include <fmt/format.h>

namespace vision {

namespace asio = boost::asio;

namespace {

using steady = std::chrono::steady_clock;

// The files of one video. Used by the write pool only, one job at a time.
class video_output {
public:
    video_output(const video_options& options, const model_layout& layout, double frame_rate)
        : layout_(layout), detections_(options.out / "detections.jsonl", layout.class_names) {
        if (options.annotate) {
            video_path_ = options.out / "annotated.mp4";
            video_.emplace(video_path_, frame_rate);
        }
    }

    void write(detected_frame& frame, const video_source& source, tidegate::monitor& monitor) {
        {
            auto const timer = monitor.measure("write detections");
            detections_.write(frame.slot->index, source.seconds(frame.slot->index), frame.found,
                              frame.slot->image_name);
        }
        if (!video_) return;
        auto const timer = monitor.measure("write video");
        video_->write(frame.slot->picture, frame.found, layout_);
    }

    void commit() {
        if (video_) video_->commit();
        detections_.commit();
    }

    [[nodiscard]] const std::filesystem::path& video_path() const { return video_path_; }

private:
    const model_layout& layout_;
    detections_writer detections_;
    std::optional<annotated_video> video_;
    std::filesystem::path video_path_;
};

void make_folder(const std::filesystem::path& folder) {
    std::error_code ec;
    std::filesystem::create_directories(folder, ec);
    if (ec) {
        throw error(
            fmt::format("{}: cannot make the output folder: {}", folder.string(), ec.message()));
    }
}

} // namespace

std::optional<double> partial_result::progress() const {
    if (!announced_frames || *announced_frames <= 0) return std::nullopt;
    return std::min(0.99,
                    static_cast<double>(frames_done) / static_cast<double>(*announced_frames));
}

video_run detect_objects(asio::any_io_executor executor, engine& shared, video_options options) {
    // Named before they are awaited: see docs/compilers.md.
    auto open = [&options] {
        make_folder(options.out);
        return open_source(options.source);
    };
    auto const start = steady::now();
    std::unique_ptr<video_source> source =
        co_await shared.decode.async_submit(open, asio::deferred);
    std::shared_ptr<loaded_model> model = co_await shared.model.async_get(asio::deferred);
    video_summary summary;
    summary.source = source->info();
    std::size_t const wide = model->tuned.chosen.workers * model->tuned.chosen.batch;
    summary.frames_in_flight = options.frames_in_flight ? options.frames_in_flight : 4 * wide + 4;
    summary.detections_file = options.out / "detections.jsonl";

    auto const stages = std::make_shared<frame_stages>(executor, shared, model, std::move(source),
                                                       summary.frames_in_flight, options.every_n);
    auto open_output = [&] {
        return std::make_unique<video_output>(options, model->model.layout(),
                                              summary.source.frames_per_second /
                                                  static_cast<double>(options.every_n));
    };
    std::unique_ptr<video_output> output =
        co_await shared.write.async_submit(open_output, asio::deferred);
    summary.video_file = output->video_path();
    start_stages(executor, stages);

    reorder_buffer<finished_frame> in_order;
    std::vector<detected_frame> ready;
    partial_result part;
    bool gap = false; // a frame fell out: what comes after it is not written
    for (;;) {
        tidegate::error_code ended;
        auto arrived = co_await stages->done.async_receive_some(
            64, asio::redirect_error(asio::deferred, ended));
        if (ended) break;
        for (finished_frame& frame : arrived) {
            std::int64_t const number = frame.number;
            in_order.put(number, std::move(frame));
        }
        while (auto next = in_order.take_next()) {
            gap = gap || !next->result;
            if (!gap) ready.push_back(std::move(*next->result));
        }
        if (ready.empty()) continue;

        auto write = [&] {
            for (detected_frame& frame : ready)
                output->write(frame, *stages->source, shared.monitor);
        };
        std::exception_ptr unwritten;
        try {
            co_await shared.write.async_submit(write, asio::deferred);
        } catch (...) {
            unwritten = std::current_exception();
        }
        if (unwritten) {
            stages->fail(unwritten);
            gap = true;
        }
        for (detected_frame& frame : ready) {
            summary.detections += static_cast<std::int64_t>(frame.found.size());
            part.frames.push_back({frame.slot->index, std::move(frame.found)});
        }
        summary.frames += static_cast<std::int64_t>(ready.size());
        ready.clear(); // gives the slots back
        if (part.frames.size() < options.chunk) continue;
        part.frames_done = summary.frames;
        part.announced_frames = summary.source.announced_frames;
        if (part.announced_frames && options.every_n > 1) {
            *part.announced_frames /= static_cast<std::int64_t>(options.every_n);
        }
        part.frames_per_second = static_cast<double>(summary.frames) /
                                 std::chrono::duration<double>(steady::now() - start).count();
        co_yield std::move(part);
        part = {};
    }
    if (stages->failure) std::rethrow_exception(stages->failure);
    summary.interrupted = shared.stopped();

    auto finish = [&] {
        output->commit();
        summary.undecodable = stages->source->undecodable();
    };
    co_await shared.write.async_submit(finish, asio::deferred);
    if (auto warning = stages->source->truncation_warning();
        !warning.empty() && !summary.interrupted) {
        summary.warnings.push_back(std::move(warning));
    }
    if (summary.undecodable > 0) {
        summary.warnings.push_back(
            fmt::format("{} frames could not be decoded and were skipped", summary.undecodable));
    }
    summary.took = steady::now() - start;
    co_return summary;
}

} // namespace vision
