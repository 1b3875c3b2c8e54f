// SPDX-License-Identifier: BSL-1.0
// Reservations that were granted when their limiter goes.
#include <tidegate/rate_limiter.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <optional>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct tag;
using test_clock = tidegate::testing::basic_manual_clock<tag>;
using limiter = tidegate::basic_rate_limiter<test_clock>;

} // namespace

TEST_CASE("a limiter may go between a reservation's grant and the coroutine that waited for it") {
    asio::io_context io;
    std::optional<limiter> first, second;
    first.emplace(io, tidegate::rate_limiter_options().rate(1, 1s).burst(5).start_empty(true));
    limiter::reservation reserved;
    bool went_on = false;
    auto work = [&]() -> asio::awaitable<void> {
        reserved = co_await first->reserve(5);
        went_on = true;
    };
    asio::co_spawn(io, work(), asio::detached);
    io.poll();
    first->refund(5); // granted, and not told yet
    REQUIRE(first->waiting() == 0);
    SECTION("it is moved") { second.emplace(std::move(*first)); }
    SECTION("it is destroyed") {}
    first.reset();
    io.restart();
    io.poll();
    REQUIRE(went_on);
    CHECK(reserved);
    reserved.refund();
    if (second) CHECK(second->available() == 5);
}
