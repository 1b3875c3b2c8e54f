// SPDX-License-Identifier: BSL-1.0
// A job's events for clients that watch: server-sent events and WebSocket.
#pragma once

#include "http_exchange.hpp"
#include "job_queue.hpp"

#include <boost/asio/awaitable.hpp>

#include <memory>
#include <stop_token>

namespace vision::service {

// Both send a snapshot first, then progress, and the end; a client that is slow gets the latest
// progress only. `draining` ends them early, with an event that says so.
boost::asio::awaitable<void> send_server_sent_events(http_exchange& exchange,
                                                     std::shared_ptr<job_watch> watch,
                                                     std::stop_token draining);
boost::asio::awaitable<void> send_over_websocket(http_exchange& exchange,
                                                 std::shared_ptr<job_watch> watch,
                                                 std::stop_token draining);

} // namespace vision::service
