// SPDX-License-Identifier: BSL-1.0
// What the service answers about itself and its models.
#pragma once

#include "http_exchange.hpp"

#include <boost/asio/awaitable.hpp>

namespace vision::service {

class service;

boost::asio::awaitable<void> show_readiness(service& site, http_exchange& x);
boost::asio::awaitable<void> show_models(service& site, http_exchange& x);
boost::asio::awaitable<void> activate_model(service& site, http_exchange& x);
boost::asio::awaitable<void> show_status(service& site, http_exchange& x);
boost::asio::awaitable<void> show_metrics(service& site, http_exchange& x);

} // namespace vision::service
