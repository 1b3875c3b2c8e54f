// SPDX-License-Identifier: BSL-1.0
// Calls through layers: what passes, what is changed, and that everything is given back.
#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/chaos.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/append.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>

#include <array>
#include <exception>
#include <future>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace test {

using tidegate::error;
using tidegate::error_code;
using tidegate::failure;
using tidegate::fallback;
using tidegate::hedge_options;
using tidegate::policy;
using tidegate::retry_options;

using timeout = tidegate::basic_timeout<policy_clock>;
using retry = tidegate::basic_retry<policy_clock>;
using hedge = tidegate::basic_hedge<policy_clock>;
using limiter = tidegate::basic_rate_limiter<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;

namespace {

error_code const refused = asio::error::connection_refused;

// Fails `failures` times, then returns the number of the attempt.
struct flaky {
    int failures;
    error_code with = refused;
    std::shared_ptr<int> attempts = std::make_shared<int>(0);

    asio::awaitable<int> operator()() {
        if (++*attempts <= failures) throw boost::system::system_error(with);
        co_return *attempts;
    }
};

// A different code for each number.
error_code told_so_far(int number) { return error_code(number, boost::system::generic_category()); }

asio::awaitable<int> forever() {
    co_await test::idle(24h);
    co_return 1;
}

} // namespace

TEST_CASE("a policy without layers is the operation") {
    asio::io_context io;
    policy<> const bare;
    guarded_call<int> good, bad;
    good.start(io, bare, flaky{0});
    bad.start(io, bare, flaky{1});
    run(io);
    CHECK(good.value == 1);
    CHECK(bad.failed_with(refused));
}

TEST_CASE("a policy of one layer is copied, also from where it must not change") {
    tidegate::policy const once{tidegate::timeout{1s}};
    auto const copied = once;
    auto const moved = std::move(copied); // NOLINT(performance-move-const-arg): as lambdas do
    CHECK(moved.describe() == once.describe());
    auto captured = [once](int n) { return n + (once.describe().empty() ? 0 : 1); };
    auto const elsewhere = std::move(captured);
    CHECK(elsewhere(1) == 2);
}

TEST_CASE("exceptions that carry no code pass through untouched") {
    struct own_exception {
        int number;
    };
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(10, 1s));
    policy const guarded{timeout{1s}, l};
    auto op = []() -> asio::awaitable<int> {
        throw own_exception{7};
        co_return 0;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    REQUIRE(call.why.exception());
    try {
        std::rethrow_exception(call.why.exception());
    } catch (own_exception const& e) {
        CHECK(e.number == 7);
    }
}

TEST_CASE("any asynchronous operation can be guarded") {
    asio::io_context io;
    bulkhead b(io, 1);
    policy const guarded{timeout{1s}, b};
    int ran = 0;
    auto body = [&]() -> asio::awaitable<void> {
        timer t(io.get_executor());
        t.expires_at(policy_clock::now() + 10ms);
        auto waits = [&](auto token) { return t.async_wait(std::move(token)); };
        co_await guarded(std::ref(waits));
        ++ran;
        // One that results in several values.
        auto two = [&](auto token) {
            return asio::async_initiate<decltype(token), void(error_code, int, std::string)>(
                [](auto handler) {
                    asio::post(asio::append(std::move(handler), error_code(), 3, std::string("x")));
                },
                token);
        };
        auto [number, text] = co_await guarded(std::ref(two));
        CHECK(number == 3);
        CHECK(text == "x");
        ++ran;
        // One that knows where it is.
        auto knows = [&](context const& c) -> asio::awaitable<int> {
            CHECK(c.attempt() == 1);
            CHECK(c.remaining() == 1s);
            CHECK(c.name() == "backend");
            co_return 4;
        };
        CHECK(co_await guarded.named("backend")(std::ref(knows)) == 4);
        ++ran;
    };
    auto done = asio::co_spawn(io, body(), asio::use_future);
    pass(io, 20ms);
    done.get();
    CHECK(ran == 3);
    CHECK(b.available() == 1);
}

TEST_CASE("a guarded operation takes any completion token") {
    asio::io_context io;
    policy const guarded{timeout{1s}};
    timer t(io.get_executor());
    t.expires_at(policy_clock::now() + 5s);
    auto waits = [&](auto token) { return t.async_wait(std::move(token)); };
    error_code ec;
    bool inside = true;
    guarded.async_call(io.get_executor(), std::ref(waits), [&](error_code e) {
        CHECK_FALSE(inside);
        ec = e;
    });
    auto value = guarded.async_call(io.get_executor(), flaky{0}, asio::use_future);
    inside = false;
    pass(io, 1s);
    CHECK(ec == error::deadline_exceeded);
    CHECK(value.get() == 1);
}

TEST_CASE("a handler gets what the operation threw, or the code of what refused it") {
    asio::io_context io;
    breaker b;
    policy const guarded{b};
    std::exception_ptr thrown, none = std::make_exception_ptr(1);
    std::string text;
    auto throws = []() -> asio::awaitable<int> {
        throw std::range_error("its own");
        co_return 1;
    };
    guarded.async_call(io.get_executor(), throws, [&](std::exception_ptr e, int) {
        try {
            std::rethrow_exception(e);
        } catch (std::range_error const& its_own) {
            text = its_own.what();
        }
    });
    guarded.async_call(io.get_executor(), flaky{0}, [&](std::exception_ptr e, int) { none = e; });
    run(io);
    CHECK(text == "its own");
    CHECK_FALSE(none);
    b.force_open();
    guarded.async_call(io.get_executor(), flaky{0}, [&](std::exception_ptr e, int) { thrown = e; });
    run(io);
    CHECK(failure(thrown).code() == error::circuit_open);
}

TEST_CASE("whatever cancels a guarded call reaches the operation") {
    asio::io_context io;
    policy<> const bare;
    policy const timed{timeout{1s}};
    asio::cancellation_type seen{};
    auto listens = [&](auto token) {
        auto start = [&](auto handler) {
            using handler_type = decltype(handler);
            auto const kept = std::make_shared<handler_type>(std::move(handler));
            asio::get_associated_cancellation_slot(*kept).assign(
                [&seen, &io, kept](asio::cancellation_type type) {
                    seen = type;
                    asio::post(io, [kept] {
                        auto& done = *kept;
                        asio::get_associated_cancellation_slot(done).clear();
                        std::move(done)(asio::error::operation_aborted);
                    });
                });
        };
        return asio::async_initiate<decltype(token), void(error_code)>(start, token);
    };
    for (auto const type : {asio::cancellation_type::total, asio::cancellation_type::partial,
                            asio::cancellation_type::terminal}) {
        for (bool const with_deadline : {false, true}) {
            asio::cancellation_signal signal;
            error_code ec;
            auto token = asio::bind_cancellation_slot(signal.slot(), [&](error_code e) { ec = e; });
            if (with_deadline) timed.async_call(io.get_executor(), std::ref(listens), token);
            else bare.async_call(io.get_executor(), std::ref(listens), token);
            run(io);
            signal.emit(type);
            run(io);
            CHECK(ec == asio::error::operation_aborted);
            CHECK(seen == type);
        }
    }
}

TEST_CASE("whatever cancels a guarded call reaches an operation that is a coroutine") {
    asio::io_context io;
    policy<> const bare;
    policy const timed{timeout{1s}};
    policy const hedged{hedge(hedge_options().delay(100ms)), timeout{1s}};
    policy const within{timeout{1s}, hedge(hedge_options().delay(100ms))};
    policy const at_once{timeout{1s}, hedge(hedge_options().delay(100ms).idempotent(true))};
    auto const stops_for = [&](auto const& guarded, asio::cancellation_type type) {
        asio::cancellation_signal signal;
        std::exception_ptr thrown;
        bool over = false;
        asio::cancellation_type seen{};
        auto listens = [&]() -> asio::awaitable<int> {
            co_await asio::this_coro::throw_if_cancelled(false);
            timer t(co_await asio::this_coro::executor);
            t.expires_at(policy_clock::now() + 24h);
            co_await t.async_wait(asio::as_tuple(asio::deferred));
            auto const state = co_await asio::this_coro::cancellation_state;
            seen = state.cancelled();
            throw boost::system::system_error(asio::error::operation_aborted);
        };
        guarded.async_call(
            io.get_executor(), listens,
            asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e, int) {
                over = true;
                thrown = e;
            }));
        run(io);
        REQUIRE_FALSE(over);
        signal.emit(type);
        run(io); // the clock stands still
        REQUIRE(over);
        CHECK(failure(thrown).code() == asio::error::operation_aborted);
        return seen;
    };
    for (auto const type : {asio::cancellation_type::total, asio::cancellation_type::partial,
                            asio::cancellation_type::terminal}) {
        INFO("type " << static_cast<int>(type));
        CHECK(stops_for(bare, type) == type);
        CHECK(stops_for(timed, type) == type);
        CHECK(stops_for(hedged, type) == type);
        CHECK(stops_for(within, type) == type);
        stops_for(at_once, type);
    }
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a timeout cancels the operation and reports it apart from cancellation") {
    asio::io_context io;
    policy const guarded{timeout{100ms}};
    guarded_call<int> late, cancelled;
    late.start(io, guarded, &forever);
    cancelled.start(io, guarded, &forever);
    pass(io, 99ms);
    CHECK(late.running());
    cancelled.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(cancelled.failed_with(asio::error::operation_aborted));
    pass(io, 1ms);
    CHECK(late.failed_with(error::deadline_exceeded));
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a call that its caller cancelled stays cancelled when its time is up meanwhile") {
    asio::io_context io;
    policy const guarded{timeout{100ms}};
    auto winds_down = []() -> asio::awaitable<int> {
        co_await asio::this_coro::throw_if_cancelled(false);
        timer t(co_await asio::this_coro::executor);
        t.expires_at(policy_clock::now() + 24h);
        auto waited = co_await t.async_wait(asio::as_tuple(asio::deferred));
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await test::idle(200ms);
        throw boost::system::system_error(std::get<0>(waited));
    };
    guarded_call<int> call;
    call.start(io, guarded, winds_down);
    pass(io, 50ms);
    call.signal.emit(asio::cancellation_type::terminal);
    pass(io, 100ms);
    CHECK(call.running());
    pass(io, 200ms);
    CHECK(call.failed_with(asio::error::operation_aborted));
}

TEST_CASE("an operation that succeeds although its time is up has succeeded") {
    asio::io_context io;
    policy const guarded{timeout{100ms}};
    auto stubborn = []() -> asio::awaitable<int> {
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await test::idle(200ms);
        co_return 5;
    };
    guarded_call<int> call;
    call.start(io, guarded, stubborn);
    pass(io, 150ms);
    CHECK(call.running()); // joined, not abandoned
    pass(io, 100ms);
    CHECK(call.value == 5);
}

TEST_CASE("an abandoned operation goes on alone, with what it needs") {
    asio::io_context io;
    bulkhead b(io, 1);
    policy const guarded{timeout{100ms}.abandon(true), b};
    auto const witness = std::make_shared<int>(0);
    auto stubborn = [witness](context const& c) -> asio::awaitable<int> {
        auto const kept = witness; // the closure is the policy's copy
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await test::idle(200ms);
        *kept = static_cast<int>(c.attempt());
        co_return 5;
    };
    guarded_call<int> late, in_time;
    late.start(io, guarded, stubborn);
    pass(io, 100ms);
    CHECK(late.failed_with(error::deadline_exceeded));
    CHECK(b.available() == 1);
    CHECK(*witness == 0);
    in_time.start(io, guarded, flaky{0});
    pass(io, 200ms);
    CHECK(in_time.value == 1);
    CHECK(*witness == 1);
    CHECK(witness.use_count() == 2); // this, and the one in `stubborn`
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("operations of every kind can be abandoned, and end in time") {
    asio::io_context io;
    policy const guarded{timeout{100ms}.abandon(true)};
    timer t(io.get_executor());
    t.expires_at(policy_clock::now() + 50ms);
    auto waits = [&](auto token) { return t.async_wait(std::move(token)); };
    int ran = 0;
    auto nothing = [&](context const&) -> asio::awaitable<void> {
        co_await test::idle(50ms);
        ++ran;
    };
    auto const is_over = [](failure const& why) { return why.code() == error::deadline_exceeded; };
    int abandoned = 0;
    auto body = [&]() -> asio::awaitable<void> {
        co_await guarded(std::ref(waits));
        co_await guarded(nothing);
        for (int i = 0; i < 2; ++i) {
            try {
                t.expires_at(policy_clock::now() + 1h);
                if (i == 0) co_await guarded(std::ref(waits));
                auto hangs = []() -> asio::awaitable<void> { co_await test::idle(1h); };
                if (i == 1) co_await guarded(hangs);
            } catch (boost::system::system_error const&) {
                abandoned += is_over(failure(std::current_exception()));
            }
        }
    };
    auto done = asio::co_spawn(io, body(), asio::use_future);
    pass(io, 300ms);
    REQUIRE(done.wait_for(0s) == std::future_status::ready);
    done.get();
    CHECK(ran == 1);
    CHECK(abandoned == 2);
    CHECK(policy_clock::pending() == 0); // both have heard of it
}

TEST_CASE("an abandoned operation hears that it was, and may go with its context") {
    bool cancelled = false;
    guarded_call<int> first, second;
    {
        asio::io_context io;
        policy const guarded{timeout{10ms}.abandon(true)};
        auto listens = [&]() -> asio::awaitable<int> {
            try {
                co_await test::idle(1h);
            } catch (boost::system::system_error const&) {
                cancelled = true;
            }
            co_return 1;
        };
        first.start(io, guarded, listens);
        pass(io, 10ms);
        CHECK(first.failed_with(error::deadline_exceeded));
        CHECK(cancelled);
        second.start(io, guarded, &forever);
        run(io);
    }
    CHECK(second.running());
}

TEST_CASE("nested deadlines take the earliest, and an expired one starts nothing") {
    asio::io_context io;
    policy const outer{timeout{100ms}, timeout{300ms}};
    guarded_call<int> call;
    call.start(io, outer, &forever);
    pass(io, 100ms);
    CHECK(call.failed_with(error::deadline_exceeded));

    int started = 0;
    policy const slow_start{timeout{100ms}};
    policy const inner{timeout{1s}};
    auto counts = [&]() -> asio::awaitable<int> {
        ++started;
        co_return 1;
    };
    auto op = [&](context const& c) -> asio::awaitable<int> {
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await test::idle(200ms);
        co_return co_await inner(counts, c);
    };
    guarded_call<int> nested;
    nested.start(io, slow_start, op);
    pass(io, 300ms);
    CHECK(nested.failed_with(error::deadline_exceeded));
    CHECK(started == 0);
}

TEST_CASE("the layers' own errors and permits") {
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(1, 1s).burst(2));
    bulkhead b(io, 1);
    policy const guarded{timeout{500ms}, l, b};
    guarded_call<int> holds, waits, limited;
    holds.start(io, guarded, &forever);
    waits.start(io, guarded, &forever);
    limited.start(io, guarded, flaky{0});
    run(io);
    CHECK(limited.failed_with(error::rate_limited)); // would have to wait for a second
    CHECK(b.waiting() == 1);
    pass(io, 500ms);
    CHECK(holds.failed_with(error::deadline_exceeded));
    CHECK(waits.failed_with(error::deadline_exceeded));
    CHECK(b.available() == 1);
}

TEST_CASE("a limiter whose context has gone refuses at once") {
    std::optional<asio::io_context> its_own(std::in_place);
    limiter l(*its_own, tidegate::rate_limiter_options().rate(1, 1s));
    its_own.reset();
    asio::io_context io;
    policy const guarded{l};
    guarded_call<int> call;
    call.start(io, guarded, flaky{0});
    run(io);
    CHECK(call.failed_with(error::closed));
}

TEST_CASE("a breaker stays open for as long as what it heard of asks for") {
    asio::io_context io;
    auto const an_hour = tidegate::rate_limiter_options().rate(1, 1h).start_empty(true);
    limiter l(io, tidegate::rate_limiter_options(an_hour).max_wait(0s));
    breaker b(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(1s).jitter(0));
    policy const guarded{break_if(b, [](failure const&) { return true; }), l};
    guarded_call<int> call;
    call.start(io, guarded, flaky{0});
    run(io);
    CHECK(call.failed_with(error::rate_limited));
    CHECK(b.retry_after() == 1h);
}

TEST_CASE("a permit of the rate goes back when a layer further in refuses") {
    asio::io_context io;
    limiter outer(io, tidegate::rate_limiter_options().rate(10, 1s));
    limiter inner(io, tidegate::rate_limiter_options().rate(1, 1h).max_wait(0s).start_empty(true));
    policy const guarded{outer, inner};
    guarded_call<int> call;
    call.start(io, guarded, flaky{0});
    run(io);
    CHECK(call.failed_with(error::rate_limited));
    CHECK(outer.available() == 10);
}

TEST_CASE("retries pause in between, and stop when it works") {
    asio::io_context io;
    std::vector<std::string> log;
    policy const guarded{retry{retry_options()
                                   .max_attempts(4)
                                   .base(100ms)
                                   .jitter(tidegate::jitter::none)
                                   .on_retry([&](tidegate::retry_event const& e) {
                                       log.push_back(std::to_string(e.attempt) + " " +
                                                     std::to_string(e.pause / 1ms));
                                   })}};
    guarded_call<int> call;
    call.start(io, guarded, flaky{2});
    pass(io, 299ms);
    CHECK(call.running());
    pass(io, 1ms);
    CHECK(call.value == 3);
    CHECK(log == std::vector<std::string>{"1 100", "2 200"});
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("the last real failure comes out, the others are told") {
    asio::io_context io;
    std::vector<error_code> told;
    policy const guarded{retry{
        retry_options().max_attempts(3).base(1ms).on_give_up([&](tidegate::give_up_event const& e) {
            CHECK(e.reason == tidegate::give_up_reason::attempts_used);
            CHECK(e.attempts == 3);
            told.assign(e.errors.begin(), e.errors.end());
        })}};
    int attempt = 0;
    auto op = [&](context const& c) -> asio::awaitable<int> {
        CHECK(c.attempt() == static_cast<std::uint32_t>(++attempt));
        CHECK(c.last_error() == (attempt == 1 ? error_code() : told_so_far(attempt)));
        throw boost::system::system_error(told_so_far(attempt + 1));
        co_return 0;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    finish(io);
    CHECK(call.failed_with(told_so_far(4)));
    CHECK(told == std::vector<error_code>{told_so_far(2), told_so_far(3), told_so_far(4)});
}

TEST_CASE("of many failures the last eight are told, in their order") {
    for (int const all : {8, 11, 16, 19}) {
        asio::io_context io;
        std::vector<error_code> told, last;
        policy const guarded{retry{retry_options()
                                       .max_attempts(static_cast<std::uint32_t>(all))
                                       .base(1ms)
                                       .on_give_up([&](tidegate::give_up_event const& e) {
                                           CHECK(e.attempts == static_cast<std::uint32_t>(all));
                                           told.assign(e.errors.begin(), e.errors.end());
                                       })}};
        int attempt = 0;
        auto op = [&]() -> asio::awaitable<int> {
            throw boost::system::system_error(told_so_far(++attempt));
            co_return 0;
        };
        guarded_call<int> call;
        call.start(io, guarded, op);
        finish(io);
        for (int i = all - 7; i <= all; ++i) last.push_back(told_so_far(i));
        CHECK(told == last);
    }
}

TEST_CASE("ambiguous failures are retried only for idempotent operations") {
    for (bool const idempotent : {false, true}) {
        asio::io_context io;
        policy const guarded{retry{retry_options().base(1ms).idempotent(idempotent)}};
        guarded_call<int> call;
        call.start(io, guarded, flaky{1, asio::error::connection_reset});
        finish(io);
        if (idempotent) CHECK(call.value == 2);
        else CHECK(call.failed_with(asio::error::connection_reset));
    }
}

TEST_CASE("results can be retried too") {
    asio::io_context io;
    struct not_yet {
        bool operator()(failure const&) const { return false; }
        bool operator()(int value) const { return value < 3; }
    };
    policy const guarded{
        tidegate::basic_retry<policy_clock, not_yet>(retry_options().max_attempts(5).base(1ms))};
    guarded_call<int> call;
    call.start(io, guarded, flaky{0});
    finish(io);
    CHECK(call.value == 3);
}

TEST_CASE("a retry never pauses past the deadline") {
    asio::io_context io;
    std::optional<tidegate::give_up_reason> why;
    policy const guarded{timeout{1s},
                         retry{retry_options()
                                   .max_attempts(10)
                                   .base(600ms)
                                   .jitter(tidegate::jitter::none)
                                   .on_give_up([&](auto const& e) { why = e.reason; })}};
    guarded_call<int> call;
    call.start(io, guarded, flaky{10});
    auto const start = policy_clock::now();
    pass(io, 700ms);
    CHECK(call.failed_with(refused)); // the second pause of 1.2 s does not fit
    CHECK(call.at - start == 600ms);
    CHECK(why == tidegate::give_up_reason::out_of_time);
}

TEST_CASE("each attempt has its own timeout, all together another") {
    asio::io_context io;
    policy const guarded{retry{retry_options()
                                   .max_attempts(10)
                                   .base(10ms)
                                   .multiplier(1)
                                   .jitter(tidegate::jitter::none)
                                   .attempt_timeout(100ms)
                                   .total_timeout(270ms)
                                   .idempotent(true)}};
    int attempts = 0;
    auto op = [&]() -> asio::awaitable<int> {
        ++attempts;
        co_await test::idle(24h);
        co_return 1;
    };
    guarded_call<int> call;
    auto const start = policy_clock::now();
    call.start(io, guarded, op);
    finish(io);
    CHECK(attempts == 3);
    CHECK(call.failed_with(error::deadline_exceeded));
    CHECK(call.at - start == 270ms);
}

TEST_CASE("cancellation ends a pause at once and refunds the budget") {
    asio::io_context io;
    auto budget = std::make_shared<tidegate::retry_budget>(0.0, 5, 0);
    policy const guarded{
        retry{retry_options().base(1h).jitter(tidegate::jitter::none).cap(1h).budget(budget)}};
    guarded_call<int> call;
    call.start(io, guarded, flaky{5});
    run(io);
    CHECK(budget->balance() == 4);
    call.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(budget->balance() == 5);
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a layer that knows when to come back is not asked earlier") {
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(1, 10s).max_wait(0s));
    policy const guarded{
        retry{retry_options().base(1ms).jitter(tidegate::jitter::none).max_attempts(2)}, l};
    CHECK(l.try_acquire());
    guarded_call<int> call;
    auto const start = policy_clock::now();
    call.start(io, guarded, flaky{0});
    finish(io);
    CHECK(call.value == 1);
    CHECK(call.at - start == 10s);
}

TEST_CASE("a delay that the failure asks for is kept, a negative one ends it") {
    asio::io_context io;
    std::optional<std::chrono::nanoseconds> hint = 3s;
    auto ask = [&](failure const&) { return hint; };
    policy const guarded{retry{
        retry_options().base(1ms).jitter(tidegate::jitter::none).max_attempts(2).delay_from(ask)}};
    guarded_call<int> waits, stops;
    auto const start = policy_clock::now();
    waits.start(io, guarded, flaky{1});
    run(io);
    hint = -1ns;
    stops.start(io, guarded, flaky{1});
    finish(io);
    CHECK(waits.at - start == 3s);
    CHECK(waits.value == 2);
    CHECK(stops.failed_with(refused));
}

TEST_CASE("the time for which a permit was waited for is not waited again") {
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(1, 10s));
    breaker b(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(1s).jitter(0));
    policy const breaks{b, l};
    policy const repeats{retry{retry_options().base(1ms).jitter(tidegate::jitter::none)}, l};
    CHECK(l.try_acquire());
    guarded_call<int> call;
    call.start(io, breaks, flaky{1});
    pass(io, 10s);
    CHECK(call.failed_with(refused));
    CHECK(b.retry_after() == 1s);
    guarded_call<int> again;
    again.start(io, repeats, flaky{1});
    pass(io, 10s);
    l.set_rate(1000, 1s); // nothing to wait for any more, but for the pause
    auto const start = policy_clock::now();
    finish(io);
    CHECK(again.value == 2);
    CHECK(again.at - start < 10ms);
}

TEST_CASE("who is never to come back gives up at once") {
    asio::io_context io;
    breaker b;
    b.force_open();
    std::vector<tidegate::give_up_reason> reasons;
    auto settings = retry_options().attempt_timeout(1s).on_give_up(
        [&](tidegate::give_up_event const& e) { reasons.push_back(e.reason); });
    policy const forced{retry{settings}, b};
    auto never = [](failure const&) { return std::chrono::nanoseconds::max(); };
    policy const told{retry{settings.delay_from(never)}};
    guarded_call<int> refused_call, failed;
    refused_call.start(io, forced, flaky{0});
    failed.start(io, told, flaky{1});
    run(io);
    CHECK(refused_call.failed_with(error::circuit_open));
    CHECK(failed.failed_with(refused));
    CHECK(reasons == std::vector(2, tidegate::give_up_reason::not_retryable));
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("those who were told the same time do not come back together") {
    asio::io_context io;
    breaker b(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(3s).jitter(0));
    std::mt19937_64 random(7);
    auto const settings = retry_options().base(1s).random([&] { return random(); });
    policy const patient{retry{settings}, b};
    policy const hasty{timeout{3s + 1ns}, retry{settings}, b};
    b.trip();
    std::deque<guarded_call<int>> calls(3);
    auto const start = policy_clock::now();
    calls[0].start(io, patient, flaky{0});
    calls[1].start(io, patient, flaky{0});
    calls[2].start(io, hasty, flaky{0});
    pass(io, 4s);
    for (auto const& call : calls) REQUIRE(call.value == 1);
    CHECK(calls[0].at - start > 3s);
    CHECK(calls[1].at - start > 3s);
    CHECK(calls[0].at != calls[1].at);
    CHECK(calls[2].at - start == 3s); // in time rather than apart
}

TEST_CASE("a retry inside another begins anew each time") {
    asio::io_context io;
    std::vector<std::uint32_t> pauses;
    auto settings = retry_options().max_attempts(3).base(1ms).jitter(tidegate::jitter::none);
    auto told = [&](tidegate::retry_event const& e) {
        pauses.push_back(static_cast<std::uint32_t>(e.pause / 1ms));
    };
    std::vector<std::size_t> known;
    auto gave_up = [&](tidegate::give_up_event const& e) { known.push_back(e.errors.size()); };
    policy const guarded{retry{settings},
                         retry{retry_options(settings).on_retry(told).on_give_up(gave_up)}};
    flaky const op{100};
    guarded_call<int> call;
    call.start(io, guarded, op);
    finish(io);
    CHECK(call.failed_with(refused));
    CHECK(*op.attempts == 9);
    CHECK(pauses == std::vector<std::uint32_t>{1, 2, 1, 2, 1, 2});
    CHECK(known == std::vector<std::size_t>{3, 3, 3});
}

TEST_CASE("attempts stay within the budget, also through nested retries that share it") {
    asio::io_context io;
    auto budget = std::make_shared<tidegate::retry_budget>(0.2, 10, 0);
    auto settings = retry_options().max_attempts(3).base(1ms).budget(budget);
    policy const outer{retry{settings}};
    policy const both{retry{settings}, retry{settings}};
    policy const inner{retry{settings}};
    int attempts = 0;
    auto fails = [&]() -> asio::awaitable<int> {
        ++attempts;
        throw boost::system::system_error(refused);
        co_return 0;
    };
    auto nested = [&](context const& c) -> asio::awaitable<int> {
        co_return co_await inner(fails, c);
    };
    constexpr int calls = 1000;
    std::deque<guarded_call<int>> all(2 * calls);
    for (int i = 0; i < calls; ++i) {
        all[static_cast<std::size_t>(2 * i)].start(io, outer, nested);
        all[static_cast<std::size_t>(2 * i + 1)].start(io, both, fails);
    }
    finish(io);
    for (auto const& call : all) REQUIRE(call.failed_with(refused));
    CHECK(attempts <= 1.2 * 2 * calls + 10);
    CHECK(attempts >= 1.19 * 2 * calls);
}

TEST_CASE("a fallback answers failures, never cancellation") {
    asio::io_context io;
    failure seen;
    auto answer = [&](failure const& why) {
        seen = why;
        return -1;
    };
    policy const guarded{fallback{answer}};
    guarded_call<int> good, bad, cancelled;
    good.start(io, guarded, flaky{0});
    bad.start(io, guarded, flaky{1});
    cancelled.start(io, guarded, &forever);
    run(io);
    CHECK(good.value == 1);
    CHECK(bad.value == -1);
    CHECK(seen.code() == refused);
    cancelled.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(cancelled.failed_with(asio::error::operation_aborted));
}

TEST_CASE("a timeout outside bounds a fallback that is an operation, too") {
    asio::io_context io;
    auto hangs = [](failure const&) -> asio::awaitable<int> { co_return co_await forever(); };
    policy const guarded{timeout{100ms}, fallback{hangs}};
    guarded_call<int> late, cancelled;
    late.start(io, guarded, flaky{1});
    cancelled.start(io, guarded, flaky{1});
    pass(io, 99ms);
    CHECK(late.running());
    cancelled.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(cancelled.failed_with(asio::error::operation_aborted));
    pass(io, 1ms);
    CHECK(late.failed_with(error::deadline_exceeded));
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a fallback can be an operation, for some failures only, and fail itself") {
    asio::io_context io;
    auto second_source = [](failure const&) -> asio::awaitable<int> {
        co_await test::idle(10ms);
        co_return 42;
    };
    auto when = [](failure const& f) { return f.code() == refused; };
    policy const guarded{fallback{second_source, when}};
    auto throws = [](failure const&) -> int { throw std::runtime_error("no answer either"); };
    policy const broken{fallback{throws}};
    guarded_call<int> answered, other, failed;
    answered.start(io, guarded, flaky{1});
    other.start(io, guarded, flaky{1, asio::error::eof});
    failed.start(io, broken, flaky{1});
    pass(io, 10ms);
    CHECK(answered.value == 42);
    CHECK(other.failed_with(asio::error::eof));
    REQUIRE(failed.why.exception());
    CHECK_THROWS_WITH(std::rethrow_exception(failed.why.exception()), "no answer either");
}

TEST_CASE("a breaker hears of failures, not of cancellations and refusals") {
    asio::io_context io;
    breaker b(
        tidegate::circuit_breaker_options().consecutive_failures(2).open_duration(1s).jitter(0));
    limiter l(io, tidegate::rate_limiter_options().rate(1, 1h).burst(4).max_wait(0s));
    policy const guarded{timeout{100ms}, b, l};
    std::deque<guarded_call<int>> calls(7);
    calls[0].start(io, guarded, flaky{9});
    run(io);
    calls[1].start(io, guarded, &forever);
    run(io);
    calls[1].signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(b.state() == tidegate::breaker_state::closed);
    calls[2].start(io, guarded, flaky{0});
    run(io);
    calls[3].start(io, guarded, flaky{9});
    run(io);
    calls[4].start(io, guarded, flaky{9});
    run(io);
    CHECK(calls[4].failed_with(error::rate_limited));
    CHECK(b.state() == tidegate::breaker_state::closed);
    l.refund();
    calls[5].start(io, guarded, &forever); // times out, which is a failure
    pass(io, 100ms);
    CHECK(b.state() == tidegate::breaker_state::open);
    calls[6].start(io, guarded, flaky{0});
    run(io);
    CHECK(calls[6].failed_with(error::circuit_open));
}

TEST_CASE("a call that got no place in time was never made, whatever the code says") {
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(1, 1h).burst(4));
    breaker b(tidegate::circuit_breaker_options().consecutive_failures(1));
    bulkhead room(io, 1);
    auto judge = [](failure const& why) {
        CHECK(why.code() == error::deadline_exceeded);
        CHECK(why.is_refusal());
        CHECK_FALSE(why.is_ambiguous());
        return -1;
    };
    policy const guarded{fallback{judge}, timeout{100ms}, b, l, room};
    policy const patient{retry{retry_options().base(50ms).jitter(tidegate::jitter::none)},
                         timeout{100ms}, room};
    policy const closing{b, room};
    auto held = room.try_acquire();
    guarded_call<int> waits, again, too_late;
    waits.start(io, guarded, flaky{0});
    again.start(io, patient, flaky{0});
    pass(io, 100ms);
    CHECK(waits.value == -1);
    CHECK(b.state() == tidegate::breaker_state::closed);
    CHECK(l.available() == 4);
    CHECK(again.running()); // although it is not idempotent
    held.release();
    pass(io, 50ms);
    CHECK(again.value == 1);
    room.close();
    too_late.start(io, closing, flaky{0});
    run(io);
    CHECK(too_late.failed_with(error::closed));
    CHECK(b.state() == tidegate::breaker_state::closed);
}

TEST_CASE("a probe that got no place in time is no evidence") {
    asio::io_context io;
    breaker b(tidegate::circuit_breaker_options().permitted_probes(1).open_duration(1s).jitter(0));
    bulkhead room(io, bulkhead::options().capacity(1).max_wait(10ms));
    policy const guarded{b, room};
    b.trip();
    pass(io, 1s);
    auto held = room.try_acquire();
    guarded_call<int> waits, probes;
    waits.start(io, guarded, flaky{0});
    pass(io, 10ms);
    CHECK(waits.failed_with(error::deadline_exceeded));
    CHECK(b.state() == tidegate::breaker_state::half_open);
    held.release();
    probes.start(io, guarded, flaky{0});
    run(io);
    CHECK(probes.value == 1);
    CHECK(b.state() == tidegate::breaker_state::closed);
}

TEST_CASE("calls that got no place in time do not lower an adaptive limit") {
    asio::io_context io;
    auto const ten = tidegate::concurrency_limit_options().initial(10);
    tidegate::basic_adaptive_limiter<policy_clock> tide(
        tidegate::adaptive_limiter_options().limit(ten).window_samples(10));
    bulkhead room(io, bulkhead::options().capacity(1).max_wait(0s));
    auto held = room.try_acquire();
    policy const guarded{tide, room};
    for (int i = 0; i < 10; ++i) {
        guarded_call<int> call;
        call.start(io, guarded, flaky{0});
        run(io);
        CHECK(call.failed_with(error::deadline_exceeded));
    }
    CHECK(tide.limit() == 10);
}

TEST_CASE("chaos stands for what is called: its failures are no refusals") {
    asio::io_context io;
    breaker b(tidegate::circuit_breaker_options().consecutive_failures(1));
    auto const fails = tidegate::testing::chaos_options().error(1, refused);
    auto const slowly = tidegate::testing::chaos_options().error(1, refused).latency(1, 1ms, 1ms);
    for (auto const& settings : {fails, slowly}) {
        policy const guarded{b, tidegate::testing::basic_chaos<policy_clock>{settings}};
        b.close();
        guarded_call<int> call;
        call.start(io, guarded, flaky{0});
        pass(io, 1ms);
        CHECK(call.failed_with(refused));
        CHECK(b.state() == tidegate::breaker_state::open);
    }
}

TEST_CASE("one breaker serves calls of different results, with predicates of their own") {
    asio::io_context io;
    breaker b(tidegate::circuit_breaker_options().consecutive_failures(2).jitter(0));
    struct bad_number {
        bool operator()(failure const&) const { return false; }
        bool operator()(int value) const { return value < 0; }
    };
    policy const numbers{break_if(b, bad_number{})};
    policy const texts{b};
    guarded_call<int> number;
    guarded_call<std::string> text, refused_text;
    number.start(io, numbers, [] { return []() -> asio::awaitable<int> { co_return -1; }(); });
    run(io);
    CHECK(number.value == -1);
    text.start(io, texts, []() -> asio::awaitable<std::string> {
        throw std::runtime_error("down");
        co_return "";
    });
    run(io);
    CHECK(b.state() == tidegate::breaker_state::open);
    refused_text.start(io, texts, []() -> asio::awaitable<std::string> { co_return "x"; });
    run(io);
    CHECK(refused_text.failed_with(error::circuit_open));
}

TEST_CASE("a retry outside an open breaker waits until it may close") {
    asio::io_context io;
    breaker b(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(3s).jitter(0));
    policy const guarded{
        retry{retry_options().base(1ms).jitter(tidegate::jitter::none).max_attempts(3)}, b};
    guarded_call<int> call;
    auto const start = policy_clock::now();
    call.start(io, guarded, flaky{1});
    finish(io);
    CHECK(call.value == 2);
    CHECK(call.at - start == 1ms + 3s - 1ms);
}

TEST_CASE("a predicate or listener that throws fails the call and loses nothing") {
    asio::io_context io;
    bulkhead b(io, 1);
    auto budget = std::make_shared<tidegate::retry_budget>(0.0, 5, 0);
    policy const guarded{b, retry{retry_options().base(1ms).budget(budget).on_retry(
                                [](auto const&) { throw std::runtime_error("listener"); })}};
    guarded_call<int> call;
    call.start(io, guarded, flaky{1});
    finish(io);
    REQUIRE(call.why.exception());
    CHECK_THROWS_WITH(std::rethrow_exception(call.why.exception()), "listener");
    CHECK(b.available() == 1);
    CHECK(budget->balance() == 5);
}

TEST_CASE("settings can be changed while calls go on") {
    asio::io_context io;
    timeout limit{1s};
    retry attempts{retry_options().max_attempts(1)};
    policy const guarded{limit, attempts};
    guarded_call<int> before, after;
    before.start(io, guarded, &forever);
    run(io);
    limit.set(10ms);
    attempts.set(retry_options().max_attempts(2).base(1ms));
    after.start(io, guarded, flaky{1});
    pass(io, 10ms);
    CHECK(after.value == 2);
    CHECK(before.running());
    pass(io, 1s);
    CHECK(before.failed_with(error::deadline_exceeded));
}

TEST_CASE("the context may go in the middle of any layer") {
    auto budget = std::make_shared<tidegate::retry_budget>();
    for (int where = 0; where < 4; ++where) {
        guarded_call<int> call;
        asio::io_context io;
        limiter l(io, tidegate::rate_limiter_options().rate(1, 1h));
        bulkhead b(io, 1);
        policy const guarded{timeout{24h}, retry{retry_options().base(1h).budget(budget)}, l, b};
        if (where == 1) CHECK(l.try_acquire());
        auto held = where == 2 ? b.try_acquire() : bulkhead::permit();
        if (where == 3) call.start(io, guarded, flaky{1});
        else call.start(io, guarded, &forever);
        run(io);
        CHECK(call.running());
    }
}

TEST_CASE("a policy describes itself, outermost first") {
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(100, 1s).burst(20));
    bulkhead b(io, 8);
    policy const guarded{timeout{1500ms}, retry{}, l, b};
    CHECK(guarded.named("backend").describe() ==
          "backend: timeout 1.5 s > retry 3 attempts, 100 ms to 30 s > rate_limiter 100 per 1 s, "
          "burst 20 > bulkhead 8");
}

TEST_CASE("a context remembers four budgets, and no call pays into one of them twice") {
    std::array<tidegate::retry_budget, 5> budgets;
    context c("");
    for (std::size_t i = 0; i < 4; ++i) CHECK(c.first_use_of(budgets[i]));
    for (auto const& any : budgets) CHECK_FALSE(c.first_use_of(any));
}

TEST_CASE("settings out of range are refused") {
    CHECK_THROWS_AS(timeout{0s}, std::invalid_argument);
    CHECK_THROWS_AS(timeout{-1s}, std::invalid_argument);
    CHECK_THROWS_AS(retry_options().max_attempts(0), std::invalid_argument);
    CHECK_THROWS_AS(retry_options().base(0s), std::invalid_argument);
    CHECK_THROWS_AS(retry_options().multiplier(0.9), std::invalid_argument);
    CHECK_THROWS_AS(retry_options().cap(-1s), std::invalid_argument);
    CHECK_THROWS_AS(tidegate::retry_budget(-0.1), std::invalid_argument);
    CHECK_THROWS_AS(tidegate::retry_budget(11), std::invalid_argument);
    CHECK_THROWS_AS(tidegate::retry_budget(0.2, 2'000'000'000), std::invalid_argument);
}

} // namespace test
