// SPDX-License-Identifier: BSL-1.0
// tidegate-vision as a service: videos come in over HTTP, wait in line, and what is found in them
// can be fetched. All on one thread, but for what blocks or computes, which the pools do. Any
// number of processes may share the work through Redis.
#pragma once

#include "analyses.hpp"
#include "data_folder.hpp"
#include "engine.hpp"
#include "event_log.hpp"
#include "memory_job_queue.hpp"
#include "redis_job_queue.hpp"
#include "service_options.hpp"
#include "workers.hpp"

#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/stall_detector.hpp>
#include <tidegate/task_scope.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

namespace vision::service {

class service {
public:
    // Listens, and makes the folders. Throws vision::error or boost::system::system_error.
    service(boost::asio::io_context& io, service_options wanted);
    service(const service&) = delete;
    service& operator=(const service&) = delete;

    [[nodiscard]] boost::asio::ip::tcp::endpoint endpoint() const {
        return acceptor_.local_endpoint();
    }

    // Serves until `stop`, and until what runs then has come to its next checkpoint or to its end,
    // or the time to drain is over.
    boost::asio::awaitable<void> run();

    // Takes no more jobs from now on, and gives back those that run, for who goes on from their
    // checkpoints. Any number of times.
    void stop();
    [[nodiscard]] bool is_draining() const noexcept { return draining.stop_requested(); }

    // Counts the end of a job, or of an attempt, and logs it.
    void note_end(const job& one, const job_end& how, job_outcome outcome);

    service_options const options;
    data_folder data;
    event_log log;
    std::stop_source draining;
    tidegate::stall_detector stalls;
    boost::asio::any_io_executor const executor; // where all of it runs, watched by `stalls`
    class engine engine;
    tidegate::worker_pool disk;                   // short calls that block
    std::unique_ptr<redis_job_queue> shared_jobs; // null: there are none
    std::unique_ptr<memory_job_queue> own_jobs;   // otherwise
    job_queue& jobs;                              // either
    analyses results;
    jobs_under_way under_way;
    tidegate::keyed_rate_limiter<std::string> submissions;
    tidegate::metrics_registry metrics;
    tidegate::metric_family_of<tidegate::metric_counter>& refused;        // by reason
    tidegate::metric_family_of<tidegate::metric_counter>& ended;          // by state and reason
    tidegate::metric_family_of<tidegate::metric_histogram>& request_time; // by method and code

private:
    boost::asio::awaitable<void> accept(tidegate::task_scope& connections);
    boost::asio::awaitable<void> load_model();
    boost::asio::awaitable<void> load_and_work(tidegate::task_scope& workers);
    void start_workers(tidegate::task_scope& workers);
    boost::asio::awaitable<void> keep_folder_clean();
    boost::asio::awaitable<void> drain(tidegate::task_scope& workers,
                                       tidegate::task_scope& connections,
                                       tidegate::task_scope& background);
    void report_metrics();
    void note_start();
    void tell_of(const job& one, const job_problem& problem) noexcept;

    boost::asio::ip::tcp::acceptor acceptor_;
    tidegate::semaphore places_; // for connections
    tidegate::channel<char> stopped_;
    std::vector<tidegate::metrics_registration> registrations_;
};

} // namespace vision::service
