// SPDX-License-Identifier: BSL-1.0
#include "frame_stages.hpp"

#include "decode_in_time.hpp"
#include "error.hpp"
#include "letterbox.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include <fmt/format.h>

namespace vision {

namespace asio = boost::asio;
using stages_ptr = std::shared_ptr<frame_stages>;

namespace {

std::uint64_t next_number() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

// What a read needs. It may outlive all who wait for it: those leave at once when they are stopped.
struct read_job {
    stages_ptr stages;
    frame_pool::lease slot;
    std::optional<known_frame> known;
};

// Whether what comes next is known and nobody wants to see it. It is passed over one by one, since
// seeking in videos is not exact.
bool passes_over(const frame_stages& stages, std::int64_t index) {
    return stages.known && stages.known->reach(index) && !stages.needs_pictures;
}

// What is known of a frame that was read or passed over. A frame that was passed over and is not
// known could not be decoded by who came so far before.
read_status find_known(read_job& job, std::int64_t index, bool passed, read_status status) {
    frame_stages& stages = *job.stages;
    if (stages.known) job.known = stages.known->take(index);
    if (!passed) return status;
    job.slot->picture.release(); // another frame's
    if (job.known) return status;
    ++stages.passed_undecodable;
    return read_status::skipped;
}

enum class read_outcome { frame, nothing_yet, end };

// Reads one frame, or passes over one. On the decode pool.
read_outcome read_one(read_job& job) {
    frame_stages& stages = *job.stages;
    frame_slot& slot = *job.slot;
    video_source& source = *stages.source;
    auto const timer = stages.shared.monitor.measure("decode");
    if (stages.shared.before_read) stages.shared.before_read();
    std::int64_t const next = source.index() + 1;
    bool const wanted = next % static_cast<std::int64_t>(stages.every_n) == 0;
    bool const passed = wanted && passes_over(stages, next);
    read_status status = wanted && !passed ? source.read(slot.picture) : source.skip();
    if (status == read_status::end) return read_outcome::end;
    ++stages.shared.frames_decoded;
    if (next >= stages.max_frames) {
        throw source_error(fmt::format("source '{}': longer than {} frames",
                                       source.info().path.string(), stages.max_frames));
    }
    if (wanted) status = find_known(job, next, passed, status);
    stages.undecodable = source.undecodable() + stages.passed_undecodable;
    if (!wanted || status == read_status::skipped) return read_outcome::nothing_yet;
    slot.index = source.index();
    slot.image_name = source.image_name();
    return read_outcome::frame;
}

// Comes back after a while without a frame, too, so that only a decoder that hangs seems to hang,
// however many frames lie between two that are wanted. On the decode pool.
read_outcome read_some(read_job& job) {
    constexpr auto a_while = std::chrono::milliseconds(50);
    frame_stages& stages = *job.stages;
    std::scoped_lock const alone(stages.reading);
    if (!stages.source) return read_outcome::end;
    auto const begun = std::chrono::steady_clock::now();
    while (!stages.reads_no_more()) {
        auto const outcome = read_one(job);
        if (outcome == read_outcome::end) stages.read_all = true;
        if (outcome != read_outcome::nothing_yet) return outcome;
        if (std::chrono::steady_clock::now() - begun > a_while) return outcome;
    }
    return read_outcome::end;
}

// On the compute pool.
void prepare(frame_stages& stages, frame_slot& slot) {
    auto const timer = stages.shared.monitor.measure("letterbox");
    slot.plan = stages.model->model.plan({slot.picture.cols, slot.picture.rows});
    apply_letterbox(slot.picture, slot.plan, slot.prepared);
}

// False at the end. Throws when the decoder hangs.
asio::awaitable<bool> read_frame(std::shared_ptr<read_job> job) {
    auto outcome = read_outcome::nothing_yet;
    while (outcome == read_outcome::nothing_yet) {
        auto read = [job] { return read_some(*job); };
        auto reading = decode_in_time(job->stages->shared, read);
        auto const done = co_await std::move(reading);
        if (!done) throw decoder_hangs(job->stages->path);
        outcome = *done;
    }
    co_return outcome == read_outcome::frame;
}

finished_frame finished_without_inference(read_job& job) {
    ++job.stages->shared.frames_resumed;
    std::int64_t const number = job.slot->number;
    detected_frame frame{
        std::move(job.slot), std::move(job.known->found), job.known->dropped, {}, true};
    return {number, std::move(frame)};
}

asio::awaitable<void> read_frames(stages_ptr stages) {
    frame_supply::share frames(stages->model->frames);
    for (std::int64_t number = 0; !stages->reads_no_more(); ++number) {
        bool const urgent = stages->is_urgent && stages->is_urgent();
        auto acquiring = frames.acquire(urgent);
        frame_pool::lease slot = co_await std::move(acquiring);
        slot->number = number;
        slot->video = stages->number;
        slot->limits = stages->limits;
        auto const job = std::make_shared<read_job>(stages, std::move(slot), std::nullopt);
        auto reading = read_frame(job);
        if (!co_await std::move(reading)) break;
        if (job->known) {
            auto passing = stages->done.send(finished_without_inference(*job));
            co_await std::move(passing);
        } else {
            co_await stages->decoded.send(std::move(job->slot));
        }
    }
}

// One try. When the backend fails, the frame is back in `slot`.
asio::awaitable<detected_frame> infer_once(stages_ptr stages,
                                           std::shared_ptr<frame_pool::lease> slot) {
    if (!*slot) throw error("a frame was lost in an inference that did not end");
    std::optional<detected_frame> frame;
    try {
        frame = co_await stages->model->batches.submit(std::move(*slot));
    } catch (const run_stopped&) {
        frame.reset();
    }
    // Says nothing about the backend, as the guard has to know.
    if (!frame) throw boost::system::system_error(asio::error::operation_aborted);
    if (frame->failure) {
        *slot = std::move(frame->slot);
        std::rethrow_exception(frame->failure);
    }
    co_return std::move(*frame);
}

asio::awaitable<detected_frame> infer(stages_ptr stages, frame_pool::lease slot) {
    auto const held = std::make_shared<frame_pool::lease>(std::move(slot));
    auto attempt = [stages, held] { return infer_once(stages, held); };
    auto inferring = stages->shared.guarded(attempt);
    std::string why;
    try {
        co_return co_await std::move(inferring);
    } catch (const boost::system::system_error& e) {
        if (e.code() == asio::error::operation_aborted) throw;
        why = e.code().message();
    } catch (const std::exception& e) {
        why = e.what();
    }
    throw error("inference failed: " + why);
}

asio::awaitable<void> infer_frames(stages_ptr stages) {
    while (auto slot = co_await stages->decoded.receive()) {
        finished_frame frame{(*slot)->number, {}};
        if (!stages->ending()) {
            auto prepare_slot = [&stages, &slot] { prepare(*stages, **slot); };
            co_await stages->shared.compute.submit(prepare_slot);
        }
        if (!stages->ending()) { // in the meantime
            auto inferring = infer(stages, std::move(*slot));
            frame.result = co_await std::move(inferring);
            ++stages->shared.frames_inferred;
        }
        co_await stages->done.send(std::move(frame));
    }
}

bool is_stop(const std::exception_ptr& why) {
    try {
        std::rethrow_exception(why);
    } catch (const run_stopped&) {
        return true;
    } catch (const boost::system::system_error& e) {
        return e.code() == asio::error::operation_aborted;
    } catch (...) {
        return false;
    }
}

// When a stage ends, well or badly, those behind it must hear of it.
auto when_ended(stages_ptr stages, bool reader) {
    return [stages, reader](std::exception_ptr why) {
        if (why) stages->fail(why);
        if (reader) stages->decoded.close();
        if (--stages->running == 0) stages->done.close();
    };
}

} // namespace

detection_limits limits_of(const loaded_model& model, const video_options& options) {
    return {options.confidence.value_or(model.model.limits().confidence),
            options.iou.value_or(model.model.limits().iou)};
}

frame_stages::frame_stages(asio::any_io_executor executor, engine& e,
                           std::shared_ptr<loaded_model> loaded, std::unique_ptr<video_source> from,
                           const video_options& options,
                           std::optional<known_frames> from_checkpoint)
    : shared(e),
      model(std::move(loaded)),
      source(std::move(from)),
      known(std::move(from_checkpoint)),
      needs_pictures(options.annotate),
      path(source->info().path),
      every_n(options.every_n),
      limits(limits_of(*model, options)),
      max_frames(options.max_frames),
      can_go_on_later(!options.checkpoint.empty()),
      is_urgent(options.is_urgent),
      stop(options.stop),
      number(next_number()),
      decoded(executor, model->frames.size()),
      done(executor, model->frames.size()) {}

void frame_stages::fail(std::exception_ptr why) {
    if (!ended.exchange(true) && !is_stop(why)) failure = std::move(why);
    decoded.close();
}

void frame_stages::cancel() {
    for (auto& signal : signals) signal.emit(asio::cancellation_type::terminal);
}

void frame_stages::abandon() noexcept {
    ended = true;
    decoded.close();
    done.close();
    while (done.try_receive()) {
    } // frames that others, or the reader, may wait for
}

void start_stages(asio::any_io_executor executor, stages_ptr stages) {
    // Enough frames under way for every worker to find a full batch.
    std::size_t const wide =
        stages->model->tuned.chosen.workers * stages->model->tuned.chosen.batch;
    std::size_t const inferring = std::min(stages->model->frames.size(), 2 * wide + 1);
    stages->running = 1 + inferring;
    auto const start = [&](asio::awaitable<void> stage, bool reader) {
        auto const slot = stages->signals.emplace_back().slot();
        asio::co_spawn(executor, std::move(stage),
                       asio::bind_cancellation_slot(slot, when_ended(stages, reader)));
    };
    start(read_frames(stages), true);
    for (std::size_t i = 0; i < inferring; ++i) start(infer_frames(stages), false);
}

} // namespace vision
