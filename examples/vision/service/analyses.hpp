// SPDX-License-Identifier: BSL-1.0
// What was found in videos, by content: jobs with equal videos and options share one run, and its
// files.
#pragma once

#include "engine.hpp"
#include "job_queue.hpp"
#include "pipeline.hpp"

#include <tidegate/cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

namespace vision::service {

// The files of a run and what is to be said of them.
struct analysis {
    std::filesystem::path detections;
    std::filesystem::path video; // empty where none was asked for
    job_progress last;
    std::vector<std::string> warnings;
};

// A job's upload, in use by the job and by the run that the job began or joined. When both have
// left it is removed, if the job is over.
class kept_upload {
public:
    kept_upload(std::filesystem::path path, tidegate::worker_pool& disk)
        : path_(std::move(path)), disk_(disk) {}
    kept_upload(const kept_upload&) = delete;
    kept_upload& operator=(const kept_upload&) = delete;
    ~kept_upload();

    void discard() noexcept { discarded_ = true; }

private:
    std::filesystem::path path_;
    tidegate::worker_pool& disk_;
    bool discarded_ = false;
};

struct analyses_options {
    std::filesystem::path folder;
    bool shared = false;            // with other processes, which find results by their files
    std::size_t max_results = 1000; // 1..1000000, kept
    std::chrono::seconds time_to_live = std::chrono::hours(24); // 1 s..1 year
    std::int64_t max_pixels = std::int64_t{4096} * 4096;
    std::int64_t max_frames = 1'000'000;
    // Told when a run has gone on from a checkpoint, with the frames that were known. Must not
    // throw.
    std::function<void(const job&, std::int64_t)> on_resume;
};

// To be used on the engine's executor alone, which runs one handler at a time.
class analyses {
public:
    using handle = tidegate::shared_value<analysis>;
    // The latest progress, at most.
    using progress_channel = tidegate::channel<job_progress>;

    // `disk` is for small blocking calls.
    analyses(engine& shared, tidegate::worker_pool& disk, analyses_options options);

    // Names what is found in a video of that content with those options.
    [[nodiscard]] static std::string key(const job& one);

    // The result, from the cache or by a run, which is shared with other jobs of the same key. The
    // run ends early when all that want it have left. Throws what the run met, or operation_aborted
    // when `stop` was requested.
    boost::asio::awaitable<handle> get(job one, std::shared_ptr<kept_upload> upload,
                                       std::stop_token stop,
                                       std::shared_ptr<progress_channel> progress);
    [[nodiscard]] std::shared_ptr<kept_upload> keep_upload(const job& one) {
        return std::make_shared<kept_upload>(one.source, disk_);
    }

    // A result that an earlier process made, to be kept for so long.
    void restore(std::string key, analysis found, std::chrono::seconds keep) {
        cache_.put(std::move(key), std::move(found), keep);
    }
    // Null when it is not there any more.
    boost::asio::awaitable<handle> find(std::string key);
    // Of a run: the picture last drawn. Null where there is none.
    [[nodiscard]] std::shared_ptr<const std::string> preview(const std::string& key) const;

    tidegate::cache<std::string, analysis>& cache() noexcept { return cache_; }

private:
    struct run_state {
        std::vector<std::shared_ptr<kept_upload>> uploads; // of all jobs that took part
        std::stop_source stop;
        std::vector<std::shared_ptr<progress_channel>> wanted_by;
        std::size_t urgent = 0; // of those
        std::shared_ptr<const std::string> preview;
    };
    struct attachment; // to a run, by one job

    [[nodiscard]] bool engine_ends() const noexcept {
        return engine_.stopped() || engine_.draining();
    }
    static boost::asio::awaitable<analysis> run(analyses& self, std::string key, job first);
    static boost::asio::awaitable<analysis> make(analyses& self, std::string key, job first);
    static boost::asio::awaitable<analysis> look(analyses& self, std::shared_ptr<run_state> state,
                                                 job first, video_options wanted);
    boost::asio::awaitable<void> clean_up_after(std::string key, std::filesystem::path run,
                                                std::exception_ptr why);
    [[nodiscard]] video_options options_for(const std::string& key, const job& one,
                                            std::shared_ptr<run_state> state) const;
    void tell(run_state& run, const partial_result& part, job_progress& sum);

    engine& engine_;
    tidegate::worker_pool& disk_;
    analyses_options options_;
    std::unordered_map<std::string, std::shared_ptr<run_state>> runs_;
    tidegate::cache<std::string, analysis> cache_;
};

// Clients know nothing of our paths: "source '/data/x': why" becomes "the video: why".
void hide_path(std::string& text, const std::filesystem::path& source);

} // namespace vision::service
