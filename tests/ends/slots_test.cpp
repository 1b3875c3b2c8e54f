// SPDX-License-Identifier: BSL-1.0
// A cancellation signal may go before the context of what it cancels, and may stay when that has
// gone; a context ends when nothing of it is left to do, whoever was the first to use it.
#include <tidegate/policy.hpp>
#include <tidegate/poll.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/timeout.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <memory>
#include <optional>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error_code;

namespace {

asio::awaitable<bool> never() {
    asio::steady_timer timer(co_await asio::this_coro::executor, 24h);
    co_await timer.async_wait(asio::deferred);
    co_return true;
}

asio::awaitable<void> poll_for_ever() {
    auto const check = [] { return never(); };
    co_await tidegate::poll_until(check, 10ms, 24h);
}

asio::awaitable<void> call_for_ever() {
    tidegate::policy const guarded{tidegate::timeout(24h)};
    auto const op = [] { return never(); };
    co_await guarded(op);
}

asio::awaitable<void> for_ever(bool polls) { return polls ? poll_for_ever() : call_for_ever(); }

} // namespace

TEST_CASE("a signal may go before the context of a call that it cancels, or stay") {
    bool const polls = GENERATE(true, false);
    bool const on_one_thread = GENERATE(true, false); // otherwise on a strand of its own
    bool const signal_goes_first = GENERATE(true, false);
    INFO(polls << on_one_thread << signal_goes_first);
    std::optional<asio::io_context> io;
    if (on_one_thread) io.emplace(1);
    else io.emplace();
    std::optional<asio::cancellation_signal> signal(std::in_place);
    asio::co_spawn(*io, for_ever(polls),
                   asio::bind_cancellation_slot(signal->slot(), asio::detached));
    io->poll();
    if (signal_goes_first) signal.reset();
    io.reset();
    if (signal) signal->emit(asio::cancellation_type::all);
}

TEST_CASE("a signal that stays does not keep the executor of what waited") {
    asio::cancellation_signal signal;
    {
        asio::io_context io;
        tidegate::semaphore room(asio::make_strand(io), 1);
        auto const held = room.try_acquire();
        room.async_acquire(
            asio::bind_cancellation_slot(signal.slot(), [](error_code, auto const&...) {}));
        io.poll();
    }
    signal.emit(asio::cancellation_type::all);
}

TEST_CASE("a context ends after a poll that had no deadline") {
    asio::io_context io(1);
    int checks = 0;
    auto const check = [&]() -> asio::awaitable<bool> { co_return ++checks == 3; };
    auto const poll = [&]() -> asio::awaitable<void> { co_await tidegate::poll_until(check, 1ms); };
    asio::co_spawn(io, poll(), asio::detached);
    io.run_for(60s);
    CHECK(checks == 3);
    CHECK(io.stopped());
}

TEST_CASE("a context ends though the first who slept there held its work") {
    asio::io_context io;
    {
        asio::any_io_executor const working =
            asio::require(io.get_executor(), asio::execution::outstanding_work.tracked);
        auto const nap = []() -> asio::awaitable<void> { co_await tidegate::sleep_for(1ms); };
        asio::co_spawn(working, nap(), asio::detached);
    }
    io.run_for(60s);
    CHECK(io.stopped());
}

TEST_CASE("a context ends though the last handler of a primitive went with another context") {
    asio::io_context io;
    tidegate::semaphore room(io, 1);
    auto held = room.try_acquire();
    auto other = std::make_unique<asio::io_context>();
    room.async_acquire_for(1h, asio::bind_executor(*other, [](error_code, auto const&...) {}));
    io.poll();
    held.release();
    io.poll();
    other.reset();
    io.restart();
    io.run_for(60s);
    CHECK(io.stopped());
}
