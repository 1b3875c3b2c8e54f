// SPDX-License-Identifier: BSL-1.0
// Removes what nobody can ask for any more from a data folder that processes share.
#pragma once

#include "data_folder.hpp"
#include "redis_job_queue.hpp"

#include <tidegate/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>

namespace vision::service {

// Removes uploads of jobs that are over or unknown, results that are not kept, and what dead
// processes left unfinished, unless it was written to within `youngest`: it may be on its way to
// being known. Returns how many. Any number of processes may do so at the same time. Throws
// vision::error or queue_unreachable.
boost::asio::awaitable<std::size_t> sweep_shared_folder(const data_folder& data,
                                                        redis_job_queue& jobs,
                                                        tidegate::worker_pool& disk,
                                                        std::chrono::seconds youngest);

} // namespace vision::service
