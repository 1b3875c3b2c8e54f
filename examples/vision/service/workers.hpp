// SPDX-License-Identifier: BSL-1.0
// Take jobs from the queue and see each to its end.
#pragma once

#include "analyses.hpp"
#include "job_queue.hpp"

#include <tidegate/background_tasks.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/json/array.hpp>

#include <functional>
#include <memory>

namespace vision::service {

// How a job went, and what became of that, for logs and metrics. Must not throw.
using job_listener = std::function<void(const job&, const job_end&, job_outcome)>;

// What this process sees to, by the ids of the jobs, with the frames done and those there are (0:
// not known yet). The queue knows the jobs of all processes; this is who to ask about this one.
using jobs_under_way = tidegate::background_tasks<void>;

// Those that have not ended, and how far they are, for logs.
boost::json::array describe(const jobs_under_way& all);

// One worker: a job after the other, until the queue is closed. As many of them as videos may be
// open at a time.
boost::asio::awaitable<void> work(job_queue& jobs, analyses& results, jobs_under_way& under_way,
                                  job_listener ended);

} // namespace vision::service
