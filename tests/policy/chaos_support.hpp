// SPDX-License-Identifier: BSL-1.0
// Layers that hold something, random calls through them, and what must hold afterwards.
#pragma once

#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/instrument.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/chaos.hpp>
#include <tidegate/timeout.hpp>

#include "policy/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace test {

using tidegate::error;
using tidegate::error_code;
using tidegate::failure;
using tidegate::outcome;
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

// Everything that layers hold, so that it can be counted afterwards.
struct household {
    asio::io_context io;
    // Never full: what is missing at the end was spent.
    limiter rate{io,
                 tidegate::rate_limiter_options().rate(1, 1ms).burst(1'000'000).start_empty(true)};
    bulkhead room{io, 3};
    breaker fuse{
        tidegate::circuit_breaker_options().consecutive_failures(4).open_duration(2ms).jitter(0)};
    adaptive tide;
    std::shared_ptr<tidegate::retry_budget> budget =
        std::make_shared<tidegate::retry_budget>(0.0, 1'000'000, 0);
    int running = 0;
    int most_running = 0;
    // What a gate has seen: see there.
    std::uint64_t passes = 0;
    std::uint64_t passes_of_retries = 0;
    std::set<std::string> calls;
    std::set<std::pair<std::string, std::uint32_t>> attempts; // a hedge makes one several times

    std::uint64_t retries() const {
        auto const again = [](auto const& one) { return one.second > 1; };
        return static_cast<std::uint64_t>(std::count_if(attempts.begin(), attempts.end(), again));
    }

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

// The last layer before what is called: writes down what gets that far, and with it has been made.
class gate {
public:
    explicit gate(household& h) noexcept : home_(&h) {}

    std::string describe() const { return "gate"; }

    class call : public tidegate::detail::layer_call {
    public:
        explicit call(gate const& layer) noexcept : home_(layer.home_) {}

        error_code enter(context& c) {
            std::string const name(c.name());
            ++home_->passes;
            home_->passes_of_retries += c.attempt() > 1;
            home_->calls.insert(name);
            home_->attempts.emplace(name, c.attempt());
            return {};
        }

        template <class T>
        tidegate::detail::step leave(context&, outcome<T>&) noexcept {
            return {};
        }

    private:
        household* home_;
    };

private:
    household* home_;
};

// What a chain of layers may keep of what it took.
struct bill {
    std::uint64_t permits; // of the rate
    std::uint64_t tokens;  // of the budget
};

// No probe is out: all that are permitted and have not reported can be had.
inline void require_all_probes(breaker& fuse) {
    if (fuse.state() == tidegate::breaker_state::closed) return; // has none
    bool const probing = fuse.state() == tidegate::breaker_state::half_open;
    std::uint64_t const reported = probing ? fuse.counts().calls : 0;
    std::vector<breaker::permit> probes; // which say nothing when they go
    for (auto one = fuse.try_acquire(); one; one = fuse.try_acquire())
        probes.push_back(std::move(one));
    REQUIRE(probes.size() + reported == 5);
}

// A random schedule of calls, cancellations and time through one chain of layers, which end with a
// gate. `owed()` is asked afterwards.
template <class Policy, class Owed>
void exercise(household& home, Policy const& guarded, test::random& dice, bool at_most_three,
              Owed owed) {
    auto const start = policy_clock::now();
    if (test::below(dice, 2) == 0) home.fuse.trip(); // calls will be probes
    std::deque<guarded_call<int>> calls;
    for (int i = 0; i < 6; ++i) {
        auto const one = guarded.named("call " + std::to_string(i));
        calls.emplace_back().start(home.io, one, home.operation(dice()));
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
    require_all_probes(home.fuse); // it has been open long enough
    bill const spent = owed();
    auto const earned = static_cast<std::uint64_t>((policy_clock::now() - start) / 1ms);
    REQUIRE(home.rate.available() == earned - spent.permits);
    REQUIRE(home.budget->balance() == 1'000'000 - static_cast<double>(spent.tokens));
}

inline tidegate::testing::chaos_options storm(std::uint64_t seed) {
    return tidegate::testing::chaos_options()
        .latency(0.3, 0ns, 20ms)
        .error(0.2, asio::error::connection_refused)
        .lost_answer(0.1, std::make_exception_ptr(std::runtime_error("lost")))
        .cancellation(0.05)
        .seed(seed);
}

inline tidegate::retry_options retries(household& home) {
    return tidegate::retry_options().max_attempts(3).base(1ms).idempotent(true).budget(home.budget);
}

inline tidegate::hedge_options hedges() {
    return tidegate::hedge_options().delay(3ms).max_hedges(2).idempotent(true);
}

inline int zero(failure const&) { return 0; }

} // namespace test
