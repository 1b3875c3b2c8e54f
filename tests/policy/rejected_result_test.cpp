// SPDX-License-Identifier: BSL-1.0
// What becomes of a result that a retry does not accept.
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>

#include "policy/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>
#include <utility>
#include <vector>

namespace test {

using bulkhead = tidegate::basic_semaphore<policy_clock>;
using tidegate::error_code;
using tidegate::failure;
using tidegate::policy;
using tidegate::retry_options;

namespace {

error_code const refused = boost::asio::error::connection_refused;

retry_options patient() {
    return retry_options().max_attempts(5).base(10ms).multiplier(1).jitter(tidegate::jitter::none);
}

/// Retries all failures, and numbers below 3.
struct below_three {
    bool operator()(failure const&) const { return true; }
    bool operator()(int value) const { return value < 3; }
};

} // namespace

TEST_CASE("a result that is not accepted is gone before the pause, with what it holds") {
    struct response {
        int status = 0;
        bulkhead::permit connection;
    };
    struct unavailable {
        bool operator()(failure const&) const { return false; }
        bool operator()(response const& r) const { return r.status == 503; }
    };
    asio::io_context io;
    bulkhead pool(io, 1);
    policy const guarded{tidegate::basic_retry<policy_clock, unavailable>(patient())};
    int calls = 0;
    auto fetch = [&]() -> asio::awaitable<response> {
        response r;
        auto held = pool.async_acquire(asio::deferred);
        r.connection = co_await std::move(held);
        r.status = ++calls < 3 ? 503 : 200;
        co_return r;
    };
    guarded_call<response> call;
    call.start(io, guarded, fetch);
    run(io);
    CHECK(pool.available() == 1); // in the pause
    finish(io);
    REQUIRE(call.value);
    CHECK(call.value->status == 200);
    CHECK(calls == 3);
}

TEST_CASE("after a result that was not accepted there is no last error, whatever came before it") {
    asio::io_context io;
    std::vector<error_code> told, seen;
    auto const settings =
        patient().on_retry([&](tidegate::retry_event const& e) { told.push_back(e.why.code()); });
    policy const guarded{tidegate::basic_retry<policy_clock, below_three>(settings)};
    int attempts = 0;
    auto op = [&](context const& c) -> asio::awaitable<int> {
        seen.push_back(c.last_error());
        if (++attempts == 1) throw boost::system::system_error(refused);
        co_return attempts;
    };
    guarded_call<int> call;
    call.start(io, guarded, op);
    finish(io);
    CHECK(call.value == 3);
    CHECK(told == std::vector{refused, error_code()});
    CHECK(seen == std::vector{error_code(), refused, error_code()});
}

TEST_CASE("a pause after a result that was not accepted can be cut short") {
    asio::io_context io;
    policy const guarded{tidegate::basic_retry<policy_clock, below_three>(patient())};
    guarded_call<int> call;
    call.start(io, guarded, []() -> asio::awaitable<int> { co_return 1; });
    run(io);
    call.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(call.failed_with(asio::error::operation_aborted));
}

} // namespace test
