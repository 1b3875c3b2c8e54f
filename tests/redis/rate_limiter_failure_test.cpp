// SPDX-License-Identifier: BSL-1.0
// A limiter whose Redis is away, hangs, or is not waited for.
#include "redis/support.hpp"

#include <tidegate/redis/rate_limiter.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/detached.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <thread>

namespace asio = boost::asio;
namespace redis = tidegate::redis;
using namespace std::chrono_literals;
using limits = redis::rate_limiter_options;
using redis::when_redis_fails;
using test::client;
using test::redis_server;
using steady = std::chrono::steady_clock;

namespace {

tidegate::circuit_breaker_options quick_breaker() {
    return tidegate::circuit_breaker_options()
        .consecutive_failures(3)
        .open_duration(20ms)
        .permitted_probes(1)
        .jitter(0);
}

asio::awaitable<int> grants(redis::rate_limiter& limiter, std::string key, int asks) {
    int granted = 0;
    for (int i = 0; i < asks; ++i) {
        auto asking = limiter.try_acquire(key);
        if (co_await std::move(asking)) ++granted;
    }
    co_return granted;
}

// Until it was Redis that decided.
asio::awaitable<void> until_redis_decides(redis::rate_limiter& limiter) {
    for (;;) {
        auto const before = limiter.statistics().without_redis;
        auto asking = limiter.try_acquire("probe");
        static_cast<void>(co_await std::move(asking));
        if (limiter.statistics().without_redis == before) co_return;
        auto waiting = tidegate::sleep_for(2ms);
        co_await std::move(waiting);
    }
}

tidegate::error_code code_of(std::exception_ptr e) {
    try {
        if (e) std::rethrow_exception(e);
    } catch (boost::system::system_error const& thrown) {
        return thrown.code();
    }
    return {};
}

} // namespace

TEST_CASE("Without a Redis, the limiter does what it was told to") {
    NEEDS_REDIS();
    test::loop l;
    auto const connection = std::make_shared<boost::redis::connection>(l.io);
    redis::rate_limiter admits(connection,
                               limits().rate(4, 1h).on_failure(when_redis_fails::admit));
    redis::rate_limiter refuses(connection,
                                limits().rate(4, 1h).on_failure(when_redis_fails::refuse));
    redis::rate_limiter shares(connection, limits().rate(40, 1h).local_share(10));
    CHECK(shares.settings().local_share() == 10);
    CHECK(l.run(grants(admits, "x", 20)) == 20);
    CHECK(l.run(grants(refuses, "x", 20)) == 0);
    auto const refused = l.run(refuses.try_acquire("x"));
    CHECK(refused.error() == tidegate::error::rate_limited);
    CHECK(refused.retry_after() >= 100ms);
    CHECK(refused.retry_after() <= 1100ms);
    CHECK(l.run(grants(shares, "x", 20)) == 4);
    CHECK(l.run(grants(shares, "y", 20)) == 4);
    CHECK(l.run(shares.try_acquire("z", 30))); // all of its part
    CHECK_FALSE(l.run(shares.try_acquire("z")));
    CHECK(shares.statistics().without_redis == 42);
    CHECK(shares.statistics().failed_calls == 5);
    CHECK(shares.breaker().state() == tidegate::breaker_state::open);
    CHECK_FALSE(l.run(shares.refund("x")));
    CHECK(l.run(shares.available("x")) == 40);
    CHECK(l.run(shares.peek("x")));
    CHECK_FALSE(l.run(refuses.peek("x")));
}

TEST_CASE("What several limits took here goes back when one of them refuses") {
    NEEDS_REDIS();
    test::loop l;
    auto const connection = std::make_shared<boost::redis::connection>(l.io);
    redis::rate_limiter wide(connection, limits().rate(10, 1h).prefix("w"));
    redis::rate_limiter narrow(connection, limits().rate(2, 1h).prefix("n"));
    for (int i = 0; i < 6; ++i) {
        bool const granted =
            static_cast<bool>(l.run(redis::try_acquire_all({{wide, "x"}, {narrow, "x"}})));
        CHECK(granted == (i < 2));
    }
    CHECK(l.run(wide.try_acquire("x", 8)));
    CHECK_FALSE(l.run(wide.try_acquire("x")));
}

TEST_CASE("Without a Redis, keys that come when there is no room share a bucket") {
    test::loop l;
    auto const connection = std::make_shared<boost::redis::connection>(l.io);
    redis::rate_limiter limiter(connection, limits().rate(40, 1h).local_share(10));
    std::chrono::nanoseconds longest{0};
    auto ask_for_many_keys = [&]() -> asio::awaitable<void> {
        for (int i = 0; i < 110'000; ++i) {
            auto asking = limiter.try_acquire(std::to_string(i));
            auto const answer = co_await std::move(asking);
            if (!answer) longest = std::max(longest, answer.retry_after());
        }
    };
    l.run(ask_for_many_keys());
    auto const all = limiter.statistics();
    CHECK(all.granted > 100'000);
    CHECK(all.refused > 0);
    CHECK(all.without_redis == 110'000);
    CHECK(longest <= 15min); // until this process may grant one more
}

TEST_CASE("A Redis that hangs is waited for no longer than the time limit") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits()
                                             .rate(100, 1h)
                                             .time_limit(30ms)
                                             .breaker(quick_breaker())
                                             .on_failure(when_redis_fails::refuse));
    c.run(until_redis_decides(limiter));
    auto const before = limiter.statistics();
    server.freeze();
    auto const begun = steady::now();
    for (int i = 0; i < 3; ++i) CHECK_FALSE(c.run(limiter.try_acquire("x")));
    auto const took = steady::now() - begun;
    CHECK(took >= 90ms);
    CHECK(took < 10s);
    CHECK(limiter.statistics().failed_calls == before.failed_calls + 3);
    CHECK(limiter.breaker().state() == tidegate::breaker_state::open);
    CHECK_FALSE(c.run(limiter.try_acquire("x"))); // without a call
    CHECK(limiter.statistics().without_redis == before.without_redis + 4);
    server.thaw();
    c.run(until_redis_decides(limiter));
    CHECK(limiter.breaker().state() == tidegate::breaker_state::closed);
    while (!c.run(limiter.try_acquire("x"))) { // a busy machine may not answer in time
    }
    CHECK(c.run(limiter.available("x")) >= 90); // those that came too late took theirs
}

TEST_CASE("A Redis that was killed and started again decides again") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis,
                                limits().rate(5, 1h).time_limit(1s).breaker(quick_breaker()));
    CHECK(c.run(grants(limiter, "x", 20)) == 5);
    for (int round = 0; round < 3; ++round) {
        server.kill();
        CHECK(c.run(grants(limiter, "y" + std::to_string(round), 20)) == 5); // decided here
        CHECK(limiter.breaker().state() != tidegate::breaker_state::closed);
        server.start();
        c.run(until_redis_decides(limiter));
        CHECK(limiter.breaker().state() == tidegate::breaker_state::closed);
        CHECK(c.run(grants(limiter, "z" + std::to_string(round), 20)) == 5);
    }
}

TEST_CASE("A key that holds something else is a failure, and reaches no caller") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(
        c.redis, limits().rate(5, 1h).prefix("p:").on_failure(when_redis_fails::admit));
    c.run(test::ask(c.redis, {"SET", "p:text", "not a time"}));
    c.run(test::ask(c.redis, {"LPUSH", "p:list", "1"}));
    CHECK(c.run(grants(limiter, "text", 2)) == 2);
    CHECK(c.run(grants(limiter, "list", 2)) == 2);
    CHECK(limiter.statistics().failed_calls == 4);
}

TEST_CASE("A patient caller gets its permit when it was told to") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(100, 1s).burst(1).time_limit(10s));
    auto const begun = steady::now();
    for (int i = 0; i < 5; ++i) c.run(limiter.acquire("x"));
    CHECK(steady::now() - begun >= 39ms);
    CHECK(limiter.statistics().granted == 5);
}

TEST_CASE("What cannot be had in time is refused at once") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(1, 1h));
    redis::rate_limiter hurried(c.redis, limits().rate(1, 1h).max_wait(10s));
    c.run(limiter.acquire("x"));
    auto const refused = [&](asio::awaitable<void> asking) {
        try {
            c.run(std::move(asking));
        } catch (boost::system::system_error const& e) {
            return e.code() == tidegate::error::rate_limited;
        }
        return false;
    };
    auto const begun = steady::now();
    CHECK(refused(limiter.acquire_for(10s, "x")));
    CHECK(refused(limiter.acquire_until(steady::now() + 10s, "x")));
    CHECK(refused(limiter.acquire_for(0s, "x")));
    CHECK(refused(hurried.acquire("x")));
    CHECK(steady::now() - begun < 9s);
    c.run(limiter.acquire_for(0s, "y"));
}

TEST_CASE("Waiting is cancelled at once, and so is a call that hangs") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    redis::rate_limiter limiter(c.redis, limits().rate(1, 1h).time_limit(1h).known_refusals(0));
    CHECK(c.run(limiter.try_acquire("x")));
    for (auto const type : {asio::cancellation_type::terminal, asio::cancellation_type::total}) {
        for (bool const hangs : {false, true}) {
            if (hangs) server.freeze();
            asio::cancellation_signal signal;
            bool done = false;
            std::exception_ptr thrown;
            auto const asking = [](redis::rate_limiter& l) -> asio::awaitable<void> {
                co_await asio::this_coro::reset_cancellation_state(
                    asio::enable_total_cancellation());
                auto acquiring = l.acquire("x");
                co_await std::move(acquiring);
            };
            auto const asked = limiter.statistics().refused;
            asio::co_spawn(c.io, asking(limiter),
                           asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                               thrown = e;
                               done = true;
                           }));
            if (hangs) c.io.poll();
            else c.run_until([&] { return limiter.statistics().refused > asked; });
            CHECK_FALSE(done);
            signal.emit(type);
            c.run_until([&] { return done; });
            CHECK(code_of(thrown) == asio::error::operation_aborted);
            if (hangs) server.thaw();
            CHECK(limiter.statistics().failed_calls == 0);
        }
    }
    CHECK(c.run(limiter.try_acquire("y"))); // the connection lives
}

TEST_CASE("An event loop may end with calls out") {
    NEEDS_REDIS();
    redis_server server;
    for (bool const frozen : {false, true}) {
        test::loop l;
        auto connection = std::make_shared<boost::redis::connection>(l.io);
        asio::co_spawn(l.io, redis::keep_connected(connection, server.config()), asio::detached);
        l.run(test::await_redis(connection));
        auto limiter =
            std::make_unique<redis::rate_limiter>(connection, limits().rate(1, 1h).burst(100));
        auto const asking = [](redis::rate_limiter& to, std::string key) -> asio::awaitable<void> {
            auto acquiring = to.acquire(key, 60);
            co_await std::move(acquiring);
        };
        if (frozen) server.freeze();
        for (int i = 0; i < 20; ++i)
            asio::co_spawn(l.io, asking(*limiter, std::to_string(i % 7)), asio::detached);
        for (int i = 0; i < 40; ++i) l.io.poll_one();
        limiter.reset();
        connection.reset();
        if (frozen) server.thaw();
    }
}

TEST_CASE("Many threads share a limiter whose connection has a strand", "[stress]") {
    NEEDS_REDIS();
    redis_server server;
    asio::io_context io;
    auto const connection = std::make_shared<boost::redis::connection>(
        asio::any_io_executor(asio::make_strand(io.get_executor())));
    asio::cancellation_signal stop;
    asio::co_spawn(connection->get_executor(),
                   redis::keep_connected(connection, server.config(), 5ms),
                   asio::bind_cancellation_slot(stop.slot(), asio::detached));
    redis::rate_limiter limiter(connection, limits().rate(1000, 1h).time_limit(10s));
    std::atomic<int> granted{0};
    std::atomic<int> running{16};
    auto const asking = [](redis::rate_limiter& to, test::connection through,
                           std::atomic<int>& count) -> asio::awaitable<void> {
        auto connected = test::await_redis(through);
        co_await std::move(connected);
        for (int i = 0; i < 100; ++i) {
            auto trying = to.try_acquire(i % 2 ? "a" : "b");
            if (co_await std::move(trying)) ++count;
        }
    };
    for (int i = 0; i < 16; ++i) {
        asio::co_spawn(io, asking(limiter, connection, granted), [&](std::exception_ptr) {
            if (--running > 0) return;
            asio::post(connection->get_executor(),
                       [&] { stop.emit(asio::cancellation_type::terminal); });
        });
    }
    std::array<std::thread, 4> threads;
    for (auto& each : threads) each = std::thread([&] { io.run(); });
    for (auto& each : threads) each.join();
    CHECK(granted == 1600);
    CHECK(limiter.statistics().granted == 1600);
    CHECK(limiter.statistics().failed_calls == 0);
}
