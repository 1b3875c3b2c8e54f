// SPDX-License-Identifier: BSL-1.0
// Permits and tokens of calls whose operation was never started.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <deque>
#include <memory>
#include <utility>

namespace test {

using tidegate::error_code;
using tidegate::policy;

using timeout = tidegate::basic_timeout<policy_clock>;
using retry = tidegate::basic_retry<policy_clock>;
using hedge = tidegate::basic_hedge<policy_clock>;
using limiter = tidegate::basic_rate_limiter<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;
using tidegate::retry_options;

namespace {

auto const terminal = asio::cancellation_type::terminal;

retry_options paying(std::shared_ptr<tidegate::retry_budget> from) {
    return retry_options()
        .max_attempts(4)
        .base(10ms)
        .multiplier(1)
        .jitter(tidegate::jitter::none)
        .budget(std::move(from));
}

auto five_tokens() { return std::make_shared<tidegate::retry_budget>(0.0, 5, 0); }

/// Fails at every attempt, and counts them.
struct failing {
    std::shared_ptr<int> starts = std::make_shared<int>(0);

    asio::awaitable<int> operator()() {
        ++*starts;
        throw boost::system::system_error(asio::error::connection_refused);
        co_return 1;
    }
};

} // namespace

TEST_CASE("callers that are cancelled in the line of a bulkhead take nothing from the rate") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    bulkhead room(io, 1);
    policy const guarded{rate, room};
    auto const held = room.try_acquire();
    failing const op;
    std::deque<guarded_call<int>> calls(9);
    for (auto& call : calls) call.start(io, guarded, op);
    run(io);
    CHECK(rate.available() == 1);
    for (auto& call : calls) call.signal.emit(terminal);
    run(io);
    for (auto const& call : calls) CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(rate.available() == 10);
    CHECK(*op.starts == 0);
}

TEST_CASE("a call that is cancelled between attempts, none of which was begun, takes nothing") {
    asio::io_context io;
    guarded_call<int> call;
    auto settings = retry_options().max_attempts(3).base(1h);
    SECTION("in the pause") {}
    SECTION("before it") {
        settings.on_retry([&](auto const&) { call.signal.emit(terminal); });
    }
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    breaker fuse(tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(1h));
    fuse.try_acquire().failure();
    policy const guarded{rate, retry(settings), fuse};
    failing const op;
    call.start(io, guarded, op);
    run(io);
    call.signal.emit(terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(*op.starts == 0);
    CHECK(rate.available() == 10);
}

TEST_CASE("a call that is cancelled just when it gets its place is not started") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    bulkhead room(io, 1);
    policy const guarded{rate, room};
    auto held = room.try_acquire();
    failing const op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    held.release(); // the place is on its way
    call.signal.emit(terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(*op.starts == 0);
    CHECK(rate.available() == 10);
    CHECK(room.available() == 1);
}

TEST_CASE("a call that is cancelled while its operation runs has spent its permit") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    policy const guarded{rate};
    guarded_call<int> call;
    call.start(io, guarded, []() -> asio::awaitable<int> {
        co_await test::idle(1h);
        co_return 1;
    });
    run(io);
    call.signal.emit(terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(rate.available() == 9);
}

TEST_CASE("a call of which an attempt was begun has spent its permit, whatever refused the next") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    bulkhead room(io, 1);
    failing const op;
    auto const retries = retry_options().max_attempts(2).base(10ms).jitter(tidegate::jitter::none);
    guarded_call<int> call;
    SECTION("it is cancelled in the line") {
        call.start(io, policy{rate, retry{retries}, room}, op);
        run(io);
        auto const held = room.try_acquire();
        pass(io, 10ms); // the second attempt stands in line
        REQUIRE(room.waiting() == 1);
        call.signal.emit(terminal);
        run(io);
        CHECK(call.failed_with(asio::error::operation_aborted));
    }
    SECTION("the time is up in the line") {
        call.start(io, policy{timeout{50ms}, rate, retry{retries}, room}, op);
        run(io);
        auto const held = room.try_acquire();
        pass(io, 50ms);
        CHECK(call.failed_with(tidegate::error::deadline_exceeded));
    }
    SECTION("the time is up when its pause has ended") {
        call.start(io, policy{timeout{50ms}, rate, retry{retries}, room}, op);
        run(io);
        policy_clock::advance(60ms);
        run(io);
        CHECK(call.failed_with(tidegate::error::deadline_exceeded));
    }
    CHECK(*op.starts == 1);
    CHECK(rate.available() == 9);
}

TEST_CASE("a call whose operation is a policy's that refused it has spent nothing") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    breaker fuse(tidegate::circuit_breaker_options{});
    fuse.force_open();
    failing const op;
    policy const inner{fuse};
    auto nested = [&] { return inner(op); };
    guarded_call<int> call;
    call.start(io, policy{rate}, nested);
    run(io);
    CHECK(call.failed_with(tidegate::error::circuit_open));
    CHECK(rate.available() == 10);
}

TEST_CASE("a token for an attempt that an open breaker refused goes back") {
    asio::io_context io;
    auto const budget = five_tokens();
    breaker fuse(tidegate::circuit_breaker_options().consecutive_failures(2).open_duration(15ms));
    policy const guarded{retry{paying(budget).max_attempts(3)}, fuse};
    fuse.metrics_only(); // counts, but does not open
    failing const op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    CHECK(budget->balance() == 4);
    fuse.force_open();
    pass(io, 10ms); // the second attempt, refused for good
    CHECK(call.failed_with(tidegate::error::circuit_open));
    CHECK(*op.starts == 1);
    CHECK(budget->balance() == 5);
}

TEST_CASE(
    "a token for an attempt that was cancelled in a line goes back, one for a start does not") {
    asio::io_context io;
    auto const budget = five_tokens();
    bulkhead room(io, 1);
    policy const guarded{retry{paying(budget)}, room};
    failing const op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    CHECK(budget->balance() == 4);
    pass(io, 10ms); // the second attempt, and the token of the third
    CHECK(*op.starts == 2);
    CHECK(budget->balance() == 3);
    auto const held = room.try_acquire();
    pass(io, 10ms); // the third waits
    CHECK(room.waiting() == 1);
    call.signal.emit(terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(*op.starts == 2);
    CHECK(budget->balance() == 4);
}

TEST_CASE("an outer retry has spent its token when something was started further in") {
    asio::io_context io;
    auto const budget = five_tokens();
    bulkhead room(io, bulkhead::options().capacity(1).max_wait(0s));
    // Each of two attempts outside is two attempts inside.
    policy const guarded{retry{paying(budget).max_attempts(2)},
                         retry{paying(budget).max_attempts(2)}, room};
    failing const op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    pass(io, 20ms);
    CHECK(*op.starts == 3);
    auto const held = room.try_acquire();
    finish(io); // the fourth is refused: its token goes back, that of the outer one was used
    CHECK(*op.starts == 3);
    CHECK(budget->balance() == 3);
}

TEST_CASE("a retry outside a hedge hears whether an attempt was started") {
    asio::io_context io;
    auto const budget = five_tokens();
    bulkhead room(io, bulkhead::options().capacity(1).max_wait(0s));
    bool const idempotent = GENERATE(false, true);
    hedge const twice{tidegate::hedge_options().delay(5ms).idempotent(idempotent)};
    policy const guarded{retry{paying(budget).max_attempts(3)}, twice, room};
    failing const op;
    guarded_call<int> call;
    call.start(io, guarded, op);
    pass(io, 10ms);
    CHECK(*op.starts == 2);
    auto const held = room.try_acquire();
    finish(io);
    CHECK(*op.starts == 2);
    CHECK(budget->balance() == 4);
}

TEST_CASE("a hedge whose attempt failed says so, though the other one was refused after it") {
    asio::io_context io;
    limiter rate(io, tidegate::rate_limiter_options().rate(10, 1h));
    breaker fuse(tidegate::circuit_breaker_options().consecutive_failures(1));
    bulkhead room(io, bulkhead::options().capacity(1).max_wait(10ms));
    hedge const twice{tidegate::hedge_options().delay(5ms).idempotent(true)};
    policy const guarded{fuse, rate, twice, room};
    auto slow = []() -> asio::awaitable<int> {
        co_await test::idle(8ms);
        throw boost::system::system_error(asio::error::connection_refused);
    };
    guarded_call<int> call;
    call.start(io, guarded, slow);
    pass(io, 1ms);
    bulkhead::permit next; // comes before the second attempt, and keeps the place
    auto keep = [&](error_code, bulkhead::permit p) { next = std::move(p); };
    room.async_acquire(keep);
    pass(io, 8ms);
    CHECK(call.running());
    CHECK(next);
    finish(io);
    CHECK(call.failed_with(asio::error::connection_refused));
    CHECK(rate.available() == 9);
    CHECK(fuse.state() == tidegate::breaker_state::open);
}

TEST_CASE("a token for a hedge that was refused goes back") {
    asio::io_context io;
    auto const budget = five_tokens();
    bulkhead room(io, bulkhead::options().capacity(1).max_wait(0s));
    hedge const twice{tidegate::hedge_options().delay(5ms).idempotent(true).budget(budget)};
    policy const guarded{twice, room};
    guarded_call<int> call, free;
    auto slow = []() -> asio::awaitable<int> {
        co_await test::idle(20ms);
        co_return 1;
    };
    call.start(io, guarded, slow);
    finish(io);
    CHECK(call.value == 1);
    CHECK(budget->balance() == 5);
    room.resize(2);
    free.start(io, guarded, slow);
    finish(io);
    CHECK(free.value == 1);
    CHECK(budget->balance() == 4);
}

} // namespace test
