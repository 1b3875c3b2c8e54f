// SPDX-License-Identifier: BSL-1.0
// A real redis-server, for tests that skip where there is none.
#pragma once

#include "redis/redis_process.hpp"

#include <catch2/catch_test_macros.hpp>

/// Skips the test where there is no redis-server.
#define NEEDS_REDIS()                                                                              \
    if (test::redis_program().empty()) SKIP("redis-server is not installed")
