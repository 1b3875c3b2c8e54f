// SPDX-License-Identifier: BSL-1.0
#include "pipeline.hpp"

#include "checkpoint.hpp"
#include "decode_in_time.hpp"
#include "error.hpp"
#include "frame_stages.hpp"
#include "reorder_buffer.hpp"
#include "video_output.hpp"

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
    auto opening = decode_in_time(shared, open);
    auto opened = co_await std::move(opening);
    if (!opened) throw decoder_hangs(options.source);
    co_return std::move(*opened);
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

// What becomes of frames once the stages are done with them. Used on the executor, but for what is
// said to be for a pool, one call at a time.
class results {
public:
    results(steady::time_point start, std::shared_ptr<frame_stages> from,
            const video_options& options, begun_checkpoint checkpoint)
        : start_(start),
          stages_(std::move(from)),
          chunk_(options.chunk),
          wants_previews_(options.previews),
          parts_(stages_->source->info().announced_frames, options.every_n, start_) {
        summary_.source = stages_->source->info();
        summary_.frames_in_flight = stages_->model->frames.size();
        summary_.detections_file = options.out / "detections.jsonl";
        output_ = std::make_unique<video_output>(options, stages_->model->model.layout(),
                                                 summary_.source.frames_per_second /
                                                     static_cast<double>(options.every_n),
                                                 std::move(checkpoint.writer));
    }
    ~results() { stages_->abandon(); } // of a run that is left in the middle

    [[nodiscard]] const std::shared_ptr<frame_stages>& stages() const noexcept { return stages_; }

    // Whether some can be written now.
    bool put_in_order(std::vector<finished_frame> arrived) {
        for (finished_frame& frame : arrived) {
            std::int64_t const number = frame.number;
            in_order_.put(number, std::move(frame));
        }
        while (auto next = in_order_.take_next()) {
            gap_ = gap_ || !next->result; // what comes after one that fell out is not written
            if (!gap_) ready_.push_back(std::move(*next->result));
        }
        return !ready_.empty();
    }

    void write_ready(); // on the write pool
    void note_written();

    // A chunk that is whole.
    std::optional<partial_result> next_part() {
        if (parts_.size() < chunk_) return std::nullopt;
        auto part = parts_.take(chunk_);
        part.preview = preview_;
        return part;
    }
    // What is left, where all is written.
    std::optional<partial_result> last_part() {
        if (how_it_ends_ != ending::whole || parts_.size() == 0) return std::nullopt;
        return parts_.take(parts_.size());
    }

    void close_source(); // on the decode pool, after the stages
    void note_end();
    void close_files(); // on the write pool
    video_summary summary();

private:
    enum class ending { whole, to_be_gone_on_with, failed };

    steady::time_point start_;
    std::shared_ptr<frame_stages> stages_;
    std::size_t chunk_;
    bool wants_previews_;
    reorder_buffer<finished_frame> in_order_;
    bool gap_ = false;
    std::vector<detected_frame> ready_;
    std::size_t written_ = 0; // of those
    std::exception_ptr unwritten_;
    pending_parts parts_;
    std::shared_ptr<const std::string> preview_;
    std::string truncated_;
    ending how_it_ends_ = ending::failed;
    video_summary summary_;
    std::unique_ptr<video_output> output_;
};

void results::write_ready() {
    written_ = 0;
    try {
        std::size_t done = 0;
        for (; done < ready_.size() && !stages_->stopped(); ++done) {
            output_->write(ready_[done], *stages_->source, stages_->shared.monitor);
        }
        output_->save();
        if (wants_previews_ && done > 0 && parts_.size() + done >= chunk_) {
            preview_ = output_->preview(ready_[done - 1]);
        }
        written_ = done;
    } catch (...) {
        unwritten_ = std::current_exception();
    }
}

void results::note_written() {
    if (unwritten_) {
        stages_->fail(unwritten_);
        stages_->failure = unwritten_; // also after engine::stop: the files are not whole
    }
    gap_ = gap_ || written_ < ready_.size();
    for (detected_frame& frame : std::span(ready_).first(written_)) {
        summary_.detections += static_cast<std::int64_t>(frame.found.size());
        summary_.dropped_boxes += static_cast<std::int64_t>(frame.dropped);
        stages_->shared.dropped_boxes += frame.dropped;
        parts_.add(frame);
    }
    summary_.frames += static_cast<std::int64_t>(written_);
    ready_.clear(); // gives the slots back
}

// The stages have ended, but for a last read that nobody waited for: with it ends the source.
void results::close_source() {
    std::unique_lock const alone(stages_->reading, std::try_to_lock);
    if (!alone) return;
    auto const from = std::move(stages_->source);
    if (stages_->read_all && !stages_->stopped()) truncated_ = from->truncation_warning();
}

void results::note_end() {
    summary_.undecodable = stages_->undecodable;
    summary_.interrupted = stages_->stopped() || !stages_->read_all;
    summary_.resumed = parts_.resumed();
    bool const later = summary_.interrupted && output_->can_go_on_later();
    how_it_ends_ = stages_->failure ? ending::failed
                   : later          ? ending::to_be_gone_on_with
                                    : ending::whole;
}

void results::close_files() {
    auto const files = std::move(output_);
    if (how_it_ends_ == ending::to_be_gone_on_with) files->leave_for_later();
    if (how_it_ends_ != ending::whole) return;
    if (summary_.frames > 0) summary_.video_file = files->video_path();
    files->commit();
}

video_summary results::summary() {
    if (stages_->failure) std::rethrow_exception(stages_->failure);
    auto& warnings = summary_.warnings;
    if (!truncated_.empty()) warnings.push_back(std::move(truncated_));
    if (summary_.undecodable > 0) {
        warnings.push_back(
            fmt::format("{} frames could not be decoded and were skipped", summary_.undecodable));
    }
    if (summary_.dropped_boxes > 0) {
        warnings.push_back(fmt::format("{} boxes were no finite numbers and were left out",
                                       summary_.dropped_boxes));
    }
    summary_.took = steady::now() - start_;
    return std::move(summary_);
}

asio::awaitable<std::unique_ptr<results>> begin(asio::any_io_executor executor, engine& shared,
                                                video_options options) {
    auto const start = steady::now();
    auto opening = open_in_time(shared, options);
    auto source = co_await std::move(opening);
    auto loading = shared.models.get(options.model);
    auto const model = co_await std::move(loading);
    auto begin_known = [&] { return begin_checkpoint(*model, options); };
    auto checkpoint = co_await shared.decode.submit(begin_known);
    auto const stages = std::make_shared<frame_stages>(executor, shared, model, std::move(source),
                                                       options, std::move(checkpoint.known));
    auto open_files = [&] {
        return std::make_unique<results>(start, stages, options, std::move(checkpoint));
    };
    co_return co_await shared.write.submit(open_files);
}

} // namespace

std::optional<double> partial_result::progress() const {
    if (!announced_frames || *announced_frames <= 0) return std::nullopt;
    return std::min(0.99,
                    static_cast<double>(frames_done) / static_cast<double>(*announced_frames));
}

video_run detect_objects(asio::any_io_executor executor, engine& shared, video_options options) {
    check(options);
    // What blocks is named before it is awaited, because of g++ 12.2: see docs/compilers.md.
    auto open = [executor, &shared, options] { return begin(executor, shared, options); };
    std::unique_ptr<results> const video = co_await asio::co_spawn(executor, open, asio::deferred);
    std::shared_ptr<frame_stages> const stages = video->stages();
    start_stages(executor, stages);
    auto cancel = [executor, stages] { asio::post(executor, [stages] { stages->cancel(); }); };
    std::stop_callback const on_stop(options.stop, cancel);

    for (;;) {
        tidegate::error_code ended;
        auto arrived = co_await stages->done.async_receive_some(
            64, asio::redirect_error(asio::deferred, ended));
        if (ended) break;
        if (!video->put_in_order(std::move(arrived))) continue;
        auto write = [&] { video->write_ready(); };
        co_await shared.write.async_submit(write, asio::deferred);
        video->note_written();
        while (auto part = video->next_part()) co_yield std::move(*part);
    }

    auto close_source = [&] { video->close_source(); };
    co_await shared.decode.async_submit(close_source, asio::deferred);
    video->note_end();
    if (auto part = video->last_part()) co_yield std::move(*part);
    auto close_files = [&] { video->close_files(); };
    co_await shared.write.async_submit(close_files, asio::deferred);
    co_return video->summary();
}

} // namespace vision
