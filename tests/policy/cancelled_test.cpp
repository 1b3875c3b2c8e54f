// SPDX-License-Identifier: BSL-1.0
// Calls whose caller cancels them, whatever the operation makes of it.
#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/instrument.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/use_future.hpp>

#include <memory>
#include <stdexcept>
#include <vector>

namespace test {

using tidegate::error;
using tidegate::failure;
using tidegate::policy;

using timeout = tidegate::basic_timeout<policy_clock>;
using retry = tidegate::basic_retry<policy_clock>;
using hedge = tidegate::basic_hedge<policy_clock>;
using limiter = tidegate::basic_rate_limiter<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;
using instrument = tidegate::basic_instrument<policy_clock>;
using tidegate::hedge_options;
using tidegate::retry_options;

namespace {

auto const terminal = asio::cancellation_type::terminal;

/// Waits for an hour; if that is cut short, the connection is what broke.
asio::awaitable<int> breaks() {
    try {
        co_await test::idle(1h);
    } catch (boost::system::system_error const&) {
        throw boost::system::system_error(asio::error::broken_pipe);
    }
    co_return 1;
}

/// The same, with an exception that has no code.
asio::awaitable<int> throws() {
    try {
        co_await test::idle(1h);
    } catch (boost::system::system_error const&) {
        throw std::runtime_error("lost");
    }
    co_return 1;
}

tidegate::circuit_breaker_options touchy() {
    return tidegate::circuit_breaker_options().consecutive_failures(1);
}

/// A call through all layers that judge failures, which must let it pass as it is.
struct judged {
    asio::io_context io;
    int answered = 0;
    std::vector<bool> told;
    breaker fuse{touchy()};
    guarded_call<int> call;

    template <class Op, class... Inner>
    void cancel(Op op, Inner const&... inner) {
        auto answer = [this](failure const&) {
            ++answered;
            return -1;
        };
        auto listen = [this](tidegate::call_event const& e) {
            told.push_back(e.why && e.why->is_cancellation());
        };
        auto const again = retry_options().base(1ms).idempotent(true);
        policy const guarded{tidegate::fallback{answer}, instrument{listen}, retry{again}, fuse,
                             inner...};
        call.start(io, guarded, op);
        pass(io, 20ms);
        REQUIRE(call.running());
        call.signal.emit(terminal);
        run(io);
        REQUIRE(call.completions == 1);
        CHECK(answered == 0);
        CHECK(told == std::vector{true});
        CHECK(fuse.state() == tidegate::breaker_state::closed);
        CHECK(policy_clock::pending() == 0);
    }
};

} // namespace

TEST_CASE("an operation that ends with an error of its own when it is cancelled was cancelled") {
    judged j;
    SECTION("a code") {
        j.cancel(&breaks);
        CHECK(j.call.failed_with(asio::error::broken_pipe));
    }
    SECTION("an exception") {
        j.cancel(&throws);
        REQUIRE(j.call.why.exception());
        CHECK_THROWS_AS(j.call.why.rethrow(), std::runtime_error);
    }
    SECTION("with a deadline") {
        j.cancel(&breaks, timeout{1s});
        CHECK(j.call.failed_with(asio::error::broken_pipe));
    }
    SECTION("in a hedge") {
        j.cancel(&breaks, hedge{hedge_options().delay(5ms).idempotent(true)});
        CHECK(j.call.failed_with(asio::error::broken_pipe));
    }
    SECTION("in a hedge with one attempt") {
        j.cancel(&breaks, hedge{hedge_options()});
        CHECK(j.call.failed_with(asio::error::broken_pipe));
    }
}

TEST_CASE("what loses a race is no evidence, whatever it fails with") {
    asio::io_context io;
    breaker fuse(touchy());
    tidegate::basic_adaptive_limiter<policy_clock> tide;
    policy const guarded{hedge{hedge_options().delay(5ms).idempotent(true)}, fuse, tide};
    int started = 0;
    auto op = [&]() -> asio::awaitable<int> {
        if (++started == 1) co_return co_await breaks();
        co_return 2;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    pass(io, 5ms);
    CHECK(call.value == 2);
    CHECK(fuse.state() == tidegate::breaker_state::closed);
    CHECK(fuse.counts().failures == 0);
}

TEST_CASE("a deadline's cancellation is not the caller's") {
    asio::io_context io;
    breaker fuse(touchy());
    policy const guarded{tidegate::fallback{[](failure const& why) {
                             CHECK_FALSE(why.is_cancellation());
                             return -1;
                         }},
                         timeout{10ms}, fuse};
    guarded_call<int> call;
    call.start(io, guarded, &breaks);
    pass(io, 10ms);
    CHECK(call.value == -1);
    CHECK(fuse.state() == tidegate::breaker_state::open);
}

TEST_CASE("a cancellation that the call does not hear of leaves its failures what they are") {
    asio::io_context io;
    breaker fuse(touchy());
    policy const guarded{fuse};
    auto fails = []() -> asio::awaitable<int> {
        co_await test::idle(10ms);
        throw boost::system::system_error(asio::error::broken_pipe);
    };
    guarded_call<int> call;
    call.start(io, guarded, fails);
    run(io);
    call.signal.emit(asio::cancellation_type::total); // co_spawn listens to terminal alone
    pass(io, 10ms);
    CHECK(call.failed_with(asio::error::broken_pipe));
    CHECK(fuse.state() == tidegate::breaker_state::open);
}

TEST_CASE("a cancelled call whose operation does not listen and fails is not wanted any more") {
    judged j;
    auto deaf = []() -> asio::awaitable<int> {
        co_await asio::this_coro::throw_if_cancelled(false);
        timer t(co_await asio::this_coro::executor);
        t.expires_at(policy_clock::now() + 1h);
        auto waiting = t.async_wait(asio::as_tuple(asio::deferred));
        co_await std::move(waiting);
        co_await asio::this_coro::throw_if_cancelled(true);
        throw boost::system::system_error(asio::error::connection_refused);
    };
    j.cancel(deaf);
    CHECK(j.call.failed_with(asio::error::connection_refused));
}

TEST_CASE("an answer that is awaited and cancelled is no failure to a breaker outside") {
    asio::io_context io;
    breaker fuse(touchy());
    auto answer = [](failure const&) -> asio::awaitable<int> { co_return co_await breaks(); };
    policy const guarded{fuse, tidegate::fallback{answer}};
    guarded_call<int> call;
    call.start(io, guarded, []() -> asio::awaitable<int> {
        throw boost::system::system_error(asio::error::connection_refused);
        co_return 1;
    });
    run(io);
    REQUIRE(call.running());
    call.signal.emit(terminal);
    run(io);
    CHECK(call.failed_with(asio::error::broken_pipe));
    CHECK(fuse.state() == tidegate::breaker_state::closed);
}

TEST_CASE("a call after a cancellation that was dealt with fails as any other") {
    asio::io_context io;
    breaker fuse(touchy());
    policy const guarded{fuse};
    asio::cancellation_signal signal;
    bool failed = false;
    auto body = [&]() -> asio::awaitable<void> {
        auto fails = []() -> asio::awaitable<int> {
            throw boost::system::system_error(asio::error::broken_pipe);
            co_return 1;
        };
        try {
            co_await test::idle(1h);
        } catch (boost::system::system_error const&) {
        }
        co_await asio::this_coro::reset_cancellation_state();
        try {
            co_await guarded(fails);
        } catch (boost::system::system_error const&) {
            failed = true;
        }
    };
    asio::co_spawn(io, body(),
                   asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    run(io);
    signal.emit(terminal);
    run(io);
    CHECK(failed);
    CHECK(fuse.state() == tidegate::breaker_state::open);
}

} // namespace test
