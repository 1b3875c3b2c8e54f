// SPDX-License-Identifier: BSL-1.0
// Coroutines that wait for a time.
#include <tidegate/sleep.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <exception>
#include <memory>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct sleep_clock {};
using clock_type = tidegate::testing::basic_manual_clock<sleep_clock>;

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("sleepers wake when their time has come, in its order, and share a timer") {
    asio::io_context io;
    std::vector<int> woken;
    auto nap = [&](int i, std::chrono::milliseconds time) -> asio::awaitable<void> {
        co_await tidegate::sleep_for<clock_type>(time);
        woken.push_back(i);
    };
    asio::co_spawn(io, nap(1, 30ms), asio::detached);
    asio::co_spawn(io, nap(2, 10ms), asio::detached);
    asio::co_spawn(asio::make_strand(io), nap(3, 20ms), asio::detached);
    run(io);
    CHECK(clock_type::pending() == 1);
    clock_type::advance(10ms);
    run(io);
    CHECK(woken == std::vector{2});
    clock_type::advance(20ms);
    run(io);
    CHECK(woken == std::vector{2, 3, 1});
    CHECK(io.stopped());
}

TEST_CASE("a time that has come already does not suspend") {
    asio::io_context io;
    int steps = 0;
    auto no_nap = [&]() -> asio::awaitable<void> {
        co_await tidegate::sleep_for<clock_type>(0ms);
        co_await tidegate::sleep_for<clock_type>(-5s);
        co_await tidegate::sleep_until<clock_type>(clock_type::now());
        ++steps;
    };
    asio::co_spawn(io, no_nap(), asio::detached);
    CHECK(io.poll_one() == 1);
    CHECK(steps == 1);
}

TEST_CASE("a sleeper that is cancelled wakes at once, and leaves no timer behind") {
    asio::io_context io;
    asio::cancellation_signal signal;
    std::exception_ptr failure;
    asio::co_spawn(
        io, tidegate::sleep_for<clock_type>(1h),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { failure = e; }));
    run(io);
    signal.emit(asio::cancellation_type::terminal);
    run(io);
    REQUIRE(failure);
    try {
        std::rethrow_exception(failure);
    } catch (boost::system::system_error const& e) {
        CHECK(e.code() == asio::error::operation_aborted);
    }
    CHECK(io.stopped());
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a context that goes takes its sleepers with it") {
    auto io = std::make_unique<asio::io_context>();
    auto const alive = std::make_shared<int>(1);
    auto nap = [](std::shared_ptr<int>) -> asio::awaitable<void> {
        co_await tidegate::sleep_for<clock_type>(1h);
    };
    asio::co_spawn(*io, nap(alive), asio::detached);
    run(*io);
    CHECK(alive.use_count() == 2);
    io.reset();
    CHECK(alive.use_count() == 1);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("real time passes too") {
    asio::io_context io;
    auto const start = std::chrono::steady_clock::now();
    asio::co_spawn(io, tidegate::sleep_for(2ms), asio::detached);
    io.run();
    CHECK(std::chrono::steady_clock::now() - start >= 2ms);
}
