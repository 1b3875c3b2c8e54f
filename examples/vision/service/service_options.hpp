// SPDX-License-Identifier: BSL-1.0
// What a user can say about the service, and its checks.
#pragma once

#include "analyses.hpp"
#include "http_exchange.hpp"
#include "memory_job_queue.hpp"
#include "pipeline_options.hpp"
#include "redis_job_queue.hpp"

#include <boost/json/object.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace vision::service {

// An attempt at a job that failed. The stage is one of the reasons in the metrics: decode, backend,
// disk, crash, other.
struct job_failure {
    std::string_view job;
    std::string_view stage;
    std::string_view what;
    std::uint32_t attempt;
};

struct service_options {
    engine_options engine;
    std::filesystem::path data;        // a folder for uploads and results; made if it is not there
    std::string address = "127.0.0.1"; // to listen on
    std::uint16_t port = 8080;         // 0: any free one; without `listens` 0: none
    std::size_t max_running = 10;      // 1..64, videos open at a time
    std::size_t max_connections = 256; // 1..100000
    std::uint64_t rate = 10;           // 1..1000000, jobs that one client may submit in a second
    std::uint64_t burst = 20;          // 1..1000000, and at once
    // 0..3600, for running jobs to come to their next checkpoint when the service is to end.
    std::chrono::seconds drain{30};
    http_limits http;
    memory_job_queue_options queue;
    std::optional<boost::redis::config> redis; // whose queue processes share; unset: in memory
    redis_job_queue_options shared;            // the rest of it is made from what is above
    // False: works for others, for which `redis` is set, and answers for its metrics and health
    // only.
    bool listens = true;
    analyses_options results;                      // its folder is made from `data`
    std::chrono::milliseconds stall_threshold{50}; // 1..60000, for what runs on the event loop
    std::string log_level = "info";
    bool log_json = false;
    // Hears of each failure, on the event loop, which it must not hold up: for a pager or an error
    // tracker. What it throws is logged.
    std::function<void(const job_failure&)> on_failure;
};

// Throws vision::error naming the option, its value and what is allowed.
void check(const service_options& options);

// The settings in force.
[[nodiscard]] boost::json::object to_json(const service_options& options);

} // namespace vision::service
