// SPDX-License-Identifier: BSL-1.0
// A load that brings nothing to keep: what the second level has is not found again.
#include "tiered_cache/support.hpp"

#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::loaded;

namespace {

struct vanished_tag;
using clock_type = tidegate::testing::basic_manual_clock<vanished_tag>;
using texts = tidegate::basic_tiered_cache<std::string, std::string, clock_type>;
using keys = std::vector<std::string>;

struct fixture {
    asio::io_context io;
    std::shared_ptr<test::watched_tier> tier = std::make_shared<test::watched_tier>();
    texts cache{io,
                tidegate::cache_options<std::string, std::string>()
                    .max_entries(10)
                    .time_to_live(10min)
                    .stale_if_error(10min),
                tier};
    loaded<std::string> next = loaded<std::string>("old");
    std::function<void()> meanwhile;

    asio::awaitable<loaded<std::string>> load() {
        if (meanwhile) meanwhile();
        co_return next;
    }

    void ask(bool together) {
        if (together) {
            auto by = [this](keys const&) -> asio::awaitable<std::vector<loaded<std::string>>> {
                auto loading = load();
                auto one = co_await std::move(loading);
                co_return std::vector<loaded<std::string>>(1, one);
            };
            test::run(io, cache.get_or_load_all(keys{"a"}, by));
        } else {
            auto by = [this] { return load(); };
            test::run(io, cache.get_or_load("a", by));
        }
    }
};

} // namespace

TEST_CASE_METHOD(fixture, "what a load does not find any more is not found in the second level") {
    bool const together = GENERATE(false, true);
    ask(together);
    REQUIRE(tier->values.contains("a"));
    clock_type::advance(11min); // it is loaded anew
    next = GENERATE(loaded<std::string>::none(), loaded<std::string>("passing").do_not_store());

    SECTION("once the second level was told") {
        ask(together);
        CHECK_FALSE(tier->values.contains("a"));
    }
    SECTION("nor before") {
        tier->before = [](test::watched_tier::call const&) -> asio::awaitable<void> {
            throw std::runtime_error("no connection");
            co_return;
        };
        ask(together);
        tier->before = nullptr;
        CHECK(cache.second_level_statistics().owed_invalidations == 1);
        cache.first_level().invalidate_all();
        next = loaded<std::string>("new");
        ask(together);
        CHECK(*cache.get_if_present(std::string("a")) == "new");
        CHECK(tier->values.at("a").bytes == "new");
    }
    SECTION("but what was put meanwhile stays") {
        meanwhile = [this] { cache.put("a", "put"); };
        ask(together);
        CHECK(tier->values.at("a").bytes == "put");
        CHECK(cache.second_level_statistics().overtaken == 1);
    }
}

TEST_CASE_METHOD(fixture, "nothing is removed where nothing was") {
    next = loaded<std::string>::none();
    ask(GENERATE(false, true));
    CHECK(tier->count('i') == 0);
}
