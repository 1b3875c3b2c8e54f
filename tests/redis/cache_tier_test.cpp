// SPDX-License-Identifier: BSL-1.0
// Values in a real Redis, and being told of what others do to them.
#include "redis/tier_support.hpp"

#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>

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
using test::tier_client;

TEST_CASE("What is put into Redis is found, byte for byte") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client a(l, server.config());
    std::string bytes;
    for (int i = 0; i < 1000; ++i) bytes += static_cast<char>(i * 7);
    a.put("binary", bytes);
    a.put("empty", "");
    a.put(std::string("k\0\r\n", 4), "odd key");
    auto const found =
        l.run(a.tier->get_many({"nothing", "binary", "empty", std::string("k\0\r\n", 4)}));
    REQUIRE(found.size() == 4);
    CHECK_FALSE(found[0]);
    CHECK((found[1] && found[1]->bytes == bytes));
    CHECK((found[2] && found[2]->bytes.empty()));
    CHECK((found[3] && found[3]->bytes == "odd key"));
    a.invalidate("binary");
    CHECK_FALSE(a.get("binary"));
    CHECK(l.run(a.tier->get_many({})).empty());
    l.run(a.tier->put_many({}));
    l.run(a.tier->invalidate({}));
}

TEST_CASE("The time that is left of a value is Redis' own") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client a(l, server.config());
    a.put("hour", "x");
    a.put("ever", "x", tidegate::tier_value::for_ever);
    a.put("old", "x");
    a.put("old", "y", 999us); // less than can be kept: what was there goes
    a.put("short", "x", 20ms);
    auto const left = a.get("hour")->time_to_live;
    CHECK(left <= 1h);
    CHECK(left > 59min);
    CHECK(a.get("ever")->time_to_live == tidegate::tier_value::for_ever);
    CHECK_FALSE(a.get("old"));
    auto const brief = a.get("short");
    if (brief) CHECK(brief->time_to_live <= 20ms);
    auto const end = std::chrono::steady_clock::now() + 21ms;
    l.run_until([&] { return std::chrono::steady_clock::now() > end; });
    CHECK_FALSE(a.get("short"));
}

TEST_CASE("Values of a size that is not wanted are neither written nor read") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client small(l, server.config(), true, redis::cache_tier_options().max_value_bytes(10));
    tier_client large(l, server.config());
    small.put("k", "0123456789");
    CHECK(small.get("k"));
    small.put("k", "0123456789a");
    CHECK_FALSE(large.get("k")); // nor may the older one stay
    CHECK(small.tier->statistics().too_large == 1);
    large.put("k", std::string(100'000, 'x'));
    CHECK_FALSE(small.get("k"));
    CHECK(small.tier->statistics().too_large == 2);
    CHECK(large.get("k"));
}

TEST_CASE("After an invalidation small values are written, too") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client small(l, server.config(), true, redis::cache_tier_options().max_value_bytes(10));
    small.invalidate("k"); // which leaves more there than a value may have
    CHECK_FALSE(small.get("k"));
    std::vector<tidegate::tier_entry> loaded;
    loaded.push_back({"k", {"loaded", 1h}, true});
    l.run(small.tier->put_many(std::move(loaded)));
    CHECK((small.get("k") && small.get("k")->bytes == "loaded"));
    CHECK(small.tier->statistics().overtaken == 0);
    CHECK(small.tier->statistics().too_large == 0);
}

TEST_CASE("What is no value of ours is not there") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    tier_client a(c, server.config());
    a.put("good", "x");
    c.run(test::ask(c.redis, {"LPUSH", "tidegate:cache:list", "1"}));
    auto const found = c.run(a.tier->get_many({"list", "good"}));
    CHECK_FALSE(found[0]);
    CHECK(found[1]);
}

TEST_CASE("A Redis that refuses to write is a failure") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    tier_client a(c, server.config());
    c.run(test::ask(c.redis, {"CONFIG", "SET", "maxmemory", "1"}));
    CHECK_THROWS_MATCHES(a.put("k", "x"), boost::system::system_error,
                         MessageMatches(ContainsSubstring("OOM")));
    c.run(test::ask(c.redis, {"CONFIG", "SET", "maxmemory", "0"}));
    a.put("k", "x");
    CHECK(a.get("k"));
}

TEST_CASE("Everybody is told of a change, but whoever made it") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    tier_client a(c, server.config());
    tier_client b(c, server.config());
    tier_client stranger(c, server.config(), true, redis::cache_tier_options().prefix("x:"));
    a.put("one", "1");
    b.on.run_until([&] { return b.told->keys.size() == 1; });
    CHECK(b.told->keys == std::vector<std::string>{"one"});
    b.invalidate("one");
    a.on.run_until([&] { return a.told->keys.size() == 1; });
    c.run(test::ask(c.redis, {"SET", "tidegate:cache:two", "2"}));
    c.run_until([&] { return a.told->keys.size() == 2 && b.told->keys.size() == 2; });
    CHECK(a.told->keys == std::vector<std::string>{"one", "two"});
    CHECK(stranger.told->keys.empty());
    stranger.put("one", "1");
    a.put("last", "");
    c.run_until([&] { return b.told->keys.size() == 3; });
    CHECK(a.told->keys.size() == 2);
    CHECK(a.tier->statistics().changes == 2);
}

TEST_CASE("Many changes in one go are all told") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client a(l, server.config());
    tier_client b(l, server.config());
    std::vector<tidegate::tier_entry> entries;
    for (int i = 0; i < 5000; ++i)
        entries.push_back({"a key of some length " + std::to_string(i), {"x", 1h}});
    l.run(a.tier->put_many(entries));
    l.run_until([&] { return b.told->keys.size() == entries.size(); });
    auto const all = b.told->keys;
    CHECK(std::find(all.begin(), all.end(), entries[4999].key) != all.end());
    CHECK(b.tier->statistics().lost == 0);
}

TEST_CASE("When Redis is emptied, or the connection is lost, everything may have changed") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    tier_client a(c, server.config());
    CHECK(a.told->all == 1); // what was there before the connection
    c.run(test::ask(c.redis, {"FLUSHALL"}));
    c.run_until([&] { return a.told->all == 2; });
    c.run(test::ask(c.redis, {"CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES"}));
    a.await_loss();
    CHECK(a.told->all == 3);
    a.await_connection();
    CHECK(a.told->all == 4);
    server.kill();
    a.await_loss(2);
    CHECK(a.told->all == 5);
    CHECK_FALSE(a.tier->statistics().connected);
    CHECK_THROWS_AS(a.get("k"), boost::system::system_error);
    CHECK_THROWS_AS(a.put("k", "x"), boost::system::system_error);
    CHECK_THROWS_AS(a.invalidate("k"), boost::system::system_error);
    c.run_until([&] { return a.tier->statistics().failed_to_start > 3; });
    server.start();
    a.await_connection();
    CHECK(a.told->all == 6);
    a.put("k", "x");
    CHECK(a.get("k"));
}

TEST_CASE("A connection that cannot be told of changes is not used") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    c.run(test::ask(c.redis, {"ACL", "SETUSER", "default", "-client|tracking"}));
    tier_client a(c, server.config(), false);
    c.run_until([&] { return a.tier->statistics().failed_to_start >= 2; });
    CHECK_THROWS_AS(a.get("k"), boost::system::system_error);
    c.run(test::ask(c.redis, {"ACL", "SETUSER", "default", "+client|tracking"}));
    a.await_connection();
    a.put("k", "x");
    CHECK(a.get("k"));
}

TEST_CASE("A change that hung does not come after the next one") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    auto config = server.config();
    config.health_check_interval = 300ms; // a slow machine answers within that
    tier_client a(l, config);
    a.put("k", "old");
    for (int round = 0; round < 4; ++round) {
        auto const losses = a.tier->statistics().lost;
        server.freeze();
        CHECK_THROWS_AS(a.put("k", "late"), boost::system::system_error);
        a.await_loss(losses + 1);
        server.thaw();
        a.await_connection();
        a.put("k", "new");
        for (int i = 0; i < 20; ++i) CHECK(a.get("k")->bytes == "new");
    }
}

TEST_CASE("Reading is given up at once, and a change is waited for") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client a(l, server.config());
    for (bool const writes : {false, true}) {
        server.freeze();
        asio::cancellation_signal signal;
        bool done = false;
        auto const work = [](tier_client& of, bool changes) -> asio::awaitable<void> {
            auto reading = of.tier->get_many({"k"});
            auto changing = of.tier->invalidate({"k"});
            if (changes) co_await std::move(changing);
            else static_cast<void>(co_await std::move(reading));
        };
        asio::co_spawn(
            l.io, work(a, writes),
            asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { done = true; }));
        l.io.poll();
        signal.emit(asio::cancellation_type::terminal);
        l.io.restart();
        for (int i = 0; i < 10; ++i) l.io.poll();
        CHECK(done == !writes);
        server.thaw();
        l.run_until([&] { return done; });
        CHECK(a.tier->statistics().lost == 0);
    }
}

TEST_CASE("A second level may go with its event loop, whatever it is doing") {
    NEEDS_REDIS();
    redis_server server;
    for (int const when : {0, 1, 2}) {
        test::loop l;
        auto tier = std::make_shared<redis::cache_tier>(l.io, server.config());
        asio::co_spawn(l.io, tier->run(), asio::detached);
        if (when > 0) l.run_until([&] { return tier->statistics().connected; });
        if (when > 1) {
            auto const put = [](std::shared_ptr<redis::cache_tier> to) -> asio::awaitable<void> {
                std::vector<tidegate::tier_entry> entries;
                entries.push_back({"k", {"x", 1h}});
                auto putting = to->put_many(std::move(entries));
                co_await std::move(putting);
            };
            for (int i = 0; i < 5; ++i) asio::co_spawn(l.io, put(tier), asio::detached);
            l.io.poll();
        }
        tier.reset();
        if (when == 1) l.io.poll();
    }
}

TEST_CASE("Cancelled at any step of connecting, a connection ends") {
    NEEDS_REDIS();
    redis_server server;
    for (int steps = 0; steps < 120; ++steps) {
        client kept(server, false);
        tier_client told(kept, server.config(), false);
        for (int i = 0; i < steps % 40; ++i) kept.io.run_one_for(1ms);
    } // both are cancelled, and waited for
}

TEST_CASE("A second level that goes at any step of connecting again ends") {
    NEEDS_REDIS();
    redis_server server;
    for (int steps = 0; steps < 40; ++steps) {
        client admin(server);
        auto tier = std::make_shared<redis::cache_tier>(
            admin.io, server.config(), redis::cache_tier_options().reconnect_pause(1ms));
        bool over = false;
        asio::co_spawn(admin.io, tier->run(), [&](std::exception_ptr) { over = true; });
        admin.run_until([&] { return tier->statistics().connected; });
        admin.run(test::ask(admin.redis, {"CLIENT", "KILL", "SKIPME", "yes"}));
        admin.run_until([&] { return tier->statistics().lost == 1; });
        for (int i = 0; i < steps; ++i) admin.io.run_one_for(1ms);
        tier.reset();
        admin.run_until([&] { return over; });
    }
}

TEST_CASE("Settings of a second level that make no sense are refused") {
    auto const refuses = [](auto change, char const* what) {
        CHECK_THROWS_MATCHES(change(), std::invalid_argument,
                             MessageMatches(ContainsSubstring(what)));
    };
    refuses([] { redis::cache_tier_options().max_value_bytes(0); },
            "redis::cache_tier max_value_bytes is 0, allowed is 1 to");
    refuses([] { redis::cache_tier_options().longest_load(0ms); },
            "longest_load in ms is 0, allowed is 1 to 3600000");
    CHECK(redis::cache_tier_options().longest_load(20s).longest_load() == 20s);
    refuses([] { redis::cache_tier_options().reconnect_pause(0s); },
            "reconnect_pause in ns is 0, allowed is 1000000 to");
}

TEST_CASE("A second level reports itself") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    tier_client a(l, server.config());
    tidegate::metrics_registry registry;
    auto const registered = tidegate::register_metrics(registry, "shared", *a.tier);
    auto const text = tidegate::to_prometheus_text(registry.collect());
    CHECK_THAT(text, ContainsSubstring("tidegate_redis_cache_tier_connected{name=\"shared\"} 1"));
    CHECK_THAT(text,
               ContainsSubstring("tidegate_redis_cache_tier_flushes_total{name=\"shared\"} 1"));
}

TEST_CASE("A second level that goes while it waits to connect again ends at once") {
    boost::redis::config nowhere;
    nowhere.addr = {"127.0.0.1", "1"};
    test::loop l;
    auto tier = std::make_shared<redis::cache_tier>(
        l.io, nowhere, redis::cache_tier_options().reconnect_pause(1h));
    bool over = false;
    asio::co_spawn(l.io, tier->run(), [&](std::exception_ptr) { over = true; });
    l.run_until([&] { return tier->statistics().failed_to_start == 1; });
    tier.reset();
    l.io.restart();
    l.io.run(); // returns: nothing is left
    CHECK(over);
}
