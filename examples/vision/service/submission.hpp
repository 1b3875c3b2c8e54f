// SPDX-License-Identifier: BSL-1.0
// The way of a video into the service.
#pragma once

#include "http_exchange.hpp"

#include <boost/asio/awaitable.hpp>

#include <string>

namespace vision::service {

class service;

// POST /v1/jobs: refuses before the upload is read, or stores it and makes a job of it.
boost::asio::awaitable<void> submit_job(service& site, http_exchange& x, std::string client);

} // namespace vision::service
