// SPDX-License-Identifier: BSL-1.0
// What the service answers to which request.
#pragma once

#include "http_exchange.hpp"

#include <boost/asio/awaitable.hpp>

#include <string>

namespace vision::service {

class service;

// Throws boost::system::system_error when the client has gone.
boost::asio::awaitable<void> answer(service& site, http_exchange& exchange, std::string client);

} // namespace vision::service
