// SPDX-License-Identifier: BSL-1.0
// Where Redis is, as a user says it.
#pragma once

#include <boost/redis/config.hpp>

#include <string>

namespace vision::service {

// Of "redis://[user:password@]host[:port][/database]". Throws vision::error, without the password.
[[nodiscard]] boost::redis::config parse_redis_address(const std::string& text);

// The same without user and password, for logs and clients.
[[nodiscard]] std::string describe(const boost::redis::config& server);

} // namespace vision::service
