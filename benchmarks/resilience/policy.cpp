// SPDX-License-Identifier: BSL-1.0
// What a chain of layers adds to an operation that succeeds at once.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/instrument.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include <boost/asio/cancel_after.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
using boost::system::error_code;
using tidegate::policy;

asio::awaitable<int> quick() { co_return 1; }

template <class Policy>
asio::awaitable<void> laps_through(run& r, Policy const& guarded) {
    while (r.more()) benchmark::DoNotOptimize(co_await guarded(&quick));
}

// What the layers refer to.
struct parts {
    asio::io_context context{1};
    tidegate::circuit_breaker breaker;
    tidegate::rate_limiter limiter{
        context, tidegate::rate_limiter_options().rate(1'000'000'000, 1s).burst(1'000'000'000)};
    tidegate::semaphore bulkhead{context, 16};
};

template <class Make>
void guarded_row(std::string const& name, Make make) {
    row(name, cpu_time, [make](run& r) {
        parts p;
        auto const guarded = make(p);
        drive(p.context, laps_through(r, guarded));
    });
}

int in_place(tidegate::failure const&) { return 0; }

group const layers{[] {
    row("layers/operation", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            while (laps.more()) benchmark::DoNotOptimize(co_await quick());
        }(r));
    });
    guarded_row("layers/none", [](parts&) { return policy<>(); });
    guarded_row("layers/retry", [](parts&) { return policy{tidegate::retry{}}; });
    guarded_row("layers/breaker", [](parts& p) { return policy{p.breaker}; });
    guarded_row("layers/limiter", [](parts& p) { return policy{p.limiter}; });
    guarded_row("layers/bulkhead", [](parts& p) { return policy{p.bulkhead}; });
    guarded_row("layers/fallback", [](parts&) { return policy{tidegate::fallback{&in_place}}; });
    guarded_row("layers/unobserved", [](parts& p) {
        return policy{tidegate::instrument{},
                      tidegate::fallback{&in_place},
                      tidegate::retry{},
                      p.breaker,
                      p.limiter,
                      p.bulkhead};
    });
    guarded_row("layers/observed", [](parts& p) {
        auto listen = [](tidegate::call_event const& e) { benchmark::DoNotOptimize(e.took); };
        return policy{tidegate::instrument{listen},
                      tidegate::fallback{&in_place},
                      tidegate::retry{},
                      p.breaker,
                      p.limiter,
                      p.bulkhead};
    });
    guarded_row("layers/five", [](parts& p) {
        return policy{tidegate::fallback{&in_place}, tidegate::retry{}, p.breaker, p.limiter,
                      p.bulkhead};
    });
    // What each part adds on its own, on top of a policy without layers.
    std::vector<quantity> parts_alone{time_of("layers/none")};
    for (auto const* part : {"retry", "breaker", "limiter", "bulkhead", "fallback"}) {
        parts_alone.push_back(
            difference_of(time_of(std::string("layers/") + part), time_of("layers/none")));
    }
    claim("policy_five_layers", ratio_of(time_of("layers/five"), sum_of(parts_alone)),
          at_most(1.1));
    claim("policy_allocations", allocations_of("layers/five"), at_most(3));
    claim("instrument_unobserved", ratio_of("layers/unobserved", "layers/five"), at_most(1.02));
    claim("instrument_observed", ratio_of("layers/observed", "layers/five"), at_most(1.5));
    claim("fallback", ratio_of("layers/fallback", "layers/none"), at_most(1.05));
}};

// A hedge whose first attempt answers long before a second would begin. No claim.
group const hedged{[] {
    guarded_row("hedge/none", [](parts&) { return policy<>(); });
    guarded_row("hedge/tidegate", [](parts&) {
        return policy{tidegate::hedge{tidegate::hedge_options().delay(1s).idempotent(true)}};
    });
}};

// A timeout around an operation that suspends once.

asio::awaitable<void> one_turn() { co_await asio::post(asio::deferred); }

auto post_with(auto token) { return asio::post(std::move(token)); }

group const timeouts{[] {
    row("timeout/plain", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            while (laps.more()) co_await asio::post(asio::deferred);
        }(r));
    });
    row("timeout/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            policy const guarded{tidegate::timeout{10s}};
            auto op = [](auto token) { return post_with(std::move(token)); };
            while (laps.more()) co_await guarded(op);
        }(r));
    });
    row("timeout/tidegate_coroutine", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            policy const guarded{tidegate::timeout{10s}};
            while (laps.more()) co_await guarded(&one_turn);
        }(r));
    });
    row("timeout/cancel_after", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            auto const executor = co_await asio::this_coro::executor;
            while (laps.more()) {
                auto op = asio::post(executor, asio::cancel_after(10s, asio::deferred));
                co_await std::move(op);
            }
        }(r));
    });
    row("timeout/or_timer", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, [](run& laps) -> asio::awaitable<void> {
            using namespace asio::experimental::awaitable_operators;
            auto const executor = co_await asio::this_coro::executor;
            while (laps.more()) {
                asio::steady_timer timer(executor, 10s);
                auto either = one_turn() || timer.async_wait(asio::use_awaitable);
                co_await std::move(either);
            }
        }(r));
    });
    claim("timeout_against_cancel_after", ratio_of("timeout/tidegate", "timeout/cancel_after"),
          at_most(0.5));
}};

} // namespace
