// SPDX-License-Identifier: BSL-1.0
// What becomes of a scope when memory ends.
#include <tidegate/task_scope.hpp>

#include "support/counting_new.hpp"
#include "support/refusing_executor.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <exception>
#include <new>
#include <optional>
#include <utility>

namespace asio = boost::asio;
using tidegate::task_scope;

namespace {

/// Ends when it is cancelled.
asio::awaitable<void> wait(int& ended) {
    asio::steady_timer never(co_await asio::this_coro::executor,
                             asio::steady_timer::time_point::max());
    auto waiting = never.async_wait(asio::as_tuple(asio::deferred));
    co_await std::move(waiting);
    ++ended;
}

} // namespace

TEST_CASE("a scope needs no memory of its own to cancel its tasks") {
    int ended = 0;
    asio::io_context io{1};
    std::optional<task_scope> scope(io);
    for (int i = 0; i < 3; ++i) CHECK(scope->spawn([&] { return wait(ended); }));
    io.poll();
    test::fail_allocation(1);
    scope.reset();
    test::fail_allocation(0);
    io.poll();
    CHECK(ended == 3);
}

TEST_CASE("a task that cannot be told to end does not keep the others from it") {
    int ended = 0;
    asio::io_context io;
    test::refusing_executor const executor(io);
    std::optional<task_scope> scope(executor);
    for (int i = 0; i < 3; ++i) CHECK(scope->spawn([&] { return wait(ended); }));
    io.poll();
    executor.refuse_one_after(0);
    SECTION("cancel tells of it") { CHECK_THROWS_AS(scope->cancel(), std::bad_alloc); }
    SECTION("the destructor does not") { scope.reset(); }
    CHECK_FALSE(executor.is_to_refuse());
    io.poll();
    CHECK(ended == 2);
}

TEST_CASE("cancelling again asks all that still run again") {
    int asked = 0;
    asio::io_context io{1};
    task_scope scope(io);
    auto const stubborn = [&]() -> asio::awaitable<void> {
        for (int times = 0; times < 2; ++times) {
            co_await asio::this_coro::reset_cancellation_state();
            co_await wait(asked);
        }
    };
    for (int i = 0; i < 3; ++i) CHECK(scope.spawn(stubborn));
    io.poll();
    scope.cancel();
    io.poll();
    CHECK(asked == 3);
    scope.cancel();
    io.poll();
    CHECK(asked == 6);
    CHECK(scope.size() == 0);
}

TEST_CASE("who joins hears of clean-ups that cannot begin") {
    int cleaned = 0;
    std::exception_ptr failure;
    asio::io_context io;
    test::refusing_executor const executor(io);
    task_scope scope(executor);
    scope.on_exit([&]() -> asio::awaitable<void> {
        ++cleaned;
        co_return;
    });
    executor.refuse_one_after(0);
    scope.async_join([&](std::exception_ptr e) { failure = e; });
    CHECK_FALSE(executor.is_to_refuse());
    io.poll();
    REQUIRE(failure);
    CHECK_THROWS_AS(std::rethrow_exception(failure), std::bad_alloc);
    CHECK(cleaned == 0);
    CHECK(scope.has_ended());
}

TEST_CASE("with_scope waits for a task that cannot be told to end") {
    int ended = 0, done = 0;
    asio::io_context io;
    test::refusing_executor const executor(io);
    asio::steady_timer last(io, asio::steady_timer::time_point::max());
    asio::cancellation_signal signal;
    auto const body = [&](task_scope& scope) -> asio::awaitable<void> {
        for (int i = 0; i < 2; ++i) CHECK(scope.spawn([&] { return wait(ended); }));
        auto waiting = last.async_wait(asio::as_tuple(asio::deferred));
        co_await std::move(waiting); // the first to be told, in vain
    };
    auto const caller = [&]() -> asio::awaitable<void> { co_await tidegate::with_scope(body); };
    asio::co_spawn(
        executor, caller(),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) { ++done; }));
    io.poll();
    executor.refuse_one_after(1); // after the end of the join
    signal.emit(asio::cancellation_type::all);
    io.poll();
    CHECK_FALSE(executor.is_to_refuse());
    CHECK(ended == 2);
    CHECK(done == 0);
}
