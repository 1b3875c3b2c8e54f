// SPDX-License-Identifier: BSL-1.0
// What a breaker in a policy hears of calls, and what it says to the layers inside it.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/chaos.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <chrono>
#include <optional>
#include <stdexcept>

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

TEST_CASE("a predicate that throws keeps no probe") {
    asio::io_context io;
    breaker fuse(
        tidegate::circuit_breaker_options().permitted_probes(1).open_duration(1s).jitter(0));
    auto fails = [](failure const&) { return true; };
    auto throws = [](failure const&) -> std::optional<std::chrono::nanoseconds> {
        throw std::runtime_error("not a number");
    };
    auto op = []() -> asio::awaitable<int> {
        throw boost::system::system_error(asio::error::connection_refused);
        co_return 1;
    };
    fuse.trip();
    pass(io, 1s);
    guarded_call<int> call;
    auto const retries =
        tidegate::retry_options().max_attempts(2).base(1h).jitter(tidegate::jitter::none);
    using retry = tidegate::basic_retry<policy_clock>;
    call.start(io, policy{retry{retries}, break_if(fuse, fails, throws)}, op);
    run(io);
    REQUIRE(call.running()); // in its pause
    CHECK(fuse.try_acquire());
    call.signal.emit(asio::cancellation_type::terminal);
    run(io);
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

TEST_CASE("a breaker stays open for as long as what is called asks for") {
    asio::io_context io;
    breaker fuse(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(1s).jitter(0));
    std::optional<std::chrono::nanoseconds> asked;
    auto const every = [](failure const&) { return true; };
    auto const delay = [&](failure const&) { return asked; };
    policy const guarded{break_if(fuse, every, delay)};
    auto const opens_for = [&](std::optional<std::chrono::nanoseconds> hint) {
        fuse.close();
        asked = hint;
        guarded_call<int> call;
        call.start(io, guarded, []() -> asio::awaitable<int> {
            throw boost::system::system_error(asio::error::connection_refused);
            co_return 1;
        });
        run(io);
        CHECK(call.failed_with(asio::error::connection_refused));
        REQUIRE(fuse.state() == tidegate::breaker_state::open);
        return fuse.retry_after();
    };
    CHECK(opens_for(1h) == 1h);
    CHECK(opens_for(1ms) == 1s);
    CHECK(opens_for(std::nullopt) == 1s);
    // The call is not to come back: that says nothing about others.
    CHECK(opens_for(-1ns) == 1s);
    CHECK(opens_for(std::chrono::nanoseconds::max()) == 1s);
}

TEST_CASE("a result can ask for it, too, and the longest of all that ask counts") {
    struct reply {
        int status;
        std::chrono::seconds retry_after;
    };
    struct unavailable {
        bool operator()(failure const&) const { return true; }
        bool operator()(reply const& r) const { return r.status == 503; }
    };
    struct retry_after {
        std::optional<std::chrono::nanoseconds> operator()(failure const&) const { return 10s; }
        std::optional<std::chrono::nanoseconds> operator()(reply const& r) const {
            return r.retry_after;
        }
    };
    asio::io_context io;
    breaker fuse(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(1s).jitter(0));
    limiter rate(io, tidegate::rate_limiter_options().rate(1, 1h).max_wait(0s));
    policy const guarded{break_if(fuse, unavailable{}, retry_after{}), rate};
    guarded_call<reply> call;
    call.start(io, guarded, []() -> asio::awaitable<reply> { co_return reply{503, 7s}; });
    run(io);
    REQUIRE(call.value);
    CHECK(call.value->status == 503);
    CHECK(fuse.retry_after() == 7s);
    fuse.close();
    guarded_call<reply> refused;
    refused.start(io, guarded, []() -> asio::awaitable<reply> { co_return reply{200, 0s}; });
    run(io);
    CHECK(refused.failed_with(tidegate::error::rate_limited));
    CHECK(fuse.retry_after() == 1h); // as the limiter says
}

} // namespace test
