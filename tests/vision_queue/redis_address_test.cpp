// SPDX-License-Identifier: BSL-1.0
// The address of Redis, as users write it.
#include "redis_address.hpp"

#include "error.hpp"

#include <catch2/catch_test_macros.hpp>

using vision::service::describe;
using vision::service::parse_redis_address;

TEST_CASE("an address of Redis has a host, and may have the rest") {
    auto const all = parse_redis_address("redis://me:s%40crt@db.example:7000/3");
    CHECK(all.addr.host == "db.example");
    CHECK(all.addr.port == "7000");
    CHECK(all.username == "me");
    CHECK(all.password == "s@crt");
    CHECK(all.database_index == 3);
    CHECK(describe(all) == "redis://db.example:7000/3");
    CHECK(describe(parse_redis_address("redis://localhost")) == "redis://localhost:6379/0");
    CHECK(describe(parse_redis_address("redis://[::1]:1/")) == "redis://[::1]:1/0");
    CHECK(parse_redis_address("redis://:secret@host").password == "secret");
}

TEST_CASE("another address is refused, with what is allowed and without the password") {
    for (const char* const text :
         {"", "localhost:6379", "http://host", "rediss://host", "redis://", "redis://host:0",
          "redis://host:70000", "redis://host:x", "redis://host/a", "redis://host/1/2",
          "redis://host?x=1", "redis://host#x", "redis://user@host", "redis://a b"}) {
        INFO(text);
        try {
            static_cast<void>(parse_redis_address(text));
            FAIL("accepted");
        } catch (const vision::error& e) {
            CHECK(std::string(e.what()).find("allowed is redis://") != std::string::npos);
        }
    }
    try {
        static_cast<void>(parse_redis_address("redis://:secret@host:99999"));
        FAIL("accepted");
    } catch (const vision::error& e) {
        CHECK(std::string(e.what()).find("secret") == std::string::npos);
    }
}
