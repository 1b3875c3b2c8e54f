// SPDX-License-Identifier: BSL-1.0
// Two put the same key: what the one put does not stay with it while the others have the other.
#include "tiered_cache/support.hpp"

#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/tiered_cache.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct overwritten_tag;
using clock_type = tidegate::testing::basic_manual_clock<overwritten_tag>;
using texts = tidegate::basic_tiered_cache<std::string, std::string, clock_type>;

struct fixture {
    asio::io_context io;
    asio::steady_timer gate{io, asio::steady_timer::time_point::max()};
    std::shared_ptr<test::watched_tier> tier = std::make_shared<test::watched_tier>();
    texts cache{io, tidegate::cache_options<std::string, std::string>().max_entries(10), tier};

    fixture() {
        tier->answer = [this]() -> asio::awaitable<void> {
            boost::system::error_code ec;
            co_await gate.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        };
    }

    std::string ask() { // nothing waits for the write
        std::string got = "nothing";
        auto load = []() -> asio::awaitable<std::string> { co_return "loaded"; };
        auto asking = [&]() -> asio::awaitable<void> {
            auto getting = cache.get_or_load("a", load);
            auto const value = co_await std::move(getting);
            got = *value;
        };
        asio::co_spawn(io, asking(), asio::detached);
        finish();
        return got;
    }
    void finish() {
        io.restart();
        io.poll();
    }
    void be_told(bool of_all) {
        auto const listener = tier->listener.lock();
        if (of_all) listener->on_all_changed();
        else listener->on_changed("a");
    }
    void open_gate() {
        tier->answer = nullptr;
        gate.cancel();
        finish();
    }
};

} // namespace

TEST_CASE_METHOD(fixture, "what was put is not kept once others changed it, before or after") {
    cache.put("a", "ours");
    finish();
    REQUIRE(tier->values.at("a").bytes == "ours");
    tier->values["a"] = {"theirs", 1h};
    be_told(GENERATE(false, true));
    CHECK(ask() == "loaded");
    CHECK(cache.second_level_statistics().overtaken == 1);
    open_gate();
    CHECK(tier->count('i') == 1);
    CHECK(tier->values.at("a").bytes == "loaded");
    cache.first_level().invalidate_all();
    CHECK(ask() == "loaded");
    CHECK(cache.second_level_statistics().owed_invalidations == 0);
}

TEST_CASE_METHOD(fixture, "what is put again while others change it comes after them") {
    cache.put("a", "ours");
    finish();
    cache.put("a", "ours again");
    tier->values["a"] = {"theirs", 1h};
    be_told(GENERATE(false, true));
    CHECK(ask() == "ours again");
    open_gate();
    CHECK(tier->values.at("a").bytes == "ours again");
    CHECK(tier->count('i') == 0);
}
