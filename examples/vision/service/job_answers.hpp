// SPDX-License-Identifier: BSL-1.0
// What the service answers about jobs.
#pragma once

#include "http_exchange.hpp"

#include <boost/asio/awaitable.hpp>

namespace vision::service {

class service;

// GET /v1/jobs
boost::asio::awaitable<void> list_jobs(service& site, http_exchange& x);
// /v1/jobs/ID and what is below it
boost::asio::awaitable<void> answer_about_job(service& site, http_exchange& x);

} // namespace vision::service
