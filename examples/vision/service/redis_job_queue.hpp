// SPDX-License-Identifier: BSL-1.0
// The jobs of many processes, in a Redis 7 that they share.
//
// A job may be worked on more than once: by a worker that died, that hung, or that could not be
// heard for longer than the lease. It ends once: what a worker says counts only while its lease
// holds, which a fence in the job's hash decides in the same script that writes. How durable a job
// is, is up to Redis: with "appendfsync everysec" a loss of power may cost the last second.
#pragma once

#include "job_queue.hpp"
#include "redis_job_record.hpp"

#include <tidegate/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/redis/connection.hpp>
#include <boost/unordered/unordered_node_map.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <random>

namespace vision::service {

struct redis_job_queue_options {
    std::string name = "tidegate-vision";    // of the queue; without braces
    std::size_t max_queued = 100;            // 1..100000, jobs that wait
    std::chrono::milliseconds lease{15'000}; // 100 ms..1 h; how long a worker may not be heard of
    std::uint32_t max_crashes = 5;           // 0..1000, of workers, in one job
    std::uint32_t max_errors = 5;            // 0..1000, failures that may pass, in one job
    std::chrono::milliseconds backoff{1000}; // 1 ms..1 h; twice as much after each such failure
    std::chrono::milliseconds longest_backoff{60'000};
    std::chrono::milliseconds beat{250}; // 1 ms..1 min; how soon cancels and changes are heard
    std::chrono::milliseconds keep{std::chrono::hours(24)}; // what has ended
    std::filesystem::path uploads; // where a job's upload has its id for a name
};

// To be used on `executor` alone, which runs one handler at a time. `run` has to run.
//
// Urgent jobs come before the others, but while others wait, every fourth job is one of them.
class redis_job_queue final : public job_queue {
public:
    redis_job_queue(boost::asio::any_io_executor executor, boost::redis::config server,
                    redis_job_queue_options options);
    ~redis_job_queue() override;

    awaitable<void> run() override;
    [[nodiscard]] std::size_t queued() const noexcept override { return queued_; }
    [[nodiscard]] std::size_t running() const noexcept override { return running_; }
    [[nodiscard]] bool is_reachable() const noexcept override { return reachable_; }

    bool is_full() const override;
    awaitable<submitted> submit(job one, std::string idempotency_key) override;
    awaitable<std::optional<job>> find(std::string id) override;
    awaitable<std::vector<job>> list(std::size_t most) override;
    awaitable<std::optional<job>> cancel(std::string id) override;
    awaitable<std::shared_ptr<job_watch>> watch(std::string id) override;
    awaitable<taken_job> take() override;
    awaitable<bool> report(job_lease held, job_progress progress) override;
    awaitable<job_outcome> finish(job_lease held, job_end end) override;
    awaitable<job_outcome> give_back(job_lease held) override;
    void close() override;

    // Of uploads (by job) or results (by name): whether somebody may ask for them.
    awaitable<std::vector<bool>> are_needed(std::vector<std::string> names);
    // Forgets what nobody can ask for.
    awaitable<void> tidy();

private:
    using steady = std::chrono::steady_clock;
    using strings = std::vector<std::string>;
    using connection = std::shared_ptr<boost::redis::connection>;
    struct holding {
        job_lease lease;
        std::stop_source stop;
    };
    struct watched {
        std::uint64_t version = 0;
        std::vector<std::weak_ptr<job_watch>> watchers;
    };
    struct stream_entry { // of a stream
        std::string stream, id, job;
    };

    awaitable<strings> call(const std::string& script, strings arguments);
    awaitable<strings> call_until_answered(const std::string& script, strings arguments);
    awaitable<strings> ask(connection where, std::shared_ptr<boost::redis::request> what);
    void note_answer();
    [[nodiscard]] bool may_claim() const;
    [[nodiscard]] job read(const strings& from, std::size_t first, std::size_t last) const;
    [[nodiscard]] std::vector<job> read_all(const strings& said) const;

    awaitable<std::optional<taken_job>> take_what_is_there();
    awaitable<std::vector<stream_entry>> wait_for_entries();
    awaitable<std::optional<taken_job>> begin(std::vector<stream_entry> delivered);
    awaitable<std::optional<taken_job>> try_to_take();
    taken_job hold(const strings& said);
    void let_go(const job_lease& held);
    awaitable<job_outcome> end_holding(job_lease held, const std::string& script,
                                       strings arguments);

    awaitable<void> keep_beating();
    awaitable<void> renew_leases();
    awaitable<void> look_at_watched();
    void tell(const job& now);
    void stop_telling(const std::string& id);

    redis_job_queue_options options_;
    boost::redis::config server_;
    std::string consumer_; // host:process:random
    connection redis_;
    connection reading_; // for reads that block, which would hold up everything behind them
    tidegate::semaphore one_reads_;
    std::vector<std::shared_ptr<holding>> held_;
    boost::unordered_node_map<std::string, watched> watched_;
    std::minstd_rand random_;
    std::size_t urgent_in_a_row_ = 0;
    std::size_t queued_ = 0;
    std::size_t running_ = 0;
    bool reachable_ = false;
    bool closed_ = false;
    steady::time_point reachable_since_;
    steady::time_point renewed_;
    steady::time_point give_up_at_ = steady::time_point::max();
};

} // namespace vision::service
