// SPDX-License-Identifier: BSL-1.0
// The jobs of one process, in its memory, and in files for the process after it.
#pragma once

#include "job_history.hpp"
#include "job_queue.hpp"

#include <tidegate/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/unordered/unordered_node_map.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace vision::service {

struct memory_job_queue_options {
    std::size_t max_queued = 100;                       // 1..100000, jobs that wait
    std::size_t max_remembered = 1000;                  // 1..1000000, jobs that have ended
    std::chrono::seconds keep = std::chrono::hours(24); // 1 s..1 year, those
    std::uint32_t max_crashes = 5;                      // 0..1000, of processes, in one job
};

// To be used on `executor` alone, which runs one handler at a time.
//
// Urgent jobs come before the others, but while others wait, every fourth job is one of them.
class memory_job_queue final : public job_queue {
public:
    // Without a history all jobs end with the process. `complain` is told why one that is accepted
    // already cannot be written; it must not throw.
    memory_job_queue(boost::asio::any_io_executor executor, memory_job_queue_options options,
                     std::unique_ptr<job_history> history = nullptr,
                     std::function<void(const std::string&)> complain = {});

    // Of an earlier process, the oldest first, before anything else. Those that have not ended are
    // in line again; they have failed where the process died of them too often, or where the video
    // is not there any more.
    void restore(std::vector<remembered_job> all);
    // Those that have not ended.
    [[nodiscard]] std::vector<job> open_jobs() const;
    [[nodiscard]] bool knows(const std::string& id) const { return jobs_.contains(id); }

    // Tries again to write what could not be written when it changed. Every write that succeeds
    // does so too; this is for the end of the process.
    awaitable<void> save_rest();

    awaitable<void> run() override;
    [[nodiscard]] std::size_t queued() const noexcept override;
    [[nodiscard]] std::size_t running() const noexcept override { return running_; }
    [[nodiscard]] bool is_reachable() const noexcept override { return true; }

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

private:
    struct record {
        job state;
        std::string idempotency_key;
        std::stop_source stop;
        std::vector<std::weak_ptr<job_watch>> watchers;
        std::list<std::string>::iterator place{}; // in by_age_
    };

    record* find_record(const std::string& id);
    record* running_record(const std::string& id);
    std::string next_in_line();
    void tell(record& one);
    void end(record& one, job_state how);
    void restore(record& one);
    void line_up(const job& one);
    [[nodiscard]] std::size_t in_line() const noexcept { return urgent_.size() + others_.size(); }
    std::vector<std::string> forget_old();
    void forget(const std::string& id);
    awaitable<void> save(std::string id, bool durable);
    awaitable<void> save_if_possible(std::string id, bool durable);
    awaitable<bool> try_to_save(std::string id, bool durable);

    boost::asio::any_io_executor executor_;
    memory_job_queue_options options_;
    std::unique_ptr<job_history> history_; // null: there is none
    std::function<void(const std::string&)> complain_;
    std::vector<std::string> to_save_; // what restoring has changed
    std::deque<std::string> unsaved_;  // what could not be written
    tidegate::semaphore one_with_key_; // submits, so that others find it written or not at all
    std::size_t arriving_ = 0;         // jobs that are being written, before they wait
    boost::unordered_node_map<std::string, record> jobs_;
    boost::unordered_node_map<std::string, std::string> by_idempotency_key_;
    std::list<std::string> by_age_; // the oldest first
    std::deque<std::string> urgent_;
    std::deque<std::string> others_;
    tidegate::channel<char> work_; // as many as jobs wait
    std::size_t urgent_in_a_row_ = 0;
    std::size_t running_ = 0;
    std::size_t ended_ = 0;
    bool closed_ = false;
};

} // namespace vision::service
