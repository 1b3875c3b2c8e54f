// SPDX-License-Identifier: BSL-1.0
// What docs/concepts.md shows: tokens, executors, deadlines, cancellation, the fast path, threads,
// and time that a test moves.
#include <tidegate/policy.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/timeout.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <iostream>
#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

void expect(bool what, char const* why) {
    if (!what) throw std::logic_error(why);
}

void run(asio::io_context& io, asio::awaitable<void> body) {
    asio::co_spawn(io, std::move(body), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.restart();
    io.run();
}

asio::awaitable<void> tokens(tidegate::semaphore& places, asio::io_context& io) {
    //! [tokens]
    auto mine = co_await places.acquire();                      // coroutines
    auto other = co_await places.async_acquire(asio::deferred); // the same, always suspending
    places.async_acquire([](tidegate::error_code ec, tidegate::semaphore::permit permit) {
        if (!ec) std::cout << "a callback has " << permit.count() << " place\n";
    });
    auto strand = asio::make_strand(io);
    places.async_acquire(asio::bind_executor(strand, [strand](tidegate::error_code, auto permit) {
        expect(strand.running_in_this_thread(), "handlers run on their associated executor");
        permit.release();
    }));
    //! [tokens]
}

asio::awaitable<void> deadlines(tidegate::semaphore& places) {
    //! [deadline]
    tidegate::error_code ec;
    auto place = co_await places.async_acquire_for(20ms, asio::redirect_error(asio::deferred, ec));
    if (ec == tidegate::error::deadline_exceeded) std::cout << "nobody left in 20 ms\n";
    //! [deadline]
    expect(ec == tidegate::error::deadline_exceeded, "the deadline has passed");
}

asio::awaitable<void> nested() {
    tidegate::policy const outer{tidegate::timeout{1s}};
    tidegate::policy const inner{tidegate::timeout{10s}};
    auto read = [](tidegate::call_context const& call) -> asio::awaitable<int> {
        expect(call.remaining() <= 1s, "the earlier deadline applies");
        co_return 42;
    };
    //! [inner]
    auto fetch = [&](tidegate::call_context const& call) -> asio::awaitable<int> {
        co_return co_await inner(read, call); // the outer deadline applies here, too
    };
    int const got = co_await outer(fetch);
    //! [inner]
    expect(got == 42, "the result passes through");
}

void cancellation(asio::io_context& io, tidegate::semaphore& places) {
    bool left = false;
    auto has_left = [&](tidegate::error_code ec, tidegate::semaphore::permit) {
        left = ec == asio::error::operation_aborted;
    };
    //! [cancel]
    asio::cancellation_signal stop;
    places.async_acquire(asio::bind_cancellation_slot(stop.slot(), has_left));
    asio::post(io, [&] { stop.emit(asio::cancellation_type::total); }); // where the handler runs
    //! [cancel]
    io.restart();
    io.run();
    expect(left, "a cancelled operation says so");
}

//! [fast]
// For each request: no lock, no allocation, no trip through the scheduler.
bool admit(tidegate::semaphore& places) {
    auto place = places.try_acquire();
    return static_cast<bool>(place); // false: answer 503, and keep nobody waiting
}
//! [fast]

void threads() {
    //! [threads]
    asio::thread_pool pool(2);
    tidegate::semaphore places(pool, 4);
    std::atomic<int> inside{0};
    std::atomic<int> most{0};
    auto work = [&]() -> asio::awaitable<void> {
        auto place = co_await places.acquire(); // from any thread
        int const now = ++inside;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        co_await tidegate::sleep_for(1ms);
        --inside;
    };
    for (int i = 0; i < 100; ++i) asio::co_spawn(pool, std::ref(work), asio::detached);
    pool.join();
    //! [threads]
    expect(most <= 4, "no more than the capacity");
}

void future() {
    //! [future]
    asio::thread_pool pool(1);
    tidegate::semaphore places(pool, 1);
    auto place = places.async_acquire(asio::use_future).get(); // blocks this thread: not on a loop
    //! [future]
    expect(place.count() == 1, "the future has the permit");
}

void manual_time() {
    //! [manual]
    using clock = tidegate::testing::manual_clock;
    using semaphore = tidegate::basic_semaphore<clock>;
    asio::io_context io;
    semaphore places(io, 1);
    auto taken = places.try_acquire();
    tidegate::error_code came_of_it;
    places.async_acquire_for(1h, [&](tidegate::error_code ec, auto) { came_of_it = ec; });
    io.poll();
    clock::advance(1h); // takes no time
    io.poll();
    //! [manual]
    expect(came_of_it == tidegate::error::deadline_exceeded, "an hour has passed");
}

} // namespace

int main() {
    asio::io_context io{1};
    tidegate::semaphore places(io, 2);
    run(io, tokens(places, io));
    expect(places.available() == 2, "all permits came back");
    expect(admit(places), "there is room");
    auto all = places.try_acquire(2);
    expect(!admit(places), "there is none");
    run(io, deadlines(places));
    run(io, nested());
    cancellation(io, places);
    threads();
    future();
    manual_time();
}
