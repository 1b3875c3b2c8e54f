// SPDX-License-Identifier: BSL-1.0
// Attempts that race each other.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

namespace test {

using tidegate::error;
using tidegate::error_code;
using tidegate::hedge_options;
using tidegate::policy;

using hedge = tidegate::basic_hedge<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;
using retry = tidegate::basic_retry<policy_clock>;
using tidegate::retry_options;
using timeout = tidegate::basic_timeout<policy_clock>;

namespace {

// What each attempt does: how long it takes, and whether it succeeds.
struct plan {
    struct step {
        policy_clock::duration takes;
        bool succeeds = true;
    };
    std::vector<step> steps;
    std::size_t started = 0;
    std::size_t cancelled = 0;

    // Fails with the number of the attempt, or results in it.
    asio::awaitable<int> run() {
        std::size_t const number = ++started;
        step const mine = steps.at(number - 1);
        try {
            co_await test::idle(mine.takes);
        } catch (boost::system::system_error const&) {
            ++cancelled;
            throw;
        }
        if (!mine.succeeds) {
            throw boost::system::system_error(static_cast<int>(number),
                                              boost::system::generic_category());
        }
        co_return static_cast<int>(number);
    }
    auto operation() {
        return [this] { return run(); };
    }
};

hedge_options after(policy_clock::duration time) {
    return hedge_options().delay(time).idempotent(true);
}

} // namespace

TEST_CASE("an answer in time is not hedged") {
    asio::io_context io;
    policy const guarded{hedge{after(10ms)}};
    plan p{{{9ms}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 9ms);
    CHECK(call.value == 1);
    CHECK(p.started == 1);
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a late answer is overtaken, and its attempt cancelled and waited for") {
    asio::io_context io;
    hedge const hedging{after(10ms)};
    policy const guarded{hedging};
    plan p{{{1h}, {5ms}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 14ms);
    CHECK(call.running());
    pass(io, 1ms);
    CHECK(call.value == 2);
    CHECK(p.cancelled == 1);
    CHECK(policy_clock::pending() == 0);
    CHECK(hedging.statistics().hedges == 1);
    CHECK(hedging.statistics().won == 1);
}

TEST_CASE("an error does not win while another attempt may succeed") {
    asio::io_context io;
    policy const guarded{hedge{after(10ms).max_hedges(2)}};
    plan p{{{25ms}, {2ms, false}, {1h}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 25ms);
    CHECK(call.value == 1);
    CHECK(p.started == 3);
    CHECK(p.cancelled == 1);
}

TEST_CASE("if all attempts fail, so does the call, with the last failure") {
    asio::io_context io;
    policy const guarded{hedge{after(10ms)}};
    plan p{{{15ms, false}, {7ms, false}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 1h);
    CHECK(call.failed_with(error_code(2, boost::system::generic_category())));
}

TEST_CASE("an attempt that fails early is for a retry, not a hedge") {
    asio::io_context io;
    policy const guarded{hedge{after(10ms)}};
    plan p{{{1ms, false}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 1ms);
    CHECK(call.failed_with(error_code(1, boost::system::generic_category())));
    CHECK(p.started == 1);
}

TEST_CASE("nothing is hedged that is not idempotent") {
    asio::io_context io;
    policy const guarded{hedge{hedge_options().delay(10ms)}};
    plan p{{{20ms}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 20ms);
    CHECK(call.value == 1);
    CHECK(guarded.describe() == "hedge 1 after 10 ms (off: not idempotent)");
}

TEST_CASE("what is not idempotent runs in its caller's coroutine") {
    asio::io_context io; // which several threads might run: attempts that race get strands of it
    policy const guarded{hedge{hedge_options().delay(10ms)}};
    bool same = false;
    auto op = [&]() -> asio::awaitable<int> {
        same = co_await asio::this_coro::executor == io.get_executor();
        co_return 1;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    run(io);
    CHECK(call.value == 1);
    CHECK(same);
}

TEST_CASE("the failure of what is not idempotent passes through, and counts as a call") {
    asio::io_context io;
    hedge const hedging{hedge_options()};
    policy const guarded{hedging};
    guarded_call<int> call;
    SECTION("a code") {
        plan p{{{1ms, false}}};
        call.start(io, guarded, p.operation());
        pass(io, 1ms);
        CHECK(call.failed_with(error_code(1, boost::system::generic_category())));
    }
    SECTION("an exception") {
        auto op = []() -> asio::awaitable<int> {
            throw std::domain_error("no");
            co_return 1;
        };
        call.start(io, guarded, op);
        run(io);
        CHECK_THROWS_AS(call.why.rethrow(), std::domain_error);
    }
    CHECK(hedging.statistics().calls == 1);
}

TEST_CASE("cancelling a call that is not idempotent cancels its operation") {
    asio::io_context io;
    bulkhead b(io, 1);
    hedge const hedging{hedge_options()};
    policy const guarded{hedging, b};
    guarded_call<int> call;
    SECTION("that listens") {
        plan p{{{1h}}};
        call.start(io, guarded, p.operation());
        run(io);
        call.signal.emit(asio::cancellation_type::terminal);
        run(io);
        CHECK(call.failed_with(asio::error::operation_aborted));
        CHECK(p.cancelled == 1);
    }
    SECTION("that then fails with something else") {
        auto op = []() -> asio::awaitable<int> {
            try {
                co_await test::idle(1h);
            } catch (boost::system::system_error const&) {
                throw boost::system::system_error(asio::error::broken_pipe);
            }
            co_return 1;
        };
        call.start(io, guarded, op);
        run(io);
        call.signal.emit(asio::cancellation_type::terminal);
        run(io);
        CHECK(call.failed_with(asio::error::broken_pipe));
    }
    SECTION("that succeeds all the same") {
        auto op = []() -> asio::awaitable<int> {
            try {
                co_await test::idle(1h);
            } catch (boost::system::system_error const&) {
                co_return 7;
            }
            co_return 1;
        };
        call.start(io, guarded, op);
        run(io);
        call.signal.emit(asio::cancellation_type::terminal);
        run(io);
        CHECK(call.value == 7);
    }
    CHECK(hedging.statistics().calls == 1);
    CHECK(b.available() == 1);
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("what is not idempotent has a context of its own") {
    asio::io_context io;
    // The timeout inside is over after each attempt; the retry's context stays as it was.
    policy const guarded{retry{retry_options().base(1ms).jitter(tidegate::jitter::none)},
                         hedge{hedge_options()}, timeout{50ms}};
    std::vector<std::pair<std::uint32_t, policy_clock::duration>> seen;
    auto op = [&](context const& c) -> asio::awaitable<int> {
        seen.emplace_back(c.attempt(), c.remaining());
        co_await test::idle(20ms);
        if (seen.size() < 3) {
            throw boost::system::system_error(asio::error::connection_refused);
        }
        co_return 1;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    finish(io);
    CHECK(call.value == 1);
    CHECK(seen == decltype(seen){{1, 50ms}, {2, 50ms}, {3, 50ms}});
}

TEST_CASE("without a delay all attempts start at once") {
    asio::io_context io;
    policy const guarded{hedge{after(0ms)}};
    CHECK(guarded.describe() == "hedge 1 after 0 ns");
    plan p{{{20ms}, {10ms}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    run(io);
    CHECK(p.started == 2);
    pass(io, 10ms);
    CHECK(call.value == 2);
}

TEST_CASE("cancelling the call cancels all attempts and waits for them") {
    asio::io_context io;
    bulkhead b(io, 4);
    policy const guarded{hedge{after(10ms)}, b};
    plan p{{{1h}, {1h}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 20ms);
    CHECK(b.available() == 2);
    call.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
    CHECK(p.cancelled == 2);
    CHECK(b.available() == 4);
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("a loser that does not listen is waited for") {
    asio::io_context io;
    policy const guarded{hedge{after(10ms)}};
    int started = 0;
    auto op = [&]() -> asio::awaitable<int> {
        int const number = ++started;
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        co_await test::idle(number == 1 ? 100ms : 1ms);
        co_return number;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    pass(io, 50ms);
    CHECK(call.running());
    pass(io, 50ms);
    CHECK(call.value == 2);
}

TEST_CASE("a timeout outside ends all attempts") {
    asio::io_context io;
    policy const guarded{timeout{50ms}, hedge{after(10ms).max_hedges(3)}};
    plan p{{{1h}, {1h}, {1h}, {1h}}};
    guarded_call<int> call;
    call.start(io, guarded, p.operation());
    pass(io, 50ms);
    CHECK(call.failed_with(error::deadline_exceeded));
    CHECK(p.cancelled == 4);
}

TEST_CASE("a timeout inside counts from the start of each attempt") {
    asio::io_context io;
    policy const guarded{hedge{after(100ms)}, timeout{150ms}};
    std::vector<policy_clock::duration> given;
    auto op = [&](context const& c) -> asio::awaitable<int> {
        given.push_back(c.remaining());
        co_await test::idle(140ms);
        co_return 1;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    pass(io, 1h);
    CHECK(call.value == 1);
    CHECK(given == std::vector<policy_clock::duration>{150ms, 150ms});
}

TEST_CASE("a retry outside hears for how long a layer inside refuses") {
    asio::io_context io;
    breaker b(
        tidegate::circuit_breaker_options().consecutive_failures(1).open_duration(3s).jitter(0));
    bool const idempotent = GENERATE(false, true);
    policy const guarded{retry{retry_options().base(1ms).jitter(tidegate::jitter::none)},
                         hedge{after(10ms).idempotent(idempotent)}, b};
    b.trip();
    guarded_call<int> call;
    plan p{{{1ms}}};
    auto const start = policy_clock::now();
    call.start(io, guarded, p.operation());
    finish(io);
    CHECK(call.value == 1);
    CHECK(call.at - start == 3s + 1ms); // the last is the operation's
}

TEST_CASE("settings may change while calls run, which keep those they began with") {
    asio::io_context io;
    hedge hedging{after(10ms)};
    policy const guarded{hedging}; // has a copy
    plan old_plan{{{1h}, {1ms}}}, new_plan{{{1h}, {1h}, {1ms}}};
    guarded_call<int> before, later;
    before.start(io, guarded, old_plan.operation());
    run(io);
    hedging.set(after(3ms).max_hedges(2));
    CHECK(hedging.delay() == 3ms);
    CHECK(hedging.settings().max_hedges() == 2);
    CHECK(hedging.describe() == "hedge 2 after 3 ms");
    later.start(io, guarded, new_plan.operation());
    pass(io, 7ms);
    CHECK(later.value == 3);
    CHECK(old_plan.started == 1);
    pass(io, 4ms);
    CHECK(before.value == 2);
    CHECK(hedging.statistics().calls == 2); // counted on
    CHECK(hedging.statistics().hedges == 3);
    hedging.set(after(3ms).idempotent(false));
    plan alone{{{20ms}}};
    guarded_call<int> last;
    last.start(io, guarded, alone.operation());
    pass(io, 20ms);
    CHECK(last.value == 1);
}

TEST_CASE("what was measured stays when settings change") {
    asio::io_context io;
    hedge hedging{after(50ms).quantile(0.9, 10)};
    policy const guarded{hedging};
    for (int i = 0; i < 10; ++i) {
        plan p{{{2ms}}};
        guarded_call<int> call;
        call.start(io, guarded, p.operation());
        pass(io, 2ms);
        CHECK(call.value == 1);
    }
    auto const measured = hedging.delay();
    CHECK(measured < 3ms);
    hedging.set(after(50ms).quantile(0.95, 20)); // not enough for that
    CHECK(hedging.delay() == 50ms);
    hedging.set(after(50ms).quantile(0.95, 10));
    CHECK(hedging.delay() == measured);
}

TEST_CASE("the quantile is that of the last generation that is full") {
    asio::io_context io;
    hedge hedging{hedge_options().delay(50ms).quantile(0.9, 10)};
    policy const guarded{hedging};
    auto measure = [&](policy_clock::duration time, int times) {
        for (int i = 0; i < times; ++i) {
            plan p{{{time}}};
            guarded_call<int> call;
            call.start(io, guarded, p.operation());
            pass(io, time);
            REQUIRE(call.value == 1);
        }
    };
    auto is_about = [&](policy_clock::duration time) {
        return hedging.delay() >= time && hedging.delay() < time * 102 / 100;
    };
    measure(2ms, 10);
    CHECK(is_about(2ms));
    measure(4ms, 89);
    CHECK(is_about(4ms)); // of what there is
    measure(4ms, 1);      // full
    CHECK(is_about(4ms));
    measure(1ms, 99);
    CHECK(is_about(4ms));
    hedging.set(hedge_options().delay(50ms).quantile(0.5, 10));
    CHECK(is_about(4ms));
    hedging.set(hedge_options().delay(50ms).quantile(0.9, 10));
    measure(1ms, 1);
    CHECK(is_about(1ms));
}

TEST_CASE("a share set later applies to what was measured before") {
    tidegate::detail::latency_estimate all(10);
    for (int i = 1; i <= 100; ++i) all.record(i * 1ms);
    CHECK(all.quantile(0.5) < 52ms);
    CHECK(all.quantile(0.9) > 89ms);
    CHECK(all.quantile(0.5) < 52ms);
}

TEST_CASE("hedges draw on the budget") {
    asio::io_context io;
    auto budget = std::make_shared<tidegate::retry_budget>(0.1, 0, 100);
    hedge const hedging{after(10ms).budget(budget)};
    policy const guarded{hedging};
    for (int i = 0; i < 100; ++i) {
        plan p{{{30ms}, {30ms}}};
        guarded_call<int> call;
        call.start(io, guarded, p.operation());
        pass(io, 50ms);
        REQUIRE(call.value == 1);
    }
    CHECK(hedging.statistics().hedges == 10);
    CHECK(hedging.statistics().out_of_budget == 90);
}

TEST_CASE("the context may go while attempts race") {
    plan p{{{1h}, {1h}}};
    guarded_call<int> call;
    {
        asio::io_context io;
        bulkhead b(io, 2);
        policy const guarded{hedge{after(10ms)}, b};
        call.start(io, guarded, p.operation());
        pass(io, 20ms);
    }
    CHECK(call.running());
    CHECK(policy_clock::pending() == 0);
}

TEST_CASE("hedging by a quantile cuts the tail to a third for two percent more calls") {
    // Four calls in three hundred take twenty times as long.
    asio::io_context io;
    std::mt19937_64 random(20261121);
    auto latency = [&] {
        auto const usual = 1ms * (8 + random() % 5);
        return random() % 75 == 0 ? 20 * usual : usual;
    };
    std::size_t attempts = 0;
    auto op = [&]() -> asio::awaitable<int> {
        ++attempts;
        co_await test::idle(latency());
        co_return 1;
    };
    constexpr std::size_t calls = 20000;
    auto p99_of = [&](auto const& guarded) {
        std::vector<policy_clock::duration> took;
        for (std::size_t i = 0; i < calls; ++i) {
            guarded_call<int> call;
            auto const start = policy_clock::now();
            call.start(io, guarded, std::ref(op));
            finish(io);
            took.push_back(call.at - start);
        }
        std::nth_element(took.begin(), took.begin() + calls * 99 / 100, took.end());
        return took[calls * 99 / 100];
    };
    auto const plain = p99_of(policy<>());
    attempts = 0;
    auto const budget = std::make_shared<tidegate::retry_budget>(0.02, 0, 10);
    policy const guarded{
        hedge{hedge_options().quantile(0.985).delay(1h).idempotent(true).budget(budget)}};
    auto const hedged = p99_of(guarded);
    INFO("plain " << plain / 1us << " us, hedged " << hedged / 1us << " us, " << attempts
                  << " attempts");
    CHECK(hedged <= plain * 35 / 100);
    CHECK(attempts <= calls * 102 / 100);
}

} // namespace test
