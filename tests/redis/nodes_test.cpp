// SPDX-License-Identifier: BSL-1.0
// Several processes' caches in front of one Redis.
#include "redis/tier_support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

namespace asio = boost::asio;
namespace redis = tidegate::redis;
using namespace std::chrono_literals;
using test::client;
using test::node;
using test::redis_server;
using texts_options = tidegate::cache_options<std::string, std::string>;
using steady = std::chrono::steady_clock;

TEST_CASE("What one node loaded, the others find") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    node a(l, server.config());
    node b(l, server.config());
    CHECK(a.ask("k") == "loaded k 1");
    l.run(a.cache.flush());
    CHECK(b.ask("k") == "loaded k 1");
    CHECK(b.loads == 0);
    CHECK(a.told->keys.empty()); // of its own writing
    CHECK(a.has("k"));
    auto const counted = b.cache.second_level_statistics();
    CHECK(counted.hits == 1);
}

TEST_CASE("What one node changes leaves the first level of the others") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    node a(l, server.config());
    node b(l, server.config());
    a.ask("k");
    l.run(a.cache.flush());
    b.ask("k");
    CHECK(a.has("k"));
    CHECK(b.has("k"));
    b.cache.put("k", "newer");
    l.run_until([&] { return !a.has("k"); });
    CHECK(a.ask("k") == "newer");
    CHECK(b.has("k"));
    CHECK(l.run(a.cache.invalidate("k")));
    l.run_until([&] { return !b.has("k"); });
    CHECK(b.ask("k") == "loaded k 1");
    l.run(b.cache.flush());
    CHECK(a.ask("k") == "loaded k 1");
    CHECK(a.loads == 1);
}

TEST_CASE("A key that is not in Redis leaves the first levels too") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    node a(c, server.config());
    node b(c, server.config());
    CHECK(a.ask("k") == "loaded k 1");
    c.run(a.cache.flush());
    c.run(test::ask(c.redis, {"UNLINK", "tidegate:cache:k"}));
    c.run_until([&] { return !a.has("k"); });
    CHECK(a.ask("k") == "loaded k 2");
    c.run(a.cache.flush());
    CHECK(a.has("k"));
    CHECK(c.run(b.cache.invalidate("k")));
    CHECK(c.run(b.cache.invalidate("k"))); // there is nothing to remove now
    c.run_until([&] { return !a.has("k"); });
    auto const told = a.told->keys.size();
    CHECK(c.run(b.cache.invalidate("never there")));
    c.run_until([&] { return a.told->keys.size() == told + 1; });
}

TEST_CASE("A slow load brings back nothing that another node invalidated or replaced") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    // Only Redis stands between the two: neither hears of the other in time.
    test::tier_client a(l, server.config());
    test::tier_client b(l, server.config());
    auto const load = [&](test::tier_client& from, std::string value) {
        std::vector<tidegate::tier_entry> entries;
        entries.push_back({"k", {std::move(value), 1h}, true});
        l.run(from.tier->put_many(std::move(entries)));
    };
    CHECK_FALSE(a.get("k"));
    b.invalidate("k");
    load(a, "old");
    CHECK_FALSE(b.get("k"));
    CHECK(a.tier->statistics().overtaken == 1);
    CHECK_FALSE(a.get("k")); // it sees that it was invalidated
    load(a, "fresh");
    CHECK(b.get("k")->bytes == "fresh");
    b.invalidate("k");
    CHECK_FALSE(a.get("k"));
    b.invalidate("k"); // again, after a asked
    load(a, "old");
    CHECK_FALSE(b.get("k"));
    b.put("k", "put");
    load(a, "old");
    CHECK(b.get("k")->bytes == "put");
    CHECK(a.tier->statistics().overtaken == 3);
    b.put("k", "brief", 2ms);
    l.run_until([&] { return !b.get("k"); });
    CHECK_FALSE(a.get("k"));
    load(a, "after it was over"); // although Redis keeps it for a while
    CHECK(b.get("k")->bytes == "after it was over");
}

TEST_CASE("A slow load brings back nothing that was replaced, and then removed") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    test::tier_client a(c, server.config());
    test::tier_client b(c, server.config());
    auto const load = [&](std::string value) {
        std::vector<tidegate::tier_entry> entries;
        entries.push_back({"k", {std::move(value), 1h}, true});
        c.run(a.tier->put_many(std::move(entries)));
    };
    for (std::string const removal : {"FLUSHALL", "DEL"}) {
        auto const overtaken = a.tier->statistics().overtaken;
        CHECK_FALSE(a.get("k"));
        b.put("k", "newer");
        std::vector<std::string> words{removal};
        if (removal == "DEL") words.emplace_back("tidegate:cache:k");
        c.run(test::ask(c.redis, words));
        load("older"); // nothing is there, as when it began
        CHECK_FALSE(b.get("k"));
        CHECK(a.tier->statistics().overtaken == overtaken + 1);
        CHECK_FALSE(a.get("k"));
        load("fresh");
        CHECK(b.get("k")->bytes == "fresh");
        b.invalidate("k");
    }
}

TEST_CASE("Many loads at once are all written") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    auto config = server.config();
    config.health_check_interval = 0s; // a busy machine may take longer for so many
    test::tier_client a(l, config);
    std::vector<std::string> keys;
    std::vector<tidegate::tier_entry> entries;
    for (int i = 0; i < 20'000; ++i) {
        keys.push_back(std::to_string(i));
        entries.push_back({keys.back(), {"loaded", 1h}, true});
    }
    l.run(a.tier->get_many(keys));
    l.run(a.tier->put_many(std::move(entries)));
    CHECK(a.tier->statistics().overtaken == 0);
}

TEST_CASE("A value that is over is loaded once, and kept") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    node a(l, server.config());
    node b(l, server.config());
    a.cache.put("k", "brief", 10ms);
    l.run(a.cache.flush());
    l.run_until([&] { return !a.get("k"); });
    CHECK(b.ask("k") == "loaded k 1");
    CHECK(b.has("k"));
    l.run(b.cache.flush());
    CHECK(b.ask("k") == "loaded k 1");
    CHECK(b.has("k"));
    CHECK(b.loads == 1);
    CHECK(a.get("k")->bytes == "loaded k 1");
}

TEST_CASE("What another node changes during a load is fenced off") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    node a(l, server.config());
    node b(l, server.config());
    bool go_on = false, done = false;
    std::string answer;
    auto const slow = [&](std::string const&) -> asio::awaitable<std::string> {
        while (!go_on) {
            auto waiting = tidegate::sleep_for(1ms);
            co_await std::move(waiting);
        }
        co_return "from before";
    };
    auto const asking = [&]() -> asio::awaitable<void> {
        auto loading = a.cache.get_or_load("k", slow);
        answer = *co_await std::move(loading);
        done = true;
    };
    asio::co_spawn(l.io, asking(), asio::detached);
    l.run_until([&] { return a.cache.second_level_statistics().misses == 1; });
    b.cache.put("k", "newer");
    l.run_until([&] { return !a.told->keys.empty(); });
    go_on = true;
    l.run_until([&] { return done; });
    CHECK(answer == "from before"); // as for `invalidate`: it asked before
    CHECK_FALSE(a.has("k"));
    l.run(a.cache.flush());
    CHECK(a.cache.second_level_statistics().overtaken == 1);
    CHECK(a.ask("k") == "newer");
}

TEST_CASE("Keys of other types have names that lead back to them") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    test::tier_client a(l, server.config());
    test::tier_client b(l, server.config());
    using numbers = tidegate::tiered_cache<int, std::string>;
    using number_options = tidegate::cache_options<int, std::string>;
    using tiered_options = tidegate::tiered_cache_options<int, std::string>;
    auto const hex = [](int const& key) { return "#" + std::to_string(key); };
    auto const back = [](std::string_view name) -> std::optional<int> {
        int key = 0;
        if (!name.starts_with('#')) return std::nullopt;
        std::from_chars(name.data() + 1, name.data() + name.size(), key);
        return key;
    };
    auto const first_level = number_options().max_entries(10);
    numbers plain(l.io, first_level, a.tier, tiered_options().prefix("p:"));
    numbers named(l.io, first_level, a.tier, tiered_options().prefix("n:").name_key(hex));
    numbers both(l.io, first_level, a.tier,
                 tiered_options().prefix("b:").name_key(hex).key_of_name(back));
    for (auto* each : {&plain, &named, &both}) {
        for (int key : {-1, 2, 3}) each->put(key, "x");
        l.run(each->flush());
    }
    for (std::string const name : {"p:-1", "p:no number", "n:#2", "b:#3", "b:nonsense", "other"})
        b.put(name, "new");
    l.run_until([&] { return a.told->keys.size() == 6; });
    auto const there = [](numbers& of) {
        std::vector<int> keys;
        for (int key : {-1, 2, 3}) {
            if (of.get_if_present(key)) keys.push_back(key);
        }
        return keys;
    };
    CHECK(there(plain) == std::vector<int>{2, 3});
    CHECK(there(named).empty()); // it cannot tell which
    CHECK(there(both) == std::vector<int>{-1, 2});
}

TEST_CASE("A first level is emptied when the connection is lost, and again when it is back") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    node a(l, server.config());
    CHECK(a.ask("k") == "loaded k 1");
    l.run(a.cache.flush());
    CHECK(a.has("k"));
    server.kill();
    a.await_loss();
    CHECK_FALSE(a.has("k"));
    CHECK(a.ask("k") == "loaded k 2"); // and no error
    CHECK(a.has("k"));
    server.start();
    a.await_connection();
    CHECK_FALSE(a.has("k")); // others may have changed it meanwhile
    CHECK(a.ask("k") == "loaded k 3");
}

TEST_CASE("Without Redis, from beginning to end, a cache works as if it was alone") {
    NEEDS_REDIS();
    redis_server server;
    server.kill();
    test::loop l;
    node a(l, server.config(), false);
    for (int i = 0; i < 20; ++i) {
        std::string const key = "k" + std::to_string(i);
        CHECK(a.ask(key) == "loaded " + key + ' ' + std::to_string(i + 1));
        CHECK(a.ask(key) == "loaded " + key + ' ' + std::to_string(i + 1));
        a.cache.put(key, "put");
        CHECK(a.ask(key) == "put");
    }
    CHECK(a.loads == 20);
    l.run(a.cache.flush());
    CHECK_FALSE(l.run(a.cache.invalidate("k1")));
    auto const counted = a.cache.second_level_statistics();
    CHECK(counted.hits == 0);
    CHECK(counted.written == 0);
    CHECK(counted.failed_reads > 0);
}

TEST_CASE("A Redis that hangs delays nobody for longer than the time limit") {
    NEEDS_REDIS();
    redis_server server;
    test::loop l;
    test::tier_client a(l, server.config());
    tidegate::tiered_cache<std::string, std::string> cache(
        l.io, texts_options().max_entries(100), a.tier,
        tidegate::tiered_cache_options<std::string, std::string>().time_limit(20ms));
    do { // a busy machine may not answer in time
        cache.put("there", "x");
        l.run(cache.flush());
    } while (cache.second_level_statistics().written == 0);
    server.freeze();
    auto const load = [](std::string const& key) -> asio::awaitable<std::string> {
        co_return "loaded " + key;
    };
    auto const begun = steady::now();
    for (int i = 0; i < 50; ++i) {
        std::string const key = "k" + std::to_string(i);
        CHECK(*l.run(cache.get_or_load(key, load)) == "loaded " + key);
        CHECK(*l.run(cache.get_or_load("there", load)) == "x");
    }
    auto const took = steady::now() - begun;
    CHECK(took >= 100ms); // five times, until the breaker opens
    CHECK(took < 10s);
    CHECK(cache.second_level_statistics().failed_reads == 50);
    server.thaw();
}
