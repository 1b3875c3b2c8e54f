// SPDX-License-Identifier: BSL-1.0
// Calls that are let in after their time, or after they were cancelled: nothing is started.
#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>

namespace test {

using tidegate::error;
using tidegate::policy;

using timeout = tidegate::basic_timeout<policy_clock>;
using retry = tidegate::basic_retry<policy_clock>;
using limiter = tidegate::basic_rate_limiter<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;
using tidegate::retry_options;

namespace {

/// Counts how often it was started.
struct counting {
    std::shared_ptr<int> starts = std::make_shared<int>(0);

    asio::awaitable<int> operator()() {
        ++*starts;
        co_await test::idle(1ms);
        co_return 1;
    }
};

/// The loop is busy for so long: it hears of everything that was due meanwhile at the end.
void stall(asio::io_context& io, policy_clock::duration time) {
    policy_clock::advance(time);
    run(io);
}

} // namespace

TEST_CASE("a call whose permit comes after its time was never made") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(1, 99ms));
    breaker fuse(tidegate::circuit_breaker_options().consecutive_failures(1));
    policy const guarded{timeout{100ms}, fuse, rate};
    REQUIRE(rate.try_acquire());
    counting op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    stall(io, 150ms);
    CHECK(call.failed_with(error::deadline_exceeded));
    CHECK(*op.starts == 0);
    CHECK(fuse.state() == tidegate::breaker_state::closed);
    CHECK(rate.available() == 1);
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a place in a bulkhead that comes after the time goes to the next") {
    asio::io_context io;
    bulkhead room(io, 1);
    policy const guarded{timeout{100ms}, room};
    auto held = room.try_acquire();
    counting op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    held.release(); // granted, which the loop does not get to tell in time
    stall(io, 150ms);
    CHECK(call.failed_with(error::deadline_exceeded));
    CHECK(*op.starts == 0);
    CHECK(room.available() == 1);
}

TEST_CASE("an operation that is to be abandoned is not started after its time, either") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(1, 99ms));
    policy const guarded{timeout{100ms}.abandon(true), rate};
    REQUIRE(rate.try_acquire());
    counting op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    stall(io, 150ms);
    CHECK(call.failed_with(error::deadline_exceeded));
    CHECK(*op.starts == 0);
}

TEST_CASE("a pause that ends after the deadline ends the call") {
    asio::io_context io;
    breaker fuse(tidegate::circuit_breaker_options().consecutive_failures(2));
    auto const settings = retry_options().base(50ms).jitter(tidegate::jitter::none);
    policy const guarded{timeout{100ms}, retry{settings}, fuse};
    int starts = 0;
    auto fails = [&]() -> asio::awaitable<int> {
        ++starts;
        co_await test::idle(1ms);
        throw boost::system::system_error(asio::error::connection_refused);
    };
    guarded_call<int> call;
    call.start(io, guarded, fails);
    pass(io, 1ms);
    stall(io, 150ms);
    CHECK(call.failed_with(error::deadline_exceeded));
    CHECK(starts == 1);
    CHECK(fuse.counts().failures == 1);
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("an attempt whose own time is up after the pause may be made again") {
    asio::io_context io;
    auto const settings = retry_options()
                              .base(50ms)
                              .multiplier(1)
                              .jitter(tidegate::jitter::none)
                              .attempt_timeout(20ms);
    policy const guarded{retry{settings}};
    int starts = 0;
    auto op = [&](context const& c) -> asio::awaitable<int> {
        if (++starts == 1) throw boost::system::system_error(asio::error::connection_refused);
        co_return static_cast<int>(c.attempt());
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    stall(io, 150ms);
    CHECK(call.running());
    finish(io);
    CHECK(call.value == 3);
    CHECK(starts == 2);
}

} // namespace test
