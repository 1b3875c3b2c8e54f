// SPDX-License-Identifier: BSL-1.0
// What a breaker in a policy hears of calls, and what it says to the layers inside it.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/chaos.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <chrono>
#include <optional>

namespace test {

using tidegate::error_code;
using tidegate::failure;
using tidegate::hedge_options;
using tidegate::policy;

using hedge = tidegate::basic_hedge<policy_clock>;
using limiter = tidegate::basic_rate_limiter<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;
using chaos = tidegate::testing::basic_chaos<policy_clock>;

namespace {

auto lasts(policy_clock::duration time) {
    return [time]() -> asio::awaitable<int> {
        co_await test::idle(time);
        co_return 1;
    };
}

tidegate::circuit_breaker_options impatient() {
    return tidegate::circuit_breaker_options().slow_call_rate(50, 200ms).minimum_calls(1);
}

} // namespace

TEST_CASE("the time that a call waits in line for a layer inside makes it no slow call") {
    asio::io_context io;
    breaker fuse(impatient());
    limiter rate(io, tidegate::rate_limiter_options().rate(1, 300ms));
    bulkhead room(io, 1);
    hedge const once{hedge_options()};
    hedge const twice{hedge_options().delay(1h).idempotent(true)};
    REQUIRE(rate.try_acquire());
    guarded_call<int> call;
    auto const start = policy_clock::now();
    SECTION("a limiter") { call.start(io, policy{fuse, rate}, lasts(10ms)); }
    SECTION("in a hedge") { call.start(io, policy{fuse, twice, rate}, lasts(10ms)); }
    SECTION("in a hedge with one attempt") {
        call.start(io, policy{fuse, once, rate}, lasts(10ms));
    }
    SECTION("a bulkhead") {
        auto held = room.try_acquire();
        call.start(io, policy{fuse, room}, lasts(10ms));
        pass(io, 300ms);
        held.release();
    }
    finish(io);
    CHECK(call.value == 1);
    CHECK(call.at - start == 310ms);
    CHECK(fuse.counts().calls == 1);
    CHECK(fuse.counts().slow == 0);
}

TEST_CASE("what is called may be slow after a wait, too") {
    asio::io_context io;
    breaker fuse(impatient());
    limiter rate(io, tidegate::rate_limiter_options().rate(1, 300ms));
    auto const slowly = tidegate::testing::chaos_options().latency(1, 200ms, 200ms);
    REQUIRE(rate.try_acquire());
    guarded_call<int> call;
    SECTION("an operation") { call.start(io, policy{fuse, rate}, lasts(200ms)); }
    SECTION("chaos") { call.start(io, policy{fuse, rate, chaos{slowly}}, lasts(0ms)); }
    finish(io);
    CHECK(call.value == 1);
    CHECK(fuse.state() == tidegate::breaker_state::open);
}

TEST_CASE("a probe is not hedged") {
    asio::io_context io;
    breaker fuse(
        tidegate::circuit_breaker_options().permitted_probes(1).open_duration(1s).jitter(0));
    hedge const often{hedge_options().delay(10ms).max_hedges(3).idempotent(true)};
    policy const guarded{fuse, often};
    policy const inside{often};
    bool const nested = GENERATE(false, true);
    int calls = 0;
    auto slow = [&]() -> asio::awaitable<int> {
        ++calls;
        co_await test::idle(100ms);
        co_return 1;
    };
    auto through = [&](context const& c) -> asio::awaitable<int> {
        co_return co_await inside(std::ref(slow), c);
    };
    auto start = [&](guarded_call<int>& call) {
        if (nested) call.start(io, policy{fuse}, through);
        else call.start(io, guarded, std::ref(slow));
    };
    fuse.trip();
    pass(io, 1s);
    guarded_call<int> probe, later;
    start(probe);
    finish(io);
    CHECK(probe.value == 1);
    CHECK(calls == 1);
    CHECK(fuse.state() == tidegate::breaker_state::closed);
    start(later);
    finish(io);
    CHECK(calls == 5);
}

} // namespace test
