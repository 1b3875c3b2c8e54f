// SPDX-License-Identifier: BSL-1.0
#include "pipeline.hpp"

#include "annotated_video.hpp"
#include "checkpoint.hpp"
#include "detections_writer.hpp"
#include "error.hpp"
#include "frame_stages.hpp"
#include "reorder_buffer.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>

#include <fmt/format.h>
#include <iterator>
#include <mutex>
#include <span>

namespace vision {

namespace asio = boost::asio;

namespace {

using steady = std::chrono::steady_clock;

// The files of one video. Used by the write pool only, one job at a time.
class video_output {
public:
    video_output(const video_options& options, const model_layout& layout, double frame_rate,
                 std::unique_ptr<checkpoint_writer> checkpoint)
        : layout_(layout),
          detections_(options.out / "detections.jsonl", layout.class_names),
          checkpoint_(std::move(checkpoint)),
          checkpoint_path_(options.checkpoint) {
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
        if (video_) {
            auto const timer = monitor.measure("write video");
            video_->write(frame.slot->picture, frame.found, layout_); // draws into it, too
        }
        if (checkpoint_ && !frame.known) {
            checkpoint_->add({frame.slot->index, frame.found, frame.dropped});
        }
    }

    // What was written need not be found again.
    void save() {
        if (checkpoint_) checkpoint_->save();
    }
    // What is written is not whole: it goes, and the checkpoint stays.
    [[nodiscard]] bool can_go_on_later() const noexcept { return checkpoint_ != nullptr; }
    void leave_for_later() { checkpoint_->make_durable(); }

    // What `frame`, which was written, looks like. Null where nobody has looked at it.
    [[nodiscard]] std::shared_ptr<const std::string> preview(detected_frame& frame) const {
        if (frame.slot->picture.empty()) return nullptr;
        if (!video_) draw_detections(frame.slot->picture, frame.found, layout_);
        return std::make_shared<const std::string>(small_jpeg(frame.slot->picture));
    }

    // Nothing gets its name before all is written.
    void commit() {
        detections_.close();
        if (video_) video_->commit();
        detections_.commit();
        if (!checkpoint_) return;
        checkpoint_.reset();
        std::error_code ignored; // it takes room, and nothing else
        std::filesystem::remove(checkpoint_path_, ignored);
    }

    [[nodiscard]] const std::filesystem::path& video_path() const { return video_path_; }

private:
    const model_layout& layout_;
    detections_writer detections_;
    std::optional<annotated_video> video_;
    std::filesystem::path video_path_;
    std::unique_ptr<checkpoint_writer> checkpoint_; // null: none is wanted
    std::filesystem::path checkpoint_path_;
};

// What is written and was not yet handed on as a partial result.
class pending_parts {
public:
    pending_parts(std::optional<std::int64_t> announced, std::size_t every_n,
                  steady::time_point start)
        : announced_(announced), start_(start) {
        auto const n = static_cast<std::int64_t>(every_n);
        if (announced_) announced_ = (*announced_ + n - 1) / n;
    }

    [[nodiscard]] std::size_t size() const noexcept { return frames_.size(); }

    void add(detected_frame& frame) {
        frames_.push_back({frame.slot->index, std::move(frame.found)});
        if (frame.known) ++resumed_;
    }
    [[nodiscard]] std::int64_t resumed() const noexcept { return resumed_; }

    // The first `n` of them.
    partial_result take(std::size_t n) {
        auto const end = frames_.begin() + static_cast<std::ptrdiff_t>(n);
        partial_result part;
        part.frames.assign(std::move_iterator(frames_.begin()), std::move_iterator(end));
        frames_.erase(frames_.begin(), end);
        done_ += static_cast<std::int64_t>(n);
        part.frames_done = done_;
        part.frames_resumed = std::min(done_, resumed_); // they come first
        part.announced_frames = announced_;
        part.frames_per_second = static_cast<double>(done_ - part.frames_resumed) /
                                 std::chrono::duration<double>(steady::now() - start_).count();
        return part;
    }

private:
    std::vector<partial_result::frame> frames_;
    std::optional<std::int64_t> announced_;
    steady::time_point start_;
    std::int64_t done_ = 0;
    std::int64_t resumed_ = 0;
};

void check_size(const source_info& source, const video_options& options) {
    std::int64_t const pixels = std::int64_t{source.size.width} * source.size.height;
    if (pixels > options.max_pixels) {
        throw source_error(fmt::format("source '{}': {} x {} is more than {} pixels",
                                       source.path.string(), source.size.width, source.size.height,
                                       options.max_pixels));
    }
}

// Throws when opening it hangs, too.
asio::awaitable<std::unique_ptr<video_source>> open_in_time(engine& shared, video_options options) {
    auto open = [&shared, options] { // it may outlive all who wait for it
        if (shared.before_read) shared.before_read();
        auto source = open_source(options.source);
        check_size(source->info(), options);
        make_output_folder(options.out);
        return source;
    };
    auto attempt = [&shared, open] { return shared.decode.submit(open); };
    auto opening = shared.in_time(attempt);
    try {
        co_return co_await std::move(opening);
    } catch (const boost::system::system_error& e) {
        if (e.code() != tidegate::error::deadline_exceeded) throw;
    }
    shared.give_up_decoder();
    throw source_error(fmt::format("source '{}': the decoder hangs", options.source.string()));
}

// All that decides what is found in a frame, besides the video.
std::string recipe_of(const loaded_model& model, const video_options& options) {
    detection_limits const limits = limits_of(model, options);
    return fmt::format("model={} confidence={} iou={} every_n={}", model.digest, limits.confidence,
                       limits.iou, options.every_n);
}

struct begun_checkpoint {
    std::unique_ptr<checkpoint_writer> writer; // null: none is wanted
    std::optional<known_frames> known;
};

// Blocks.
begun_checkpoint begin_checkpoint(const loaded_model& model, const video_options& options) {
    if (options.checkpoint.empty()) return {};
    std::string const recipe = recipe_of(model, options);
    begun_checkpoint begun;
    begun.writer = std::make_unique<checkpoint_writer>(options.checkpoint, recipe, options.earlier);
    if (begun.writer->frames() > 0) {
        begun.known.emplace(options.checkpoint, recipe, begun.writer->frames());
    }
    return begun;
}

// Ends the stages of a run that is left in the middle.
struct abandon_at_exit {
    std::shared_ptr<frame_stages> stages;
    ~abandon_at_exit() { stages->abandon(); }
};

} // namespace

std::optional<double> partial_result::progress() const {
    if (!announced_frames || *announced_frames <= 0) return std::nullopt;
    return std::min(0.99,
                    static_cast<double>(frames_done) / static_cast<double>(*announced_frames));
}

video_run detect_objects(asio::any_io_executor executor, engine& shared, video_options options) {
    check(options);
    // What blocks is named before it is awaited, because of g++ 12.2: see docs/compilers.md.
    auto open = [&shared, options] { return open_in_time(shared, options); };
    auto const start = steady::now();
    std::unique_ptr<video_source> source = co_await asio::co_spawn(executor, open, asio::deferred);
    std::shared_ptr<loaded_model> model =
        co_await shared.models.async_get(options.model, asio::deferred);
    video_summary summary;
    summary.source = source->info();
    summary.frames_in_flight = model->frames.size();
    summary.detections_file = options.out / "detections.jsonl";

    auto begin = [&] { return begin_checkpoint(*model, options); };
    begun_checkpoint checkpoint = co_await shared.decode.async_submit(begin, asio::deferred);
    auto const stages = std::make_shared<frame_stages>(executor, shared, model, std::move(source),
                                                       options, std::move(checkpoint.known));
    abandon_at_exit const on_exit(stages);
    auto open_output = [&] {
        return std::make_unique<video_output>(options, model->model.layout(),
                                              summary.source.frames_per_second /
                                                  static_cast<double>(options.every_n),
                                              std::move(checkpoint.writer));
    };
    std::unique_ptr<video_output> output =
        co_await shared.write.async_submit(open_output, asio::deferred);
    start_stages(executor, stages);
    auto cancel = [executor, stages] { asio::post(executor, [stages] { stages->cancel(); }); };
    std::stop_callback const on_stop(options.stop, cancel);

    reorder_buffer<finished_frame> in_order;
    std::vector<detected_frame> ready;
    pending_parts parts(summary.source.announced_frames, options.every_n, start);
    std::shared_ptr<const std::string> preview;
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
            std::size_t written = 0;
            for (; written < ready.size() && !stages->stopped(); ++written) {
                output->write(ready[written], *stages->source, shared.monitor);
            }
            output->save();
            if (options.previews && written > 0 && parts.size() + written >= options.chunk) {
                preview = output->preview(ready[written - 1]);
            }
            return written;
        };
        std::exception_ptr unwritten;
        std::size_t written = 0;
        try {
            written = co_await shared.write.async_submit(write, asio::deferred);
        } catch (...) {
            unwritten = std::current_exception();
        }
        if (unwritten) {
            stages->fail(unwritten);
            stages->failure = unwritten; // also after engine::stop: the files are not whole
        }
        gap = gap || written < ready.size();
        for (detected_frame& frame : std::span(ready).first(written)) {
            summary.detections += static_cast<std::int64_t>(frame.found.size());
            summary.dropped_boxes += static_cast<std::int64_t>(frame.dropped);
            shared.dropped_boxes += frame.dropped;
            parts.add(frame);
        }
        summary.frames += static_cast<std::int64_t>(written);
        ready.clear(); // gives the slots back
        while (parts.size() >= options.chunk) {
            partial_result part = parts.take(options.chunk);
            part.preview = preview;
            co_yield std::move(part);
        }
    }

    // The stages have ended, but for a last read that nobody waited for: with it ends the source.
    auto close_source = [&] {
        std::unique_lock const alone(stages->reading, std::try_to_lock);
        if (!alone) return std::string();
        auto const from = std::move(stages->source);
        if (!stages->stopped()) return from->truncation_warning();
        return std::string();
    };
    std::string truncated = co_await shared.decode.async_submit(close_source, asio::deferred);
    summary.undecodable = stages->undecodable;
    summary.interrupted = stages->stopped();
    summary.resumed = parts.resumed();
    if (summary.interrupted && !stages->failure && output->can_go_on_later()) {
        auto leave = [&output] {
            auto const files = std::move(output);
            files->leave_for_later();
        };
        co_await shared.write.async_submit(leave, asio::deferred);
        co_return summary;
    }
    if (stages->failure) {
        auto discard = [&output] { output.reset(); };
        co_await shared.write.async_submit(discard, asio::deferred);
        std::rethrow_exception(stages->failure);
    }
    if (parts.size() > 0) {
        partial_result part = parts.take(parts.size());
        co_yield std::move(part);
    }
    auto finish = [&output] {
        auto const files = std::move(output);
        files->commit();
    };
    if (summary.frames > 0) summary.video_file = output->video_path();
    co_await shared.write.async_submit(finish, asio::deferred);
    if (!truncated.empty()) summary.warnings.push_back(std::move(truncated));
    if (summary.undecodable > 0) {
        summary.warnings.push_back(
            fmt::format("{} frames could not be decoded and were skipped", summary.undecodable));
    }
    if (summary.dropped_boxes > 0) {
        summary.warnings.push_back(fmt::format("{} boxes were no finite numbers and were left out",
                                               summary.dropped_boxes));
    }
    summary.took = steady::now() - start;
    co_return summary;
}

} // namespace vision
