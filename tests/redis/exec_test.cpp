// SPDX-License-Identifier: BSL-1.0
// A request that is looked at once more where its connection runs, just before it is sent.
#include "redis/support.hpp"

#include <tidegate/redis/detail/exec.hpp>

#include <catch2/catch_test_macros.hpp>

namespace redis = tidegate::redis;
using test::client;
using test::redis_server;

TEST_CASE("A request that its connection is not the right one for is not sent") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    bool is_right = false;
    int asked = 0;
    auto const set = [&](std::string value) {
        auto const sent = std::make_shared<redis::detail::call>();
        sent->may_be_sent = [&] {
            ++asked;
            return is_right && c.io.get_executor().running_in_this_thread();
        };
        sent->request.push("SET", "k", value);
        return c.run(redis::detail::exec_to_the_end(c.redis, sent));
    };
    CHECK(set("no") == boost::redis::error::not_connected);
    CHECK(c.run(test::ask(c.redis, {"EXISTS", "k"})).at(0).value == "0");
    is_right = true;
    CHECK_FALSE(set("yes"));
    CHECK(c.run(test::ask(c.redis, {"GET", "k"})).at(0).value == "yes");
    CHECK(asked == 2);
}
