// SPDX-License-Identifier: BSL-1.0
// Layers under fire: random failures, delays, cancellations and timeouts in every pair of layers,
// and nothing may be lost. What observes a call, and what a policy says of its order.
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/instrument.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/testing/chaos.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <deque>
#include <string>
#include <vector>

namespace test {

using tidegate::error;
using tidegate::error_code;
using tidegate::failure;
using tidegate::policy;

using timeout = tidegate::basic_timeout<policy_clock>;
using retry = tidegate::basic_retry<policy_clock>;
using hedge = tidegate::basic_hedge<policy_clock>;
using limiter = tidegate::basic_rate_limiter<policy_clock>;
using bulkhead = tidegate::basic_semaphore<policy_clock>;
using breaker = tidegate::basic_circuit_breaker<policy_clock>;
using adaptive = tidegate::basic_adaptive_limiter<policy_clock>;
using chaos = tidegate::testing::basic_chaos<policy_clock>;
using instrument = tidegate::basic_instrument<policy_clock>;

namespace {

// Everything that layers hold, so that it can be counted afterwards.
struct household {
    asio::io_context io;
    limiter rate{io, tidegate::rate_limiter_options().rate(1000, 1s).burst(5)};
    bulkhead room{io, 3};
    breaker fuse{
        tidegate::circuit_breaker_options().consecutive_failures(4).open_duration(5ms).jitter(0)};
    adaptive tide;
    std::shared_ptr<tidegate::retry_budget> budget =
        std::make_shared<tidegate::retry_budget>(0.0, 1'000'000, 0);
    int running = 0;
    int most_running = 0;

    // Takes a while, or fails, and listens to cancellation.
    auto operation(std::uint64_t seed) {
        return [this, seed]() -> asio::awaitable<int> {
            struct counted {
                household& h;
                explicit counted(household& owner) : h(owner) {
                    h.most_running = std::max(h.most_running, ++h.running);
                }
                ~counted() { --h.running; }
            } const here(*this);
            if (seed % 3 != 0) co_await test::idle(1ms * (seed % 7));
            if (seed % 5 == 0) throw std::runtime_error("of its own");
            co_return 1;
        };
    }
};

// A random schedule of calls, cancellations and time through one chain of layers.
template <class Policy>
void exercise(household& home, Policy const& guarded, test::random& dice, bool at_most_three) {
    std::deque<guarded_call<int>> calls;
    for (int i = 0; i < 6; ++i) {
        calls.emplace_back().start(home.io, guarded, home.operation(dice()));
        switch (test::below(dice, 4)) {
        case 0: run(home.io); break;
        case 1: pass(home.io, 1ms * test::below(dice, 5)); break;
        case 2: {
            auto& victim = calls[test::below(dice, calls.size())];
            if (victim.running()) victim.signal.emit(asio::cancellation_type::terminal);
            break;
        }
        case 3: home.io.restart(), home.io.poll_one(); break;
        }
    }
    pass(home.io, 10s);
    for (auto const& call : calls) {
        REQUIRE(call.completions == 1);
        REQUIRE((call.value.has_value() || call.why.code() || call.why.exception()));
    }
    REQUIRE(home.running == 0);
    if (at_most_three) REQUIRE(home.most_running <= 3);
    home.most_running = 0;
    REQUIRE(home.room.available() == 3);
    REQUIRE(home.room.waiting() == 0);
    REQUIRE(home.rate.waiting() == 0);
    REQUIRE(home.tide.in_flight() == 0);
    run(home.io);
    REQUIRE(policy_clock::pending() == 0);
}

tidegate::testing::chaos_options storm(std::uint64_t seed) {
    return tidegate::testing::chaos_options()
        .latency(0.3, 0ns, 20ms)
        .error(0.2, asio::error::connection_refused)
        .lost_answer(0.1, std::make_exception_ptr(std::runtime_error("lost")))
        .cancellation(0.05)
        .seed(seed);
}

tidegate::retry_options retries(household& home) {
    return tidegate::retry_options().max_attempts(3).base(1ms).idempotent(true).budget(home.budget);
}

tidegate::hedge_options hedges() {
    return tidegate::hedge_options().delay(3ms).max_hedges(2).idempotent(true);
}

int zero(failure const&) { return 0; }

} // namespace

TEST_CASE("no permit, probe or token is lost in any pair of layers under chaos") {
#if BOOST_VERSION < 108500
    SKIP("co_spawn loses a cancellation that comes before the start: tests/compilers");
#endif
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random dice(seed);
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            INFO("schedule " << i);
            household home;
            chaos const fire{storm(dice())};
            timeout const limit{8ms};
            retry const again{retries(home)};
            hedge const twice{hedges()};
            auto through = [&](auto const& outer, auto const& inner, bool bounded) {
                exercise(home, policy{outer, inner, fire}, dice, bounded);
            };
            // Primitives are passed by name, so each pair is written out.
            switch (i % 18) {
            case 0: through(limit, again, false); break;
            case 1: through(again, limit, false); break;
            case 2: through(limit, twice, false); break;
            case 3: through(twice, limit, false); break;
            case 4: through(again, twice, false); break;
            case 5: through(twice, again, false); break;
            case 6: exercise(home, policy{limit, home.rate, fire}, dice, false); break;
            case 7: exercise(home, policy{limit, home.room, fire}, dice, true); break;
            case 8: exercise(home, policy{limit, home.fuse, fire}, dice, false); break;
            case 9: exercise(home, policy{again, home.rate, fire}, dice, false); break;
            case 10: exercise(home, policy{again, home.room, fire}, dice, true); break;
            case 11: exercise(home, policy{again, home.fuse, fire}, dice, false); break;
            case 12: exercise(home, policy{twice, home.room, fire}, dice, true); break;
            case 13: exercise(home, policy{twice, home.fuse, fire}, dice, false); break;
            case 14: exercise(home, policy{home.fuse, home.room, fire}, dice, true); break;
            case 15: exercise(home, policy{home.rate, home.room, fire}, dice, true); break;
            case 16: exercise(home, policy{limit, home.tide, fire}, dice, false); break;
            case 17:
                exercise(home,
                         policy{tidegate::fallback{&zero}, limit, again, home.fuse, home.rate,
                                twice, home.room, home.tide, fire},
                         dice, true);
                break;
            }
        }
    }
}

TEST_CASE("the same seed makes the same chaos") {
    auto fates = [](std::uint64_t seed) {
        asio::io_context io;
        policy const guarded{chaos{storm(seed)}};
        std::string text;
        for (int i = 0; i < 50; ++i) {
            guarded_call<int> call;
            call.start(io, guarded, []() -> asio::awaitable<int> { co_return 1; });
            finish(io);
            text += call.value ? "." : call.why.exception() ? "!" : call.why.code().message();
        }
        return text;
    };
    CHECK(fates(7) == fates(7));
    CHECK(fates(7) != fates(8));
}

TEST_CASE("results can be spoiled, and a retry that looks at them mends it") {
    asio::io_context io;
    auto negate = [](int& value) { value = -value; };
    tidegate::testing::basic_chaos<policy_clock, decltype(negate)> const fire{
        tidegate::testing::chaos_options().result(0.5).seed(3), negate};
    struct negative {
        bool operator()(failure const&) const { return false; }
        bool operator()(int value) const { return value < 0; }
    };
    policy const bare{fire};
    policy const mended{tidegate::basic_retry<policy_clock, negative>(
                            tidegate::retry_options().max_attempts(30).base(1ms)),
                        fire};
    int spoiled = 0;
    for (int i = 0; i < 100; ++i) {
        guarded_call<int> plain, checked;
        auto op = []() -> asio::awaitable<int> { co_return 1; };
        plain.start(io, bare, op);
        checked.start(io, mended, op);
        finish(io);
        spoiled += plain.value == -1;
        REQUIRE(checked.value == 1);
    }
    CHECK(spoiled > 30);
    CHECK(spoiled < 70);
}

TEST_CASE("an instrument tells what came of a call") {
    asio::io_context io;
    std::vector<std::string> told;
    auto listen = [&](tidegate::call_event const& e) {
        told.push_back(std::string(e.name) + " " + std::to_string(e.attempt) + " " +
                       std::to_string(e.took / 1ms) + " " +
                       (e.why ? e.why->code().message() : "fine") +
                       (e.degraded ? " degraded" : ""));
    };
    policy const guarded{
        instrument{listen}, tidegate::fallback{&zero},
        retry{tidegate::retry_options().max_attempts(2).base(5ms).jitter(tidegate::jitter::none)},
        instrument{listen}};
    guarded_call<int> call;
    call.start(io, guarded.named("backend"), []() -> asio::awaitable<int> {
        co_await test::idle(1ms);
        throw boost::system::system_error(asio::error::connection_refused);
    });
    finish(io);
    CHECK(call.value == 0);
    CHECK(told == std::vector<std::string>{"backend 1 1 Connection refused",
                                           "backend 2 1 Connection refused",
                                           "backend 2 7 fine degraded"});
}

TEST_CASE("suspect orders are told, at compile time and at run time") {
    household home;
    auto const good =
        policy{tidegate::fallback{&zero}, timeout{1s}, retry{}, home.fuse, home.rate, home.room};
    static_assert(decltype(good)::suspicions() == 0);
    CHECK(good.diagnose().empty());
    auto const bad = policy{home.fuse, retry{}, retry{}, tidegate::fallback{&zero}};
    static_assert(decltype(bad)::suspicions() == 4);
    REQUIRE(bad.diagnose().size() == 4);
    CHECK(bad.diagnose()[0].find("circuit_breaker outside retry") == 0);
}

} // namespace test
