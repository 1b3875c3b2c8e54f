// SPDX-License-Identifier: BSL-1.0
// A limiter against a real Redis that answers.
#include "redis/support.hpp"
#include "support/stress.hpp"

#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/redis/rate_limiter.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/detached.hpp>

#include <algorithm>
#include <string>

namespace asio = boost::asio;
namespace redis = tidegate::redis;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using test::client;
using test::redis_server;

namespace {

/// A busy machine answers within that.
redis::rate_limiter_options limits() { return redis::rate_limiter_options().time_limit(10s); }

asio::awaitable<int> take_until_refused(redis::rate_limiter& limiter, std::string key) {
    for (int granted = 0;; ++granted) {
        auto asking = limiter.try_acquire(key);
        auto const answer = co_await std::move(asking);
        if (!answer) co_return granted;
    }
}

std::chrono::microseconds time_of(client& c) {
    auto const said = c.run(test::ask(c.redis, {"TIME"}));
    return std::chrono::seconds(std::stoll(said.at(1).value)) +
           std::chrono::microseconds(std::stoll(said.at(2).value));
}

} // namespace

TEST_CASE("A burst is granted, then one is told when to come again") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(3, 1h));
    CHECK(c.run(take_until_refused(limiter, "ann")) == 3);
    CHECK(c.run(take_until_refused(limiter, "bob")) == 3);
    auto const answer = c.run(limiter.try_acquire("ann"));
    CHECK(answer.error() == tidegate::error::rate_limited);
    CHECK(answer.retry_after() <= 20min);
    CHECK(answer.retry_after() > 19min);
    auto const all = limiter.statistics();
    CHECK(all.granted == 6);
    CHECK(all.refused == 3);
    CHECK(all.refused_locally == 1);
    CHECK(all.failed_calls == 0);
}

TEST_CASE("Zero permits, and more than the burst, are never granted") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(10, 1s).burst(3));
    for (std::uint64_t const n : {std::uint64_t{0}, std::uint64_t{4}, ~std::uint64_t{0}}) {
        auto const answer = c.run(limiter.try_acquire("ann", n));
        CHECK(answer.error() == tidegate::error::invalid_count);
        CHECK(answer.retry_after() == std::chrono::nanoseconds::max());
        CHECK_THROWS(c.run(limiter.acquire("ann", n)));
    }
    CHECK(c.run(limiter.try_acquire("ann", 3)));
}

TEST_CASE("A refusal is remembered, and Redis is not asked again") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(4, 1h));
    CHECK(c.run(limiter.try_acquire("ann", 3)));
    CHECK_FALSE(c.run(limiter.try_acquire("ann", 2)));
    auto const before = c.calls_of("evalsha");
    for (std::uint64_t i = 0; i < 50; ++i)
        CHECK_FALSE(c.run(limiter.try_acquire("ann", 2 + i % 3)));
    CHECK(c.calls_of("evalsha") == before);
    CHECK(limiter.statistics().refused_locally == 50);
    CHECK(c.run(limiter.try_acquire("ann", 1))); // less than what was refused
    CHECK(c.run(limiter.try_acquire("bob", 2)));
    CHECK(c.run(limiter.refund("ann", 4))); // which forgets the refusal
    CHECK(c.run(limiter.try_acquire("ann", 4)));
}

TEST_CASE("Nothing is remembered when that was turned off") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(1, 1h).known_refusals(0));
    CHECK(c.run(limiter.try_acquire("ann")));
    for (int i = 0; i < 3; ++i) CHECK_FALSE(c.run(limiter.try_acquire("ann")));
    CHECK(limiter.statistics().refused_locally == 0);
    CHECK(limiter.statistics().refused == 3);
}

TEST_CASE("Looking takes nothing, and a refund gives back a burst at most") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(10, 1h));
    CHECK(c.run(limiter.available("ann")) == 10);
    CHECK(c.run(limiter.try_acquire("ann", 7)));
    CHECK(c.run(limiter.available("ann")) == 3);
    CHECK(c.run(limiter.peek("ann", 3)));
    CHECK(c.run(limiter.peek("ann", 4)).error() == tidegate::error::rate_limited);
    CHECK(c.run(limiter.available("ann")) == 3);
    CHECK(c.run(limiter.refund("ann", 2)));
    CHECK(c.run(limiter.available("ann")) == 5);
    CHECK(c.run(limiter.refund("ann", 10)));
    CHECK(c.run(limiter.refund("nobody", 10)));
    CHECK(c.run(limiter.available("ann")) == 10);
    CHECK(c.run(test::ask(c.redis, {"KEYS", "*"})).size() ==
          1); // an empty list: full, so forgotten
}

TEST_CASE("Several limits take together or not at all") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter second(c.redis, limits().rate(5, 1h).prefix("s:"));
    redis::rate_limiter day(c.redis, limits().rate(3, 24h).prefix("d:"));
    auto const both = [&](std::uint64_t n) {
        return c.run(redis::try_acquire_all({{second, "ann", n}, {day, "ann", n}}));
    };
    CHECK(both(2));
    auto const refused = both(2);
    CHECK(refused.error() == tidegate::error::rate_limited);
    CHECK(refused.retry_after() > 7h);
    CHECK(c.run(second.available("ann")) == 3);
    CHECK(c.run(day.available("ann")) == 1);
    CHECK(day.statistics().refused == 1);
    CHECK(c.run(second.try_acquire("ann", 2))); // only the slowest remembers
    CHECK_FALSE(both(2));
    CHECK(day.statistics().refused_locally == 1);
    CHECK(both(1));
    CHECK_THROWS_MATCHES(redis::try_acquire_all({}), std::invalid_argument,
                         MessageMatches(ContainsSubstring("needs a limiter")));
    CHECK_THROWS_MATCHES(redis::try_acquire_all({{day, "ann"}, {day, "ann"}}),
                         std::invalid_argument, MessageMatches(ContainsSubstring("different")));
    auto const other = std::make_shared<boost::redis::connection>(c.io);
    redis::rate_limiter elsewhere(other, limits().rate(1, 1s));
    CHECK_THROWS_MATCHES(redis::try_acquire_all({{day, "ann"}, {elsewhere, "ann"}}),
                         std::invalid_argument, MessageMatches(ContainsSubstring("connection")));
}

TEST_CASE("A Redis that forgot the script is sent it once") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(100, 1h));
    CHECK(c.run(limiter.try_acquire("ann")));
    CHECK(limiter.statistics().scripts_sent == 1);
    CHECK(c.run(limiter.try_acquire("ann")));
    CHECK(limiter.statistics().scripts_sent == 1);
    c.run(test::ask(c.redis, {"SCRIPT", "FLUSH"}));
    CHECK(c.run(limiter.try_acquire("ann")));
    CHECK(c.run(limiter.try_acquire("ann")));
    CHECK(limiter.statistics().scripts_sent == 2);
    CHECK(c.calls_of("eval") == 2);
    CHECK(c.run(limiter.available("ann")) == 96);
}

TEST_CASE("A key expires when its bucket is full, at slow rates and at fast ones") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter slow(c.redis, limits().rate(1, 24h).prefix("slow:"));
    CHECK(c.run(slow.try_acquire("x")));
    auto const wait = c.run(slow.try_acquire("x")).retry_after();
    CHECK(wait <= 24h);
    CHECK(wait > 24h - 1min);
    auto const left = std::stoll(c.run(test::ask(c.redis, {"PTTL", "slow:x"})).at(0).value);
    CHECK(left <= 86'400'001);
    CHECK(left > 86'300'000);

    redis::rate_limiter fast(c.redis, limits().rate(100'000, 1s).burst(1).prefix("fast:"));
    CHECK(c.run(fast.try_acquire("x")));
    CHECK(c.run(test::ask(c.redis, {"PTTL", "fast:x"})).at(0).value <= "2");
    c.run(fast.acquire("x"));
    CHECK(fast.statistics().failed_calls == 0);
}

TEST_CASE("However many ask, no more is granted than a burst and the rate", "[stress]") {
    NEEDS_REDIS();
    struct rate {
        std::uint64_t permits;
        std::chrono::nanoseconds per;
        std::uint64_t burst;
    };
    redis_server server;
    client c(server);
    for (rate const& r :
         {rate{1000, 1s, 50}, rate{100'000, 1s, 10}, rate{333'333, 1s, 1}, rate{7, 1s, 20}}) {
        std::vector<test::connection> connections;
        std::vector<redis::rate_limiter> limiters;
        std::string const name = std::to_string(r.permits);
        for (int i = 0; i < 4; ++i) {
            connections.push_back(std::make_shared<boost::redis::connection>(c.io));
            c.keep(connections.back(), server.config());
            c.run(test::await_redis(connections.back()));
            limiters.emplace_back(connections.back(),
                                  limits().rate(r.permits, r.per).burst(r.burst));
        }
        struct {
            std::uint64_t granted = 0;
            int running = 0;
        } all;
        auto const hammer = [](redis::rate_limiter& limiter, std::string key,
                               auto& counts) -> asio::awaitable<void> {
            ++counts.running;
            for (int i = 0; i < 100; ++i) {
                auto asking = limiter.try_acquire(key);
                if (co_await std::move(asking)) ++counts.granted;
            }
            --counts.running;
        };
        auto const begun = time_of(c);
        for (auto& limiter : limiters) {
            for (int i = 0; i < 4; ++i)
                asio::co_spawn(c.io, hammer(limiter, name, all), asio::detached);
        }
        c.io.poll();
        c.run_until([&] { return all.running == 0; });
        auto const took = time_of(c) - begun;
        double const most =
            static_cast<double>(r.burst) +
            static_cast<double>(r.permits) * (std::chrono::duration<double>(took) / r.per);
        INFO("rate " << r.permits << " took " << took.count() << " us");
        CHECK(static_cast<double>(all.granted) <= most);
        CHECK(all.granted >= r.burst);
        for (auto& limiter : limiters) CHECK(limiter.statistics().failed_calls == 0);
    }
}

TEST_CASE("Bad settings are refused by name, value and range") {
    auto const refuses = [](auto change, char const* what) {
        CHECK_THROWS_MATCHES(change(), std::invalid_argument,
                             MessageMatches(ContainsSubstring(what)));
    };
    asio::io_context io;
    auto const connection = std::make_shared<boost::redis::connection>(io);
    refuses([] { limits().rate(0, 1s); }, "rate_limiter permits a period is 0, allowed is 1 to");
    refuses([] { limits().rate(1, 0s); }, "rate_limiter period in ns is 0, allowed is 1 to");
    refuses([] { limits().burst(0); }, "rate_limiter burst is 0, allowed is 1 to");
    refuses([] { limits().max_wait(-1ns); }, "max_wait in ns is -1, allowed is 0 to");
    refuses([] { limits().time_limit(0ns); }, "redis::rate_limiter time_limit in ns is 0, allowed");
    refuses([] { limits().local_share(0); }, "local_share is 0, allowed is 1 to 1000000");
    refuses([] { limits().known_refusals(10'000'001); },
            "known_refusals is 10000001, allowed is 0");
    refuses([&] { redis::rate_limiter(connection, limits()); }, "permits a period is 0, allowed");
    refuses([&] { redis::rate_limiter(nullptr, limits().rate(1, 1s)); }, "needs a connection");
    refuses(
        [&] {
            redis::rate_limiter(connection, limits().rate(1, std::chrono::hours(24 * 365 * 101)));
        },
        "time to earn a burst in s is 3185136000");
    refuses([&] { auto const keeping = redis::keep_connected(connection, {}, 0ms); },
            "pause in ns is 0, allowed is");
}

TEST_CASE("A limiter reports itself") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(1, 1h));
    tidegate::metrics_registry registry;
    auto const registered = tidegate::register_metrics(registry, "api", limiter);
    CHECK(c.run(take_until_refused(limiter, "ann")) == 1);
    auto const text = tidegate::to_prometheus_text(registry.collect());
    CHECK_THAT(text,
               ContainsSubstring("tidegate_redis_rate_limiter_granted_total{name=\"api\"} 1"));
    CHECK_THAT(text,
               ContainsSubstring("tidegate_redis_rate_limiter_refused_total{name=\"api\"} 1"));
}
