// SPDX-License-Identifier: BSL-1.0
// What observers hear of rate limiters, circuit breakers and retries.
#include "support.hpp"

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <stdexcept>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::error_code;
using tidegate::trace_event;

namespace {

struct clock_tag;
using clock_type = tidegate::testing::basic_manual_clock<clock_tag>;
using limiter = tidegate::basic_rate_limiter<clock_type>;
using breaker = tidegate::basic_circuit_breaker<clock_type>;
using retry = tidegate::basic_retry<clock_type>;

error_code const lost = asio::error::host_unreachable;

struct limited {
    explicit limited(limiter::options const& settings = limiter::options().rate(1, 1s).burst(2))
        : rate(io, settings) {
        rate.observe(ear, "calls");
    }
    void run() {
        io.restart();
        io.poll();
    }
    // Lets the time come for whoever waits.
    void pass(clock_type::duration time) {
        clock_type::advance(time);
        run();
    }

    std::shared_ptr<test::recorder> ear = std::make_shared<test::recorder>();
    asio::io_context io;
    limiter rate;
};

} // namespace

TEST_CASE("a rate limiter tells what it grants and refuses, and when to come again") {
    limited o;
    CHECK(o.rate.try_acquire(2));
    CHECK(o.ear->take() == told{"acquired 2"});
    CHECK(o.ear->last().primitive == "rate_limiter");
    CHECK_FALSE(o.rate.try_acquire());
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::rate_limited);
    CHECK(o.ear->last().duration == 1s);
    CHECK_FALSE(o.rate.peek(1, clock_type::now()));
    o.rate.refund(2);
    CHECK(o.ear->take() == told{});
    CHECK_FALSE(o.rate.try_acquire(3));
    CHECK(o.ear->last().error == error::invalid_count);
    o.rate.close();
    CHECK_FALSE(o.rate.try_acquire());
    CHECK(o.ear->last().error == error::closed);
    CHECK(o.ear->take() == told{"rejected 3", "rejected 1"});
}

TEST_CASE("who waits for the rate is told once, with the wait") {
    limited o;
    CHECK(o.rate.try_acquire(2));
    o.rate.async_acquire([](error_code) {});
    o.rate.async_acquire([](error_code) {});
    o.ear->take();
    o.pass(1s);
    CHECK(o.ear->take() == told{"acquired 1"});
    CHECK(o.ear->last().duration == 1s);
    o.rate.refund();
    CHECK(o.ear->take() == told{"acquired 1"});
    o.run();
    CHECK(o.ear->take() == told{});
}

TEST_CASE("who leaves the line of a rate limiter is told once") {
    limited o;
    CHECK(o.rate.try_acquire(2));
    asio::cancellation_signal signal;
    o.rate.async_acquire(2, asio::bind_cancellation_slot(signal.slot(), [](error_code) {}));
    o.rate.async_acquire_for(10s, [](error_code) {});
    o.rate.async_acquire_for(1s, [](error_code ec) { CHECK(ec == error::rate_limited); });
    CHECK(o.ear->take() == told{"acquired 2", "rejected 1"});
    signal.emit(asio::cancellation_type::terminal);
    CHECK(o.ear->take() == told{"cancelled 2"});
    o.rate.set_rate(1, 1h);
    o.pass(10s);
    CHECK(o.ear->take() == told{"timed_out 1"});
    o.rate.async_acquire([](error_code) {});
    o.rate.close();
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::closed);
    o.run();
    CHECK(o.ear->take() == told{});
}

TEST_CASE("a coroutine that waits for the rate was not refused") {
    limited o;
    CHECK(o.rate.try_acquire(2));
    auto const guarded = tidegate::policy(o.rate);
    auto const nothing = []() -> asio::awaitable<void> { co_return; };
    auto ask = [&]() -> asio::awaitable<void> {
        co_await o.rate.acquire();
        auto held = co_await o.rate.reserve();
        held.commit();
        co_await guarded(nothing);
    };
    o.ear->take();
    asio::co_spawn(o.io, ask(), asio::detached);
    o.run();
    CHECK(o.ear->take() == told{});
    for (int i = 0; i < 3; ++i) {
        o.pass(1s);
        CHECK(o.ear->take() == told{"acquired 1"});
    }
}

TEST_CASE("of several limits each tells what it granted, or that it refused") {
    limited o;
    limited second(limiter::options().rate(1, 1s).burst(1));
    CHECK(try_acquire_all(1, o.rate, second.rate));
    CHECK(o.ear->take() == told{"acquired 1"});
    CHECK(second.ear->take() == told{"acquired 1"});
    CHECK_FALSE(try_acquire_all(1, o.rate, second.rate));
    CHECK(o.ear->take() == told{});
    CHECK(second.ear->take() == told{"rejected 1"});
}

TEST_CASE("a keyed rate limiter tells of all keys") {
    using keyed = tidegate::basic_keyed_rate_limiter<std::string, boost::hash<std::string>,
                                                     std::equal_to<std::string>, clock_type>;
    keyed limits(keyed::options().rate(1, 1s).burst(1));
    auto ear = std::make_shared<test::recorder>();
    limits.observe(ear, "tenants");
    CHECK(limits.try_acquire("a"));
    CHECK(limits.try_acquire("b"));
    CHECK_FALSE(limits.try_acquire("a"));
    CHECK(ear->take() == told{"acquired 1", "acquired 1", "rejected 1"});
    CHECK(ear->last().primitive == "keyed_rate_limiter");
    CHECK(ear->last().error == error::rate_limited);
    CHECK(ear->last().duration == 1s);
}

TEST_CASE("a breaker tells of its states in order, before its listeners hear of them") {
    auto ear = std::make_shared<test::recorder>();
    told heard_by_then;
    breaker b(breaker::options()
                  .consecutive_failures(2)
                  .open_duration(10s)
                  .jitter(0)
                  .permitted_probes(1)
                  .on_transition([&](auto, auto) { heard_by_then = ear->take(); }));
    b.observe(ear, "users");
    ear->also = [&](tidegate::trace_record const&) {
        static_cast<void>(b.counts());
        static_cast<void>(b.last_error());
    };
    for (int i = 0; i < 2; ++i) b.try_acquire().failure(lost);
    CHECK(heard_by_then == told{"opened 1"});
    CHECK(ear->last().primitive == "circuit_breaker");
    CHECK(ear->last().name == "users");
    CHECK(ear->last().error == lost);
    CHECK(ear->last().duration == 10s);

    CHECK_FALSE(b.try_acquire());
    CHECK(ear->take() == told{"rejected 1"});
    CHECK(ear->last().error == error::circuit_open);

    clock_type::advance(10s);
    auto probe = b.try_acquire();
    CHECK(heard_by_then == told{"half_opened 1"});
    CHECK_FALSE(b.try_acquire());
    CHECK(ear->take() == told{"rejected 1"});
    probe.failure(lost);
    CHECK(heard_by_then == told{"opened 2"});
    clock_type::advance(10min);
    b.try_acquire().success();
    CHECK(heard_by_then == told{"closed 1"});
    CHECK(ear->all().size() == 7);
}

TEST_CASE("what an operator does to a breaker is told") {
    auto ear = std::make_shared<test::recorder>();
    breaker b;
    b.observe(ear, "users");
    b.force_open();
    b.disable();
    b.metrics_only();
    b.close();
    b.close();
    b.trip();
    CHECK(ear->take() == told{"opened 1", "disabled 1", "disabled 1", "closed 1", "opened 1"});
}

TEST_CASE("a retry tells of each further attempt with its pause, and of giving up") {
    auto ear = std::make_shared<test::recorder>();
    retry again(tidegate::retry_options().max_attempts(3).base(1s).multiplier(2).jitter(
        tidegate::core::jitter::none));
    auto const guarded = tidegate::policy(again);
    again.observe(ear, "fetch"); // the policy's copy too
    asio::io_context io;
    int left = 9;
    auto const fetch = [&]() -> asio::awaitable<void> {
        if (left-- > 0) throw boost::system::system_error(lost);
        co_return;
    };
    auto call = [&] {
        asio::co_spawn(io, guarded(fetch), asio::detached);
        do {
            io.restart();
            io.poll();
        } while (clock_type::advance_to_next());
    };
    call();
    CHECK(ear->take() == told{"retried 1", "retried 2", "gave_up 3"});
    CHECK(ear->all()[0].duration == 1s);
    CHECK(ear->all()[1].duration == 2s);
    CHECK(ear->all()[1].error == lost);
    CHECK(ear->last().error == lost);
    CHECK(ear->last().primitive == "retry");
    left = 1;
    call();
    CHECK(ear->take() == told{"retried 1"});
    left = 0;
    call();
    CHECK(ear->take() == told{});
}

TEST_CASE("a failure without a code is told as one") {
    auto ear = std::make_shared<test::recorder>();
    retry again(tidegate::retry_options().max_attempts(2));
    again.observe(ear, "fetch");
    auto const guarded = tidegate::policy(again);
    asio::io_context io;
    asio::cancellation_signal signal;
    auto const fetch = []() -> asio::awaitable<void> {
        throw std::runtime_error("no code");
        co_return;
    };
    asio::co_spawn(io, guarded(fetch), asio::bind_cancellation_slot(signal.slot(), asio::detached));
    io.poll();
    CHECK(ear->take() == told{"retried 1"});
    CHECK(ear->last().error == error::exception_thrown);
    signal.emit(asio::cancellation_type::terminal); // in its pause: neither retried nor given up
    io.restart();
    io.poll();
    CHECK(io.stopped());
    CHECK(ear->take() == told{});
}

TEST_CASE("a hedge tells of each further attempt, with the pause before it") {
    auto ear = std::make_shared<test::recorder>();
    tidegate::basic_hedge<clock_type> hedge(
        tidegate::hedge_options().delay(2s).max_hedges(2).idempotent(true));
    hedge.observe(ear, "fetch");
    auto const guarded = tidegate::policy(hedge);
    asio::io_context io;
    auto const fetch = []() -> asio::awaitable<void> {
        auto timer = tidegate::timer_for_t<clock_type, asio::any_io_executor>(
            co_await asio::this_coro::executor);
        timer.expires_at(clock_type::now() + 3s);
        co_await timer.async_wait(asio::deferred);
    };
    bool done = false;
    asio::co_spawn(io, guarded(fetch), [&](std::exception_ptr e) { done = !e; });
    do {
        io.restart();
        io.poll();
    } while (clock_type::advance_to_next());
    CHECK(done);
    CHECK(ear->take() == told{"hedged 2"});
    CHECK(ear->last().primitive == "hedge");
    CHECK(ear->last().duration == 2s);
    CHECK(hedge.statistics().hedges == 1);
}
