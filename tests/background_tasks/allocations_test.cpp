// SPDX-License-Identifier: BSL-1.0
// What becomes of tasks when memory ends.
#include <tidegate/background_tasks.hpp>

#include "support/counting_new.hpp"
#include "support/refusing_executor.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace asio = boost::asio;
using tidegate::task_context;
using tidegate::task_id;
using tidegate::task_state;

TEST_CASE("a task that finds no memory to begin is not in the table, or has failed") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io{1};
        tidegate::background_tasks<int> tasks(io);
        auto events = tasks.subscribe();
        auto work = [](task_context&) -> asio::awaitable<int> { co_return 1; };
        std::optional<task_id> id;
        test::fail_allocation(n);
        try {
            id = tasks.spawn("", work);
        } catch (std::bad_alloc const&) {
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK((failed || id.has_value()));
        CHECK(tasks.list().size() == (id ? 1u : 0u));
        io.poll();
        CHECK(tasks.live() == 0);
        if (id && !failed) CHECK(tasks.status(*id)->state == task_state::done);
        task_id const next = tasks.spawn("", work);
        io.restart();
        io.poll();
        CHECK(*tasks.result(next) == 1);
        std::optional<tidegate::task_event> last;
        while (auto event = events.try_receive()) last = event;
        REQUIRE(last.has_value());
        CHECK(last->id == next); // who subscribed hears on, whatever was lost
        CHECK(last->state == task_state::done);
    }
}

TEST_CASE("a task whose result finds no memory has failed") {
    asio::io_context io{1};
    tidegate::background_tasks<std::array<char, 1000>> tasks(io);
    auto work = [](task_context&) -> asio::awaitable<std::array<char, 1000>> {
        test::fail_allocation(1);
        co_return std::array<char, 1000>{};
    };
    task_id const id = tasks.spawn("", work);
    io.poll();
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    CHECK(tasks.status(id)->state == task_state::failed);
    CHECK_FALSE(tasks.result(id));
    CHECK(tasks.live() == 0);
}

namespace {

/// Ends when it is cancelled.
asio::awaitable<int> wait(int& ended) {
    asio::steady_timer never(co_await asio::this_coro::executor,
                             asio::steady_timer::time_point::max());
    auto waiting = never.async_wait(asio::as_tuple(asio::deferred));
    co_await std::move(waiting);
    co_return ++ended;
}

} // namespace

TEST_CASE("a registry needs no memory of its own to cancel what runs") {
    int ended = 0;
    asio::io_context io{1};
    std::optional<tidegate::background_tasks<int>> tasks(io);
    auto work = [&](task_context&) { return wait(ended); };
    for (int i = 0; i < 3; ++i) tasks->spawn("", work);
    io.poll();
    test::fail_allocation(1);
    tasks.reset();
    test::fail_allocation(0);
    io.poll();
    CHECK(ended == 3);
}

TEST_CASE("a background task that cannot be told to end does not keep the others from it") {
    int ended = 0;
    asio::io_context io;
    test::refusing_executor const executor(io);
    std::optional<tidegate::background_tasks<int>> tasks(
        std::in_place, executor, tidegate::background_tasks_options().max_running(3));
    auto work = [&](task_context&) { return wait(ended); };
    for (int i = 0; i < 5; ++i) tasks->spawn("", work); // two are queued
    io.poll();
    executor.refuse_one_after(0);
    SECTION("cancel_all tells of it") {
        CHECK_THROWS_AS(tasks->cancel_all(), std::bad_alloc);
        io.poll();
        CHECK(tasks->live() == 1);
    }
    SECTION("the destructor does not") { tasks.reset(); }
    CHECK_FALSE(executor.is_to_refuse());
    io.poll();
    CHECK(ended == 2);
}
