// SPDX-License-Identifier: BSL-1.0
// What an adaptive limiter in a policy takes for overload, and whom it lets in.
#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <deque>

namespace test {

using tidegate::error;
using tidegate::error_code;
using tidegate::failure;
using tidegate::policy;

using adaptive = tidegate::basic_adaptive_limiter<policy_clock>;
using timeout = tidegate::basic_timeout<policy_clock>;

namespace {

auto ten() {
    auto const rule = tidegate::concurrency_limit_options().initial(10).algorithm(
        tidegate::limit_algorithm::aimd);
    return tidegate::adaptive_limiter_options().limit(rule).window_samples(10);
}

/// Enough calls for a window, one after the other.
template <class Policy, class Op>
void call_ten_times(asio::io_context& io, Policy const& guarded, Op op) {
    for (int i = 0; i < 10; ++i) {
        guarded_call<int> call;
        call.start(io, guarded, op);
        finish(io);
        REQUIRE(call.completions == 1);
    }
}

error_code const busy = asio::error::try_again;

struct is_busy {
    bool operator()(failure const& f) const { return f.code() == busy; }
    bool operator()(int status) const { return status == 503; }
};

asio::awaitable<int> too_busy() {
    throw boost::system::system_error(busy);
    co_return 0;
}

} // namespace

TEST_CASE("a service that says at once that it is overloaded lowers the limit, if asked for") {
    asio::io_context io;
    adaptive tide(ten());
    SECTION("not otherwise") {
        call_ten_times(io, policy{tide}, &too_busy);
        CHECK(tide.limit() == 10);
    }
    SECTION("by a failure") {
        call_ten_times(io, policy{drop_if(tide, is_busy{})}, &too_busy);
        CHECK(tide.limit() == 9);
    }
    SECTION("by a result") {
        auto unavailable = []() -> asio::awaitable<int> { co_return 503; };
        call_ten_times(io, policy{drop_if(tide, is_busy{})}, unavailable);
        CHECK(tide.limit() == 9);
    }
    SECTION("other failures show nothing") {
        auto fails = []() -> asio::awaitable<int> {
            throw boost::system::system_error(asio::error::connection_refused);
            co_return 0;
        };
        call_ten_times(io, policy{drop_if(tide, is_busy{})}, fails);
        CHECK(tide.limit() == 10);
        CHECK(tide.statistics().windows == 0);
    }
    SECTION("a deadline is overload only to who does not ask") {
        auto slow = []() -> asio::awaitable<int> {
            co_await test::idle(1h);
            co_return 0;
        };
        call_ten_times(io, policy{timeout{1ms}, drop_if(tide, is_busy{})}, slow);
        CHECK(tide.limit() == 10);
        call_ten_times(io, policy{timeout{1ms}, tide}, slow);
        CHECK(tide.limit() == 9);
    }
}

TEST_CASE("calls through one limiter may have different priorities") {
    asio::io_context io;
    adaptive tide(ten());
    auto const never = [](failure const&) { return false; };
    policy const usual{tide};
    policy const first{drop_if(tide, never, tidegate::priority::high)};
    policy const last{drop_if(tide, never, tidegate::priority::low)};
    auto slow = []() -> asio::awaitable<int> {
        co_await test::idle(1ms);
        co_return 1;
    };
    std::deque<guarded_call<int>> calls(13);
    for (std::size_t i = 0; i < 9; ++i) calls[i].start(io, last, slow); // 8 are let in
    calls[9].start(io, usual, slow);
    calls[10].start(io, usual, slow);
    calls[11].start(io, first, slow);
    calls[12].start(io, first, slow);
    finish(io);
    for (std::size_t const refused : {8u, 10u, 12u}) {
        CHECK(calls[refused].failed_with(error::overloaded));
    }
    for (std::size_t const let_in : {7u, 9u, 11u}) CHECK(calls[let_in].value == 1);
    CHECK(tide.in_flight() == 0);
}

} // namespace test
