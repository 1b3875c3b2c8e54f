// SPDX-License-Identifier: BSL-1.0
#include "analyses.hpp"

#include "error.hpp"
#include "shared_results.hpp"
#include "until_stopped.hpp"
#include "upload.hpp"

#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <utility>

namespace vision::service {

namespace asio = boost::asio;
namespace fs = std::filesystem;

namespace {

// What cannot be removed now is swept away at the next start.
void remove_quietly(const fs::path& path) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
}

// A stop from outside says nothing of the video, nor does a full disk.
bool may_pass(const std::exception_ptr& why) {
    try {
        std::rethrow_exception(why);
    } catch (const source_error&) {
        return false;
    } catch (const run_stopped&) {
        return false; // nobody wants it any more
    } catch (...) {
        return true;
    }
}

using cache_options = tidegate::cache_options<std::string, analysis>;

// What processes share is known by its files, and only a run under way by the cache.
cache_options shared_settings(const analyses_options& options) {
    return cache_options()
        .max_entries(options.max_results)
        .time_to_live(std::chrono::seconds(1))
        .keep_loading(true);
}

cache_options cache_settings(const analyses_options& options, tidegate::worker_pool& disk) {
    if (options.shared) return shared_settings(options);
    // Files go with their entry. Who reads them at that moment keeps them until the end.
    auto remove_files = [&disk](const std::string&, const tidegate::shared_value<analysis>& gone,
                                tidegate::removal_cause) {
        auto remove = [folder = gone->detections.parent_path()] { remove_quietly(folder); };
        static_cast<void>(disk.post(remove));
    };
    return cache_options()
        .max_entries(options.max_results)
        .time_to_live(options.time_to_live)
        .maintain_every(std::chrono::minutes(1))
        .keep_loading(true) // a run ends by its own stop, in whole files
        .on_removal(remove_files);
}

} // namespace

void hide_path(std::string& text, const fs::path& source) {
    std::string const shown = "source '" + source.string() + "'";
    if (auto const at = text.find(shown); at != std::string::npos) {
        text.replace(at, shown.size(), "the video");
    }
}

kept_upload::~kept_upload() {
    if (!discarded_) return;
    auto remove = [path = std::move(path_)] { remove_quietly(path); };
    static_cast<void>(disk_.post(std::move(remove)));
}

// While it lives, the run has one more reason to go on.
struct analyses::attachment {
    attachment(analyses& all, const std::string& key, bool urgent,
               std::shared_ptr<progress_channel> progress)
        : all_(all), key_(key), urgent_(urgent ? 1 : 0), progress_(std::move(progress)) {
        auto& run = all.runs_[key];
        if (!run || run->stop.stop_requested()) run = std::make_shared<run_state>();
        run_ = run;
        run_->wanted_by.push_back(progress_);
        run_->urgent += urgent_;
    }
    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;
    ~attachment() {
        std::erase(run_->wanted_by, progress_);
        run_->urgent -= urgent_;
        if (!run_->wanted_by.empty()) return;
        run_->stop.request_stop();
        auto const it = all_.runs_.find(key_);
        if (it != all_.runs_.end() && it->second == run_) all_.runs_.erase(it);
    }

    analyses& all_;
    std::string key_;
    std::size_t urgent_;
    std::shared_ptr<progress_channel> progress_;
    std::shared_ptr<run_state> run_;
};

analyses::analyses(engine& shared, tidegate::worker_pool& disk, analyses_options options)
    : engine_(shared),
      disk_(disk),
      options_(std::move(options)),
      cache_(disk.get_executor(), cache_settings(options_, disk)) {}

std::string analyses::key(const job& one) { return sha256(one.content + ' ' + one.options.text()); }

auto analyses::get(job one, std::shared_ptr<kept_upload> upload, std::stop_token stop,
                   std::shared_ptr<progress_channel> progress) -> asio::awaitable<handle> {
    std::string const name = key(one);
    for (;;) {
        attachment const attached(*this, name, one.options.urgent, progress);
        auto& uploads = attached.run_->uploads;
        if (std::ranges::find(uploads, upload) == uploads.end()) uploads.push_back(upload);
        auto load = [this, one](const std::string& k) { return run(*this, k, one); };
        auto waiting = cache_.get_or_load(name, load);
        auto result = until_stopped(stop, std::move(waiting));
        try {
            co_return co_await std::move(result);
        } catch (const run_stopped&) {
            // The run had been left by all others just before this one came.
            if (stop.stop_requested() || engine_ends()) throw;
        }
    }
}

auto analyses::find(std::string key) -> asio::awaitable<handle> {
    if (!options_.shared) co_return cache_.get_if_present(key);
    auto load = [folder = options_.folder / key] { return load_analysis(folder); };
    auto found = co_await disk_.submit(load);
    if (!found) co_return nullptr;
    co_return std::make_shared<const analysis>(std::move(*found));
}

std::shared_ptr<const std::string> analyses::preview(const std::string& key) const {
    auto const it = runs_.find(key);
    return it == runs_.end() ? nullptr : it->second->preview;
}

video_options analyses::options_for(const std::string& key, const job& one,
                                    std::shared_ptr<run_state> state) const {
    video_options wanted;
    wanted.source = one.source;
    wanted.out = new_run_of(options_.folder / key);
    wanted.checkpoint = checkpoint_in(wanted.out);
    wanted.model = one.options.model;
    wanted.every_n = one.options.every_n;
    wanted.chunk = one.options.chunk;
    wanted.annotate = one.options.annotate;
    wanted.confidence = one.options.confidence;
    wanted.iou = one.options.iou;
    wanted.previews = true;
    wanted.max_pixels = options_.max_pixels;
    wanted.max_frames = options_.max_frames;
    wanted.stop = state->stop.get_token();
    wanted.is_urgent = [run = std::weak_ptr(state)] {
        auto const still = run.lock();
        return still && still->urgent > 0;
    };
    return wanted;
}

void analyses::tell(run_state& run, const partial_result& part, job_progress& sum) {
    for (const auto& frame : part.frames) {
        sum.detections += static_cast<std::int64_t>(frame.found.size());
    }
    sum.frames_done = part.frames_done;
    sum.frames_total = part.announced_frames;
    sum.frames_per_second = part.frames_per_second;
    if (part.preview) run.preview = part.preview;
    if (part.frames_done <= part.frames_resumed) return; // as told before the interruption
    for (const auto& channel : run.wanted_by) channel->try_send(sum);
}

// Another process may have been quicker, before this run or during it.
asio::awaitable<analysis> analyses::run(analyses& self, std::string key, job first) {
    fs::path const folder = self.options_.folder / key;
    // Results of its own it knows by the cache: files without an entry are on their way out.
    auto load = [shared = self.options_.shared, folder] {
        return shared ? load_analysis(folder) : std::nullopt;
    };
    auto found = co_await self.disk_.submit(load);
    if (found) co_return std::move(*found);
    auto making = make(self, key, first);
    analysis made = co_await std::move(making);
    auto publish = [made, folder] { return publish_analysis(made, folder); };
    co_return co_await self.disk_.submit(publish);
}

asio::awaitable<analysis> analyses::make(analyses& self, std::string key, job first) {
    auto const state = self.runs_.at(key);
    video_options wanted = self.options_for(key, first, state);
    auto list = [folder = self.options_.folder, key] { return runs_of(folder, key); };
    auto const runs = co_await self.disk_.submit(list);
    for (const fs::path& run : runs) wanted.earlier.push_back(checkpoint_in(run));
    std::exception_ptr why;
    std::optional<analysis> made;
    try {
        auto looking = look(self, state, first, wanted);
        made = co_await std::move(looking);
    } catch (...) {
        why = std::current_exception();
    }
    auto cleaning = self.clean_up_after(key, wanted.out, why);
    co_await std::move(cleaning);
    if (why) std::rethrow_exception(why);
    co_return std::move(*made);
}

// A checkpoint stays where somebody will go on from it. In a shared folder, runs of other processes
// are left alone: they may live.
asio::awaitable<void> analyses::clean_up_after(std::string key, fs::path run,
                                               std::exception_ptr why) {
    bool const goes_on = why && (engine_ends() || (options_.shared && may_pass(why)));
    if (goes_on) co_return;
    auto discard = [folder = options_.folder, key, run, failed = why != nullptr,
                    shared = options_.shared] {
        std::vector<fs::path> gone;
        if (!shared) gone = runs_of(folder, key);
        std::erase(gone, run);
        if (failed) gone.push_back(run);
        for (const fs::path& each : gone) remove_quietly(each);
    };
    co_await disk_.submit(discard);
}

auto analyses::look(analyses& self, std::shared_ptr<run_state> state, job first,
                    video_options wanted) -> asio::awaitable<analysis> {
    auto const executor = co_await asio::this_coro::executor;
    video_run running = detect_objects(executor, self.engine_, wanted);
    job_progress sum;
    for (;;) {
        auto step = co_await running.async_resume(asio::use_awaitable);
        if (auto* const part = std::get_if<partial_result>(&step)) {
            bool const goes_on =
                part->frames_resumed > 0 && sum.frames_done <= part->frames_resumed;
            if (goes_on && part->frames_done > part->frames_resumed && self.options_.on_resume)
                self.options_.on_resume(first, part->frames_resumed);
            self.tell(*state, *part, sum);
            continue;
        }
        auto& summary = std::get<video_summary>(step);
        if (summary.interrupted) throw run_stopped();
        sum.frames_done = summary.frames;
        sum.frames_total = summary.frames;
        sum.detections = summary.detections;
        sum.frames_per_second = summary.frames_per_second();
        for (std::string& warning : summary.warnings) hide_path(warning, wanted.source);
        co_return analysis{summary.detections_file, summary.video_file, sum, summary.warnings};
    }
}

} // namespace vision::service
