// SPDX-License-Identifier: BSL-1.0
// A refund and a refusal that overlap: what was refused before the refund is not remembered after.
#include "redis/support.hpp"

#include <tidegate/redis/detail/gcra.hpp>
#include <tidegate/redis/detail/known_refusals.hpp>
#include <tidegate/redis/rate_limiter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string>

namespace asio = boost::asio;
namespace redis = tidegate::redis;
using namespace std::chrono_literals;
using redis::detail::known_refusals;
using test::client;
using test::redis_server;

TEST_CASE("A refund that overlaps a refused ask is not forgotten") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    // A busy machine answers within that.
    redis::rate_limiter limiter(c.redis, redis::rate_limiter_options().rate(4, 1h).time_limit(10s));
    CHECK(c.run(limiter.try_acquire("ann", 4)));
    std::optional<bool> taken, refunded;
    auto take = [&]() -> asio::awaitable<void> {
        auto asking = limiter.try_acquire("ann", 2);
        taken = static_cast<bool>(co_await std::move(asking));
    };
    auto refund = [&]() -> asio::awaitable<void> {
        auto refunding = limiter.refund("ann", 4);
        refunded = co_await std::move(refunding);
    };

    SECTION("that came before it") {
        asio::co_spawn(c.io, take(), asio::detached);
        asio::co_spawn(c.io, refund(), asio::detached);
        c.run_until([&] { return taken && refunded; });
    }
    SECTION("that came after it, and was decided before it") {
        c.run(test::ask(c.redis, {"SCRIPT", "FLUSH"})); // so the refund is sent twice
        auto load = [&]() -> asio::awaitable<void> {
            std::string const script(redis::detail::gcra_script);
            auto loading = test::ask(c.redis, {"SCRIPT", "LOAD", script});
            co_await std::move(loading);
        };
        asio::co_spawn(c.io, refund(), asio::detached);
        asio::co_spawn(c.io, load(), asio::detached);
        asio::co_spawn(c.io, take(), asio::detached);
        c.run_until([&] { return taken && refunded; });
        CHECK(limiter.statistics().scripts_sent == 2);
    }
    CHECK_FALSE(*taken);
    CHECK(*refunded);
    CHECK(c.run(limiter.try_acquire("ann", 2)));
    CHECK(limiter.statistics().refused_locally == 0);
}

TEST_CASE("Who was told to forget while Redis was asked remembers nothing") {
    auto const now = known_refusals::time_point() + 1h;
    known_refusals some(1); // where all keys share a place
    auto const before = some.look("ann", 2, now);
    CHECK_FALSE(before.until);
    some.forget("ann"); // which it does not know yet
    some.remember("ann", 2, now + 1h, before.forgotten);
    auto const after = some.look("ann", 2, now);
    CHECK_FALSE(after.until);

    some.remember("ann", 2, now + 1h, after.forgotten);
    CHECK(some.look("ann", 2, now).until == now + 1h);
    CHECK_FALSE(some.look("ann", 1, now).until);
    CHECK_FALSE(some.look("bob", 2, now).until);
    CHECK_FALSE(some.look("ann", 2, now + 1h).until);
    some.forget("ann");
    CHECK_FALSE(some.look("ann", 2, now).until);

    known_refusals none(0);
    auto const nothing = none.look("ann", 2, now);
    none.remember("ann", 2, now + 1h, nothing.forgotten);
    CHECK_FALSE(none.look("ann", 2, now).until);
}
