// SPDX-License-Identifier: BSL-1.0
// The body of a submission: the video alone, or a form with the video and the options of its job.
#pragma once

#include "http_exchange.hpp"
#include "job_wishes.hpp"

#include <tidegate/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <filesystem>
#include <string>

namespace vision::service {

// Writes the video to `path`, piece by piece, and reads what else there is into `wishes`. Returns
// the name of the video's content. Throws bad_request, also where there is no video, and leaves no
// file then.
boost::asio::awaitable<std::string> receive_body(http_exchange& x, tidegate::worker_pool& disk,
                                                 std::filesystem::path path, job_wishes& wishes);

} // namespace vision::service
