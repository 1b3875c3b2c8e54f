// SPDX-License-Identifier: BSL-1.0
// Two levels: what is read where, what is written when, and that a sick second level hurts nobody.
#include "tiered_cache/support.hpp"

#include <tidegate/memory_cache_tier.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::watched_tier;
using tidegate::loaded;
using tidegate::outcome;

namespace {

struct tier_tag;
using clock_type = tidegate::testing::basic_manual_clock<tier_tag>;
using texts = tidegate::basic_tiered_cache<std::string, std::string, clock_type>;
using first_options = tidegate::cache_options<std::string, std::string>;
using options = tidegate::tiered_cache_options<std::string, std::string>;
using keys = std::vector<std::string>;

struct fixture {
    asio::io_context io;
    std::shared_ptr<watched_tier> tier = std::make_shared<watched_tier>();
    int loads = 0;
    std::vector<keys> bulk_loads;
    std::optional<std::string> text = "loaded";

    asio::awaitable<std::optional<std::string>> load_one() {
        ++loads;
        co_return text;
    }
    asio::awaitable<std::vector<std::string>> load_many(keys wanted) {
        bulk_loads.push_back(wanted);
        for (auto& one : wanted) one += "!";
        co_return wanted;
    }

    std::string get(texts& cache, std::string key) {
        auto load = [this] { return load_one(); };
        auto const value = test::run(io, cache.get_or_load(key, load));
        return value ? *value : "none";
    }
    void finish() {
        io.restart();
        io.poll();
    }
};

first_options small() { return first_options().max_entries(10); }

} // namespace

TEST_CASE_METHOD(fixture, "what the first level lost comes from the second, not from the loader") {
    texts cache(io, small(), tier);
    CHECK(get(cache, "a") == "loaded");
    CHECK(tier->values.at("a").bytes == "loaded");
    CHECK(tier->values.at("a").time_to_live == 1h);
    cache.first_level().invalidate_all();
    CHECK(get(cache, "a") == "loaded");
    CHECK(get(cache, "a") == "loaded");
    CHECK(loads == 1);
    CHECK(tier->count('g') == 2);
    CHECK(tier->count('p') == 1);
    auto const counted = cache.second_level_statistics();
    CHECK(counted.hits == 1);
    CHECK(counted.misses == 1);
    CHECK(counted.written == 1);
}

TEST_CASE_METHOD(fixture, "the first level keeps a value no longer than the second would") {
    texts cache(io, small().time_to_live(10min), tier);
    tier->values["short"] = {"s", 1min};
    tier->values["long"] = {"l", 1h};
    tier->values["ever"] = {"e", tidegate::tier_value::for_ever};
    for (auto const key : {"short", "long", "ever"}) get(cache, key);
    clock_type::advance(1min);
    CHECK_FALSE(cache.first_level().contains(std::string("short")));
    CHECK(cache.first_level().contains(std::string("long")));
    clock_type::advance(9min);
    CHECK_FALSE(cache.first_level().contains(std::string("long")));
    CHECK_FALSE(cache.first_level().contains(std::string("ever")));
    CHECK(loads == 0);
}

TEST_CASE_METHOD(fixture, "what is not to be stored, or is nothing, is not written") {
    texts cache(io, small().negative_time_to_live(1min), tier);
    auto not_kept = []() -> asio::awaitable<loaded<std::string>> {
        co_return loaded<std::string>("x").do_not_store();
    };
    test::run(io, cache.get_or_load("a", not_kept));
    text = std::nullopt;
    CHECK(get(cache, "b") == "none");
    CHECK(get(cache, "b") == "none");
    CHECK(loads == 1);
    auto brief = []() -> asio::awaitable<loaded<std::string>> {
        co_return loaded<std::string>("x").time_to_live(5s);
    };
    test::run(io, cache.get_or_load("c", brief));
    CHECK(tier->values.size() == 1);
    CHECK(tier->values.at("c").time_to_live == 5s);
}

TEST_CASE_METHOD(fixture, "refreshing goes to the loader, and writes what it gave") {
    texts cache(io, small().time_to_live(10min).refresh_after(1min), tier);
    get(cache, "a");
    clock_type::advance(2min);
    text = "newer";
    CHECK(get(cache, "a") == "loaded");
    CHECK(get(cache, "a") == "newer");
    CHECK(loads == 2);
    CHECK(tier->count('g') == 1);
    CHECK(tier->values.at("a").bytes == "newer");
}

TEST_CASE_METHOD(fixture, "what is stale is loaded anew, though the second level still has it") {
    bool const meanwhile = GENERATE(true, false);
    auto const stale = meanwhile ? small().time_to_live(10min).stale_while_revalidate(10min)
                                 : small().time_to_live(10min).stale_if_error(10min);
    texts cache(io, stale, tier);
    get(cache, "a");
    clock_type::advance(11min);
    text = "newer";
    CHECK(get(cache, "a") == (meanwhile ? "loaded" : "newer"));
    CHECK(get(cache, "a") == "newer");
    CHECK(loads == 2);
    CHECK(tier->count('g') == 1);
    CHECK(tier->values.at("a").bytes == "newer");
    clock_type::advance(20min); // of no use any more: as if it were not there
    text = "newest";
    CHECK(get(cache, "a") == "newer");
    CHECK(loads == 2);
    CHECK(tier->count('g') == 2);
}

TEST_CASE_METHOD(fixture,
                 "several keys that are stale are loaded anew, those that are missing read") {
    texts cache(io, small().time_to_live(10min).stale_if_error(10min), tier);
    for (auto const key : {"old", "gone"}) get(cache, key);
    clock_type::advance(11min);
    cache.first_level().invalidate(std::string("gone"));
    auto load = [this](keys const& wanted) { return load_many(wanted); };
    keys const wanted{"old", "gone"};
    auto const got = test::run(io, cache.get_or_load_all(wanted, load));
    CHECK(*got[0] == "old!");
    CHECK(*got[1] == "loaded");
    CHECK(bulk_loads == std::vector<keys>{{"old"}});
    CHECK(tier->values.at("old").bytes == "old!");
}

TEST_CASE_METHOD(fixture, "what cannot be loaded anew stays stale, and is not made fresh") {
    texts cache(io, small().time_to_live(10min).stale_if_error(10min, 1min), tier);
    get(cache, "a");
    clock_type::advance(11min);
    auto fails = []() -> asio::awaitable<std::string> {
        throw std::domain_error("loader");
        co_return "";
    };
    CHECK(*test::run(io, cache.get_or_load("a", fails)) == "loaded");
    clock_type::advance(2min); // the next attempt
    CHECK(*test::run(io, cache.get_or_load("a", fails)) == "loaded");
    CHECK(cache.statistics().load_failures == 2);
    CHECK(tier->count('g') == 1);
    CHECK(tier->values.at("a").bytes == "loaded");
}

TEST_CASE_METHOD(fixture, "several keys: one question to each, for exactly what is missing") {
    texts cache(io, small(), tier);
    cache.first_level().put("one", "1");
    tier->values["two"] = {"2", 1h};
    auto load = [this](keys const& wanted) { return load_many(wanted); };
    keys const wanted{"three", "one", "two", "four", "three"};
    auto const got = test::run(io, cache.get_or_load_all(wanted, load));
    REQUIRE(got.size() == 5);
    CHECK(*got[0] == "three!");
    CHECK(*got[1] == "1");
    CHECK(*got[2] == "2");
    CHECK(*got[3] == "four!");
    CHECK(*got[4] == "three!");
    REQUIRE(tier->calls.size() == 3);
    CHECK(tier->calls[0].keys == keys{"three", "two", "four"});
    CHECK(bulk_loads == std::vector<keys>{{"three", "four"}});
    CHECK(tier->calls[1].keys.size() + tier->calls[2].keys.size() == 2);
    CHECK(tier->values.size() == 3);
}

TEST_CASE_METHOD(fixture, "a loader with another number of results fails its keys") {
    texts cache(io, small(), tier);
    tier->values["two"] = {"2", 1h};
    auto load = [](keys const&) -> asio::awaitable<std::vector<outcome<std::string>>> {
        co_return std::vector<outcome<std::string>>(3);
    };
    keys const wanted{"one", "two"};
    auto const got = test::run(io, cache.try_get_or_load_all(wanted, load));
    REQUIRE_FALSE(got[0]);
    CHECK(got[0].why().code() == tidegate::error::result_count_mismatch);
    CHECK(tier->values.size() == 1);
}

TEST_CASE_METHOD(fixture, "a key that fails in a batch fails alone, and is not written") {
    texts cache(io, small(), tier);
    auto load = [](keys const& wanted) -> asio::awaitable<std::vector<outcome<std::string>>> {
        std::vector<outcome<std::string>> all(wanted.size());
        all[0].succeed("good");
        all[1].fail(tidegate::failure(std::make_exception_ptr(std::domain_error("bad"))));
        co_return all;
    };
    keys const wanted{"a", "b"};
    auto const got = test::run(io, cache.try_get_or_load_all(wanted, load));
    CHECK(*got[0].value() == "good");
    CHECK_THROWS_AS(got[1].why().rethrow(), std::domain_error);
    CHECK(tier->values.size() == 1);
}

TEST_CASE_METHOD(fixture,
                 "a second level that throws is not noticed by callers, and is let alone") {
    std::vector<std::string> told;
    texts cache(io, small(), tier, options().on_exception([&](std::exception_ptr e) {
        try {
            std::rethrow_exception(e);
        } catch (std::exception const& why) {
            told.push_back(why.what());
        }
    }));
    tier->before = [](watched_tier::call const&) -> asio::awaitable<void> {
        throw std::runtime_error("no connection");
        co_return;
    };
    for (int i = 0; i < 20; ++i) CHECK(get(cache, std::to_string(i)) == "loaded");
    CHECK(loads == 20);
    CHECK(tier->calls.size() == 5); // then the breaker opened
    CHECK(told == std::vector<std::string>(5, "no connection"));
    auto const counted = cache.second_level_statistics();
    CHECK(counted.failed_reads + counted.not_written == 40);
    CHECK(counted.misses == 20);

    SECTION("until it is well again") {
        tier->before = nullptr;
        clock_type::advance(10s);
        get(cache, "later");
        CHECK(tier->values.contains("later"));
    }
}

TEST_CASE_METHOD(fixture, "a second level that hangs costs its time limit, and no more") {
    texts cache(io, small(), tier, options().time_limit(50ms));
    asio::steady_timer never(io, asio::steady_timer::time_point::max());
    tier->before = [&](watched_tier::call const& one) -> asio::awaitable<void> {
        if (one.what != 'g') co_return;
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await never.async_wait(asio::use_awaitable); // deaf
    };
    auto load = [this] { return load_one(); };
    std::string got;
    auto ask = [&]() -> asio::awaitable<void> {
        auto const value = co_await cache.get_or_load("a", load);
        got = *value;
    };
    asio::co_spawn(io, ask(), [](std::exception_ptr e) { CHECK_FALSE(e); });
    finish();
    CHECK(loads == 0);
    clock_type::advance(50ms);
    finish();
    CHECK(got == "loaded");
    CHECK(cache.second_level_statistics().failed_reads == 1);
    never.cancel();
    finish();
}

TEST_CASE_METHOD(fixture, "a wrong number of results is a failure of the second level") {
    texts cache(io, small(), tier);
    tier->values["a"] = {"x", 1h};
    tier->results_too_many = 1;
    CHECK(get(cache, "a") == "loaded");
    CHECK(cache.second_level_statistics().failed_reads == 1);
}

TEST_CASE_METHOD(fixture, "a codec that throws costs the second level, not the value") {
    tidegate::value_codec<std::string> broken{
        [](std::string const& v) -> std::string {
            if (v == "loaded") throw std::runtime_error("encode");
            return v;
        },
        [](std::string_view) -> std::string { throw std::runtime_error("decode"); }};
    texts cache(io, small(), tier, options().codec(broken));
    tier->values["a"] = {"x", 1h};
    CHECK(get(cache, "a") == "loaded");
    auto const counted = cache.second_level_statistics();
    CHECK(counted.undecodable == 1);
    CHECK(counted.not_written == 1);
    CHECK_THROWS_AS(cache.put("b", "loaded"), std::runtime_error);
    CHECK_FALSE(cache.get_if_present(std::string("b")));
}

TEST_CASE_METHOD(fixture,
                 "invalidate removes from both, and what was being loaded is not written") {
    texts cache(io, small(), tier);
    asio::steady_timer gate(io, asio::steady_timer::time_point::max());
    auto slow = [&]() -> asio::awaitable<std::string> {
        boost::system::error_code ec;
        co_await gate.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        co_return "old";
    };
    std::string got;
    auto ask = [&]() -> asio::awaitable<void> {
        auto const value = co_await cache.get_or_load("a", slow);
        got = *value;
    };
    asio::co_spawn(io, ask(), asio::detached);
    finish();
    bool told = false;
    auto forget = [&]() -> asio::awaitable<void> { told = co_await cache.invalidate("a"); };
    asio::co_spawn(io, forget(), asio::detached);
    finish();
    CHECK(told);
    gate.cancel();
    finish();
    CHECK(got == "old");
    CHECK(tier->values.empty());
    CHECK_FALSE(cache.get_if_present(std::string("a")));
    CHECK(cache.second_level_statistics().overtaken == 1);
}

TEST_CASE_METHOD(fixture,
                 "what was loaded before others changed it is not read while it is written") {
    texts cache(io, small(), tier);
    asio::steady_timer gate(io, asio::steady_timer::time_point::max());
    tier->before = [&](watched_tier::call const& call) -> asio::awaitable<void> {
        if (call.what != 'p') co_return;
        boost::system::error_code ec;
        co_await gate.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    };
    auto const asked = [&] { // nothing waits for the write
        std::optional<std::string> got;
        auto load = [this] { return load_one(); };
        auto ask = [&]() -> asio::awaitable<void> {
            auto getting = cache.get_or_load("a", load);
            got = *co_await std::move(getting);
        };
        asio::co_spawn(io, ask(), asio::detached);
        finish();
        return got;
    };
    CHECK(asked() == "loaded");
    tier->listener.lock()->on_changed("a");
    text = "loaded again";
    CHECK(asked() == text);
    tier->listener.lock()->on_all_changed();
    text = "loaded once more";
    CHECK(asked() == text);
    CHECK(loads == 3);
    CHECK(cache.second_level_statistics().overtaken == 2);
    cache.put("a", "put");
    tier->listener.lock()->on_changed("a"); // what was put here is newer
    CHECK(asked() == "put");
    CHECK(loads == 3);
    tier->before = nullptr;
    gate.cancel();
    finish();
    CHECK(tier->values.at("a").bytes == "put");
}

TEST_CASE_METHOD(fixture,
                 "what a refresh was to replace is not found again when its write is lost") {
    texts cache(io, small().time_to_live(10min).refresh_after(1min), tier);
    get(cache, "a");
    asio::steady_timer gate(io, asio::steady_timer::time_point::max());
    tier->before = [&](watched_tier::call const& call) -> asio::awaitable<void> {
        if (call.what != 'p') co_return;
        boost::system::error_code ec;
        co_await gate.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        throw std::runtime_error("connection lost");
    };
    clock_type::advance(2min);
    text = "newer";
    auto load = [this] { return load_one(); };
    auto ask = [&]() -> asio::awaitable<void> { co_await cache.get_or_load("a", load); };
    asio::co_spawn(io, ask(), asio::detached);
    finish();
    REQUIRE(cache.get_if_present(std::string("a")));
    CHECK(*cache.get_if_present(std::string("a")) == "newer");
    tier->listener.lock()->on_all_changed(); // the connection is lost
    gate.cancel();
    finish();
    tier->before = nullptr;
    text = "newest";
    CHECK(get(cache, "a") == "newest");
    CHECK(tier->count('i') == 1);
}

TEST_CASE_METHOD(fixture, "put during a load stays the last word in both levels") {
    texts cache(io, small(), tier);
    asio::steady_timer gate(io, asio::steady_timer::time_point::max());
    auto slow = [&]() -> asio::awaitable<std::string> {
        boost::system::error_code ec;
        co_await gate.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        co_return "old";
    };
    auto ask = [&]() -> asio::awaitable<void> { co_await cache.get_or_load("a", slow); };
    asio::co_spawn(io, ask(), asio::detached);
    finish();
    CHECK(cache.put("a", "new", 3s));
    gate.cancel();
    finish();
    CHECK(tier->values.at("a").bytes == "new");
    CHECK(tier->values.at("a").time_to_live == 3s);
    CHECK(get(cache, "a") == "new");
}

TEST_CASE_METHOD(fixture, "an invalidation that the second level did not hear of is kept for it") {
    texts cache(io, small(), tier);
    get(cache, "a");
    bool sick = true;
    tier->before = [&](watched_tier::call const&) -> asio::awaitable<void> {
        if (sick) throw std::runtime_error("no connection");
        co_return;
    };
    CHECK_FALSE(test::run(io, cache.invalidate("a")));
    CHECK(cache.second_level_statistics().owed_invalidations == 1);
    text = "newer";
    CHECK(get(cache, "a") == "newer"); // though the old one is still there
    CHECK(tier->values.at("a").bytes == "loaded");
    sick = false;
    get(cache, "b");
    CHECK(cache.second_level_statistics().owed_invalidations == 0);
    CHECK_FALSE(tier->values.contains("a"));
    CHECK(tier->values.contains("b"));
}

TEST_CASE_METHOD(
    fixture, "invalidations that are kept are bounded, too; those beyond are lost, and counted") {
    texts cache(io, small(), tier, options().max_pending(2));
    bool sick = true;
    tier->before = [&](watched_tier::call const&) -> asio::awaitable<void> {
        if (sick) throw std::runtime_error("no connection");
        co_return;
    };
    for (auto const* const key : {"a", "b", "c", "c"})
        CHECK_FALSE(test::run(io, cache.invalidate(key)));
    auto const counted = cache.second_level_statistics();
    CHECK(counted.owed_invalidations == 2);
    CHECK(counted.lost_invalidations == 1);
    sick = false;
    get(cache, "d");
    CHECK(cache.second_level_statistics().owed_invalidations == 0);
}

TEST_CASE_METHOD(fixture, "a cancelled invalidation reaches the second level all the same") {
    texts cache(io, small(), tier);
    get(cache, "a");
    asio::steady_timer gate(io, asio::steady_timer::time_point::max());
    tier->before = [&](watched_tier::call const& one) -> asio::awaitable<void> {
        if (one.what == 'i' && tier->count('i') == 1) co_await gate.async_wait(asio::deferred);
    };
    asio::cancellation_signal signal;
    std::exception_ptr failure;
    asio::co_spawn(io, cache.invalidate("a"),
                   asio::bind_cancellation_slot(signal.slot(),
                                                [&](std::exception_ptr e, bool) { failure = e; }));
    finish();
    CHECK_FALSE(cache.get_if_present(std::string("a")));
    signal.emit(asio::cancellation_type::all);
    finish();
    CHECK(failure);
    CHECK(tier->count('i') == 2);
    CHECK(tier->values.empty());
}

TEST_CASE_METHOD(fixture, "writes wait together, up to a bound, and closing drops them") {
    texts cache(io, small(), tier, options().max_pending(3));
    for (auto const key : {"a", "b", "c", "d", "a"}) cache.put(key, std::string("v") + key);
    CHECK(cache.second_level_statistics().pending_writes == 3);
    CHECK(cache.second_level_statistics().not_written == 1);
    SECTION("flushed") {
        test::run(io, cache.flush());
        CHECK(tier->count('p') == 1);
        CHECK(tier->values.size() == 3);
        CHECK(tier->values["c"].bytes == "vc");
        CHECK(cache.second_level_statistics().pending_writes == 0);
    }
    SECTION("flushed in vain") {
        tier->before = [](watched_tier::call const& one) -> asio::awaitable<void> {
            if (one.what == 'p') throw std::runtime_error("no room");
            co_return;
        };
        test::run(io, cache.flush());
        CHECK(tier->count('p') == 1); // once, and all of them are given up
        REQUIRE(tier->calls.back().what == 'i');
        std::ranges::sort(tier->calls.back().keys);
        CHECK(tier->calls.back().keys == keys{"a", "b", "c"});
        auto const counted = cache.second_level_statistics();
        CHECK(counted.not_written == 4);
        CHECK(counted.pending_writes + counted.owed_invalidations == 0);
    }
    SECTION("closed") {
        cache.close();
        finish();
        CHECK(tier->values.empty());
    }
    SECTION("read before it was written") {
        cache.first_level().invalidate_all();
        CHECK(get(cache, "b") == "vb");
        CHECK(loads == 0);
    }
}

TEST_CASE_METHOD(fixture, "names have a prefix, and settings that cannot be are refused") {
    texts cache(io, small(), tier, options().prefix("pages:"));
    get(cache, "a");
    CHECK(tier->values.contains("pages:a"));
    CHECK_THROWS_AS(texts(io, small(), nullptr), std::invalid_argument);
    auto none = [](std::vector<std::string> const&) -> asio::awaitable<std::vector<std::string>> {
        co_return std::vector<std::string>();
    };
    auto const together = small().time_to_live(2s).refresh_after(1s).refresh_together(2, 1s, none);
    CHECK_THROWS_AS(texts(io, together, tier), std::invalid_argument);
    CHECK_THROWS_AS(options().time_limit(0s), std::invalid_argument);
    CHECK_THROWS_AS(options().max_pending(0), std::invalid_argument);
    struct opaque {
        int n = 0;
        int big[8]{};
    };
    using odd = tidegate::tiered_cache<int, opaque>;
    CHECK_THROWS_AS(odd(io, tidegate::cache_options<int, opaque>().max_entries(1), tier),
                    std::invalid_argument);
}

TEST_CASE_METHOD(fixture, "destroyed while it reads, writes and is waited for") {
    asio::steady_timer gate(io, asio::steady_timer::time_point::max());
    tier->before = [&](watched_tier::call const&) -> asio::awaitable<void> {
        co_await gate.async_wait(asio::use_awaitable);
    };
    auto cache = std::make_unique<texts>(io, small(), tier);
    auto load = [this] { return load_one(); };
    std::exception_ptr failure;
    auto ask = [&]() -> asio::awaitable<void> { co_await cache->get_or_load("a", load); };
    asio::co_spawn(io, ask(), [&](std::exception_ptr e) { failure = e; });
    cache->put("b", "b");
    finish();
    cache.reset();
    finish();
    CHECK(failure);
    SECTION("and the context goes on") {
        gate.cancel();
        finish();
    }
    SECTION("and the context goes as well") {}
}

TEST_CASE("the memory tier keeps bytes within bounds and time") {
    asio::io_context io;
    tidegate::basic_memory_cache_tier<clock_type> tier(io, 100);
    std::vector<tidegate::tier_entry> entries{{"a", {"1", 1min}},
                                              {"b", {"2", tidegate::tier_value::for_ever}},
                                              {"big", {std::string(200, 'x'), 1min}}};
    test::run(io, tier.put_many(entries));
    clock_type::advance(30s);
    auto got = test::run(io, tier.get_many({"b", "a", "big", "no"}));
    CHECK(got[0]->time_to_live == tidegate::tier_value::for_ever);
    CHECK(got[1]->bytes == "1");
    CHECK(got[1]->time_to_live == 30s);
    CHECK_FALSE(got[2]);
    CHECK_FALSE(got[3]);
    clock_type::advance(30s);
    test::run(io, tier.invalidate({"b"}));
    got = test::run(io, tier.get_many({"a", "b"}));
    CHECK_FALSE(got[0]);
    CHECK_FALSE(got[1]);
}
