// SPDX-License-Identifier: BSL-1.0
// Runs that have ended keep no memory, and take little while they run.
#include <tidegate/single_flight.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <new>

namespace asio = boost::asio;

TEST_CASE("runs that end while an earlier one hangs are forgotten at once") {
    asio::io_context io;
    tidegate::single_flight<int, int> flights(
        io, tidegate::single_flight_options{}.time_limit(std::chrono::hours(1)));
    int done = 0;
    auto const note = [&](std::exception_ptr, auto const&) { ++done; };
    auto hangs = [&](int) -> asio::awaitable<int> {
        asio::steady_timer never(io, asio::steady_timer::time_point::max());
        co_await never.async_wait(asio::use_awaitable);
        co_return 0;
    };
    auto ends = [](int key) -> asio::awaitable<int> { co_return key; };
    flights.async_run(0, hangs, note);
    auto const run = [&](int times) {
        for (int i = 1; i <= times; ++i) {
            flights.async_run(i, ends, note);
            io.poll();
        }
    };
    run(1000); // until there is all that strands keep
    std::size_t const before = test::allocated_now();
    run(1000);
    CHECK(done == 2000);
    CHECK(test::allocated_now() < before + 50);
    flights.close();
    io.poll();
    CHECK(done == 2001);
}

TEST_CASE("a run alone takes no more than its records and its coroutine") {
    asio::io_context io{1};
    tidegate::single_flight<int, int> flights(io);
    int done = 0;
    auto const note = [&](std::exception_ptr, auto const&) { ++done; };
    auto ends = [](int key) -> asio::awaitable<int> { co_return key; };
    auto const run = [&] {
        flights.async_run(1, ends, note);
        io.restart();
        io.run();
    };
    for (int i = 0; i < 10; ++i) run();
    std::size_t const before = test::allocated();
    run();
    CHECK(done == 11);
    CHECK(test::allocated() - before <= 20);
}

TEST_CASE("a run that finds no memory is not begun, or fails, and the next one succeeds") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io{1};
        tidegate::single_flight<int, int> flights(
            io, tidegate::single_flight_options{}.time_limit(std::chrono::hours(1)));
        int answers = 0, results = 0;
        asio::cancellation_signal signal;
        auto const note = [&](std::exception_ptr e, tidegate::shared_value<int> const& v) {
            ++answers;
            results += !e && *v == 1;
        };
        auto ends = [](int key) -> asio::awaitable<int> { co_return key; };
        bool thrown = false;
        test::fail_allocation(n);
        try {
            flights.async_run(1, ends, asio::bind_cancellation_slot(signal.slot(), note));
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        if (thrown) signal.emit(asio::cancellation_type::all); // nobody hears it
        io.poll();
        CHECK(answers == (thrown ? 0 : 1));
        CHECK(results == (failed ? 0 : 1));
        flights.async_run(1, ends, note);
        io.restart();
        io.poll();
        CHECK(results == (failed ? 1 : 2));
    }
}
