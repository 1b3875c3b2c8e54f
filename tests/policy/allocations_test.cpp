// SPDX-License-Identifier: BSL-1.0
// What calls through layers allocate, and what becomes of them when there is no memory.
#include <tidegate/hedge.hpp>
#include <tidegate/policy.hpp>

#include "policy/support.hpp"
#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <new>

namespace asio = boost::asio;

TEST_CASE("a call that is not hedged allocates nothing that Asio does not recycle") {
    asio::io_context io;
    // Without a quantile: what measures may grow with a duration that it has not seen.
    tidegate::hedge_options const alone = tidegate::hedge_options().delay(std::chrono::seconds(1));
    tidegate::policy const guarded{tidegate::hedge{alone}};
    std::size_t allocated = 1;
    auto calls = [&]() -> asio::awaitable<void> {
        auto op = []() -> asio::awaitable<int> { co_return 1; };
        for (int i = 0; i < 10; ++i) co_await guarded(op);
        auto const before = test::allocated();
        for (int i = 0; i < 10; ++i) co_await guarded(op);
        allocated = test::allocated() - before;
    };
    asio::co_spawn(io, calls, asio::detached);
    io.run();
    CHECK(allocated == 0);
}

namespace test {

using tidegate::hedge_options;
using tidegate::policy;
using hedge = tidegate::basic_hedge<policy_clock>;

namespace {

struct counted {
    explicit counted(int& living) : living_(living) { ++living_; }
    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;
    ~counted() { --living_; }

private:
    int& living_;
};

// Sees how many operations live when a call is over, whichever way: it goes with the coroutine.
struct seen_at_end {
    int const& living;
    int& seen;
    ~seen_at_end() { seen = living; }
};

// What Asio found no memory for comes out of here, as it would out of a program's own loop.
void run_on(asio::io_context& io) {
    for (bool again = true; again;) {
        try {
            run(io);
            again = policy_clock::advance_to_next();
        } catch (std::bad_alloc const&) {
            again = true;
        }
    }
}

} // namespace

TEST_CASE("no attempt outlives its call, whichever allocation of it fails") {
    bool reached = true;
    for (std::size_t n = 1; reached; ++n) {
        INFO("allocation " << n);
        asio::io_context io(1);
        policy const guarded{hedge{hedge_options().delay(5ms).max_hedges(2).idempotent(true)}};
        int living = 0;
        int living_at_end = -1;
        bool failed = false;
        auto call = [&]() -> asio::awaitable<void> {
            auto op = [&]() -> asio::awaitable<int> {
                counted const one(living);
                co_await idle(40ms);
                co_return 1;
            };
            seen_at_end const at_end{living, living_at_end};
            fail_allocation(n);
            try {
                co_await guarded(op);
            } catch (std::bad_alloc const&) {
                failed = true;
            }
        };
        asio::co_spawn(io, call, asio::detached);
        run_on(io);
        reached = until_failure() == 0;
        fail_allocation(0);
        CHECK(living_at_end == 0);
        if (!reached) CHECK_FALSE(failed);
    }
}

TEST_CASE("a further attempt that cannot be started costs nothing, and the first goes on") {
    bool reached = true;
    int failed = 0;
    for (std::size_t n = 1; reached; ++n) {
        INFO("allocation " << n);
        asio::io_context io(1);
        auto const budget = std::make_shared<tidegate::retry_budget>();
        hedge const hedging{hedge_options().delay(5ms).idempotent(true).budget(budget)};
        policy const guarded{hedging};
        int started = 0;
        guarded_call<int> call;
        call.start(io, guarded, [&]() -> asio::awaitable<int> {
            int const number = ++started;
            co_await idle(40ms);
            co_return number;
        });
        pass(io, 4ms);
        double const before = budget->balance();
        fail_allocation(n);
        try {
            pass(io, 1ms);
        } catch (std::bad_alloc const&) {
            run(io); // from what the attempt itself waits for, which ends it
        }
        reached = until_failure() == 0;
        fail_allocation(0);
        bool const alone = started == 1;
        failed += alone;
        CHECK(hedging.statistics().hedges == (alone ? 0 : 1));
        CHECK((budget->balance() == before) == alone);
        run_on(io);
        CHECK(call.value == 1);
    }
    CHECK(failed > 0);
}

} // namespace test
