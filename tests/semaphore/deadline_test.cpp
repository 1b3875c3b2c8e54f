// SPDX-License-Identifier: BSL-1.0
// Deadlines, on a clock that the test moves.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using clock_type = tidegate::testing::manual_clock;
using semaphore = tidegate::basic_semaphore<clock_type>;
using permit = semaphore::permit;

namespace {

struct result {
    error_code ec = asio::error::would_block;
    permit got;
    auto handler() {
        return [this](error_code e, permit p) {
            ec = e;
            got = std::move(p);
        };
    }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("a wait ends at its deadline, not before") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    result r;
    s.async_acquire_for(5s, r.handler());
    clock_type::advance(5s - 1ns);
    run(io);
    CHECK(r.ec == asio::error::would_block);
    clock_type::advance(1ns);
    run(io);
    CHECK(r.ec == error::deadline_exceeded);
    CHECK(r.ec == tidegate::condition::rejected);
    CHECK(s.waiting() == 0);
    held.release();
    CHECK(s.available() == 1);
    CHECK(io.stopped());
}

TEST_CASE("a permit that comes in time is granted, and no timer is left") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    result r;
    s.async_acquire_for(5s, r.handler());
    CHECK(clock_type::pending() == 1);
    clock_type::advance(4s);
    held.release();
    run(io);
    CHECK(r.got.count() == 1);
    CHECK(clock_type::pending() == 0);
    CHECK(io.stopped());
    clock_type::advance(5s);
    run(io);
    CHECK(r.got.count() == 1);
}

TEST_CASE("a thousand deadlines need one timer and end in the order of time") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    std::vector<int> order;
    for (int i = 0; i < 1000; ++i) {
        int const rank = i * 7919 % 1000; // a permutation
        s.async_acquire_for(1s + rank * 1ms, [&order, rank](error_code ec, permit) {
            CHECK(ec == error::deadline_exceeded);
            order.push_back(rank);
        });
        CHECK(clock_type::pending() == 1);
    }
    for (int i = 0; i < 1000; ++i) {
        clock_type::advance_to_next();
        run(io);
    }
    REQUIRE(order.size() == 1000);
    CHECK(std::is_sorted(order.begin(), order.end()));
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a deadline that has passed still takes a permit that is there") {
    asio::io_context io;
    semaphore s(io, 1);
    result there, not_there, negative;
    s.async_acquire_until(clock_type::now() - 1s, there.handler());
    s.async_acquire_until(clock_type::now() - 1s, not_there.handler());
    s.async_acquire_for(-1h, negative.handler());
    run(io);
    clock_type::advance(0s);
    run(io);
    CHECK(there.got.count() == 1);
    CHECK(not_there.ec == error::deadline_exceeded);
    CHECK(negative.ec == error::deadline_exceeded);
}

TEST_CASE("a timeout that reaches beyond the end of time is no deadline") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    result r;
    s.async_acquire_for(clock_type::duration::max(), r.handler());
    CHECK(clock_type::pending() == 0);
    held.release();
    run(io);
    CHECK(r.got.count() == 1);
}

TEST_CASE("an expired request lets smaller ones behind it through") {
    asio::io_context io;
    semaphore s(io, 2);
    permit held = s.try_acquire();
    result large, small;
    s.async_acquire_for(1s, 2, large.handler());
    s.async_acquire(small.handler());
    clock_type::advance(1s);
    run(io);
    CHECK(large.ec == error::deadline_exceeded);
    CHECK(small.got.count() == 1);
}

TEST_CASE("an earlier deadline than the one the timer is set for is kept") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    result late, early;
    s.async_acquire_for(10s, late.handler());
    s.async_acquire_for(1s, early.handler());
    clock_type::advance(1s);
    run(io);
    CHECK(early.ec == error::deadline_exceeded);
    CHECK(late.ec == asio::error::would_block);
    clock_type::advance(9s);
    run(io);
    CHECK(late.ec == error::deadline_exceeded);
}

TEST_CASE("cancelling, cancel() and close() leave no timer behind") {
    for (int way = 0; way < 3; ++way) {
        asio::io_context io;
        semaphore s(io, 1);
        permit held = s.try_acquire();
        asio::cancellation_signal signal;
        result r;
        s.async_acquire_for(1h, asio::bind_cancellation_slot(signal.slot(), r.handler()));
        if (way == 0) signal.emit(asio::cancellation_type::total);
        else if (way == 1) s.cancel();
        else s.close();
        run(io);
        CHECK(r.ec ==
              (way == 2 ? error_code(error::closed) : error_code(asio::error::operation_aborted)));
        CHECK(clock_type::pending() == 0);
        CHECK(io.stopped());
    }
}

TEST_CASE("a loop of waits keeps one timer, and it goes with the last wait") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    int rounds = 0;
    std::function<void()> again = [&] {
        s.async_acquire_for(1h, [&](error_code ec, permit p) {
            REQUIRE_FALSE(ec);
            held = std::move(p);
            if (++rounds < 100) again();
        });
    };
    again();
    while (rounds < 100) {
        CHECK(clock_type::pending() == 1);
        held.release();
        run(io);
    }
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("real deadlines work on the steady clock") {
    asio::io_context io;
    tidegate::semaphore s(io, 1);
    auto held = s.try_acquire();
    error_code result;
    auto const start = std::chrono::steady_clock::now();
    s.async_acquire_for(3ms, [&](error_code ec, auto) { result = ec; });
    io.run();
    CHECK(result == error::deadline_exceeded);
    CHECK(std::chrono::steady_clock::now() - start >= 3ms);
}

TEST_CASE("destroying the context while a deadline is set calls nothing") {
    bool called = false;
    {
        asio::io_context io;
        semaphore s(io, 1);
        permit held = s.try_acquire();
        s.async_acquire_for(1s, [&](error_code, permit) { called = true; });
    }
    clock_type::advance(2s);
    CHECK_FALSE(called);
    CHECK(clock_type::pending() == 0);
}
