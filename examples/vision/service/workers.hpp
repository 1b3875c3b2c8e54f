// SPDX-License-Identifier: BSL-1.0
// Take jobs from the queue and see each to its end.
#pragma once

#include "analyses.hpp"
#include "job_queue.hpp"

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <memory>

namespace vision::service {

// How a job went, and what became of that, for logs and metrics. Must not throw.
using job_listener = std::function<void(const job&, const job_end&, job_outcome)>;

// One worker: a job after the other, until the queue is closed. As many of them as videos may be
// open at a time.
boost::asio::awaitable<void> work(job_queue& jobs, analyses& results, job_listener ended);

} // namespace vision::service
