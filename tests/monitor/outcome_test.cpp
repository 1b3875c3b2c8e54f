// SPDX-License-Identifier: BSL-1.0
// Every run is counted once, by how it ended.
#include <tidegate/monitor.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::operation_outcome;

namespace {

struct counts {
    std::uint64_t ok, errors, cancelled, timed_out, abandoned;
    bool operator==(counts const&) const = default;
};
counts of(tidegate::monitor const& monitor) {
    auto const all = monitor.summary();
    REQUIRE(all.size() == 1);
    return {all[0].count, all[0].errors, all[0].cancelled, all[0].timed_out, all[0].abandoned};
}

// The result of one tracked call, or what it threw.
template <class Op>
std::exception_ptr run(tidegate::monitor& monitor, Op op) {
    asio::io_context io;
    std::exception_ptr failure;
    auto body = [&]() -> asio::awaitable<void> {
        static_cast<void>(co_await monitor.track("x", op));
    };
    asio::co_spawn(io, body(), [&](std::exception_ptr e) { failure = e; });
    io.run();
    return failure;
}

} // namespace

TEST_CASE("a tracked coroutine passes its result on, and is counted as ok") {
    tidegate::monitor monitor;
    asio::io_context io;
    std::string got;
    auto work = []() -> asio::awaitable<std::string> { co_return "result"; };
    auto body = [&]() -> asio::awaitable<void> { got = co_await monitor.track("x", work); };
    asio::co_spawn(io, body(), asio::detached);
    io.run();
    CHECK(got == "result");
    CHECK(of(monitor) == counts{1, 0, 0, 0, 0});
}

TEST_CASE("what it throws says how it ended, and passes through") {
    tidegate::monitor monitor;
    SECTION("any exception") {
        auto work = []() -> asio::awaitable<void> {
            throw std::domain_error("x");
            co_return;
        };
        CHECK_THROWS_AS(std::rethrow_exception(run(monitor, work)), std::domain_error);
        CHECK(of(monitor) == counts{0, 1, 0, 0, 0});
    }
    SECTION("a deadline") {
        auto work = []() -> asio::awaitable<void> {
            throw boost::system::system_error(tidegate::error::deadline_exceeded);
            co_return;
        };
        CHECK(run(monitor, work));
        CHECK(of(monitor) == counts{0, 0, 0, 1, 0});
    }
    SECTION("an operation that takes a token") {
        asio::io_context io;
        tidegate::semaphore closed(io, 1);
        closed.close();
        auto work = [&](auto token) { return closed.async_acquire(std::move(token)); };
        CHECK(run(monitor, work));
        CHECK(of(monitor) == counts{0, 1, 0, 0, 0});
    }
}

TEST_CASE("a cancelled run is counted as that, and so is one that is destroyed") {
    tidegate::monitor monitor;
    auto io = std::make_unique<asio::io_context>();
    auto work = []() -> asio::awaitable<void> { co_await tidegate::sleep_for(1h); };
    auto body = [&]() -> asio::awaitable<void> { co_await monitor.track("x", work); };
    asio::cancellation_signal signal;
    bool failed = false;
    asio::co_spawn(*io, body(),
                   asio::bind_cancellation_slot(
                       signal.slot(), [&](std::exception_ptr e) { failed = e != nullptr; }));
    asio::co_spawn(*io, body(), asio::detached);
    io->poll();
    SECTION("cancelled, then destroyed") {
        signal.emit(asio::cancellation_type::terminal);
        io->restart();
        io->poll();
        CHECK(failed);
        CHECK(of(monitor) == counts{0, 0, 1, 0, 0});
        io.reset();
        CHECK(of(monitor) == counts{0, 0, 1, 0, 1});
    }
    SECTION("both destroyed") {
        io.reset();
        CHECK(of(monitor) == counts{0, 0, 0, 0, 2});
    }
}

TEST_CASE("what is tracked, and handles, may outlive the monitor") {
    auto io = std::make_unique<asio::io_context>();
    auto monitor = std::make_unique<tidegate::monitor>();
    auto work = []() -> asio::awaitable<void> { co_await tidegate::sleep_for(1h); };
    auto const handle = monitor->operation("x");
    asio::co_spawn(*io, monitor->track("x", work), asio::detached);
    io->poll();
    monitor.reset();
    io.reset();
    handle.record(1ms);
}

TEST_CASE("runs that hop between threads are counted once each") {
    tidegate::monitor monitor;
    asio::thread_pool pool(4);
    auto hop = [&](int n) -> asio::awaitable<void> {
        asio::steady_timer timer(co_await asio::this_coro::executor);
        for (int i = 0; i < 3; ++i) {
            timer.expires_after(10us);
            co_await timer.async_wait(asio::deferred);
        }
        if (n % 3 == 1) throw std::domain_error("x");
    };
    auto body = [&](int n) -> asio::awaitable<void> {
        auto work = [&hop, n] { return hop(n); };
        co_await monitor.track("x", work);
    };
    for (int i = 0; i < 3000; ++i) asio::co_spawn(pool, body(i), asio::detached);
    pool.join();
    CHECK(of(monitor) == counts{2000, 1000, 0, 0, 0});
    CHECK(monitor.durations("x").count() == 2000);
    CHECK(monitor.durations("x", operation_outcome::error).count() == 1000);
    CHECK(monitor.durations("y").count() == 0);
}

TEST_CASE("a timer ends as it is told, or by what leaves its scope") {
    tidegate::monitor monitor;
    auto const x = monitor.operation("x");
    {
        auto const timer = x.measure();
    }
    {
        auto timer = x.measure();
        timer.set_outcome(operation_outcome::timed_out);
    }
    {
        auto timer = x.measure();
        timer.stop(operation_outcome::cancelled);
        timer.stop();
    }
    try {
        auto const timer = x.measure();
        throw std::domain_error("x");
    } catch (std::domain_error const&) { // the timer saw it
    }
    CHECK(of(monitor) == counts{1, 1, 1, 1, 0});
}
