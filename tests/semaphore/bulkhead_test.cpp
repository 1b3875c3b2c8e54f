// SPDX-License-Identifier: BSL-1.0
// A line of bounded length and time, a capacity that changes, newest first, and what is counted.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/counting_allocator.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/initiating.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <array>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::queue_order;
using tidegate::semaphore_options;
using clock_type = tidegate::testing::manual_clock;
using semaphore = tidegate::basic_semaphore<clock_type>;
using permit = semaphore::permit;

namespace {

struct request {
    error_code ec = asio::error::would_block; // until it completes
    permit got;
    asio::cancellation_signal signal;

    void start(semaphore& s, std::size_t n = 1) {
        start_until(s, clock_type::time_point::max(), n);
    }
    void start_until(semaphore& s, clock_type::time_point deadline, std::size_t n = 1) {
        auto handler = [this](error_code e, permit p) {
            CHECK_FALSE(test::initiating());
            ec = e;
            got = std::move(p);
        };
        test::initiate([&] {
            s.async_acquire_until(deadline, n,
                                  asio::bind_cancellation_slot(signal.slot(), handler));
        });
    }
    bool waits() const { return ec == asio::error::would_block; }
    bool granted() const { return !ec && got; }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

semaphore_options with_capacity(std::size_t n) {
    semaphore_options o;
    o.capacity(n);
    return o;
}

semaphore_options newest_first(std::size_t n) {
    return with_capacity(n).order(queue_order::newest_first_under_overload);
}

std::string message_of(auto call) {
    try {
        call();
    } catch (std::invalid_argument const& e) {
        return e.what();
    }
    return "no exception";
}

bool says(std::string const& message, char const* part) {
    return message.find(part) != std::string::npos;
}

} // namespace

// Options ------------------------------------------------------------------------------------

TEST_CASE("options have their documented defaults") {
    semaphore_options const o;
    CHECK(o.capacity() == 1);
    CHECK(o.max_waiters() == std::numeric_limits<std::size_t>::max());
    CHECK(o.max_wait() == std::chrono::nanoseconds::max());
    CHECK(o.order() == queue_order::fifo);
    CHECK(o.queue_delay_target() == 5ms);
    CHECK(o.queue_delay_interval() == 100ms);
    CHECK_FALSE(o.measures_waits());
    CHECK(newest_first(1).measures_waits());
}

TEST_CASE("a bad option is refused with its name, value and range") {
    semaphore_options o;
    CHECK(says(message_of([&] { o.capacity(0); }), "semaphore capacity is 0, allowed is 1 to"));
    CHECK(says(message_of([&] { o.max_wait(-1ns); }), "semaphore max_wait in ns is -1, allowed"));
    CHECK(says(message_of([&] { o.queue_delay_target(0ns); }),
               "semaphore queue_delay_target in ns is 0, allowed is 1 to 3600000000000"));
    CHECK(says(message_of([&] { o.queue_delay_interval(2h); }),
               "semaphore queue_delay_interval in ns is 7200000000000, allowed is 1 to"));
    asio::io_context io;
    semaphore s(io, 2);
    CHECK(says(message_of([&] { s.resize(0); }), "semaphore capacity is 0, allowed is 1 to"));
    CHECK_THROWS_AS(s.resize(semaphore::max_capacity + 1), std::invalid_argument);
    CHECK(s.capacity() == 2);
    CHECK_NOTHROW(s.resize(semaphore::max_capacity));
    CHECK(s.available() == semaphore::max_capacity);
}

// A bounded line -----------------------------------------------------------------------------

TEST_CASE("one more than may wait is refused, and the line has room again when one leaves") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).max_waiters(2));
    permit held = s.try_acquire();
    request a, b, refused, after_cancel, after_grant;
    a.start(s);
    b.start(s);
    refused.start(s);
    run(io);
    CHECK(refused.ec == error::queue_full);
    CHECK(refused.ec == tidegate::condition::rejected);
    CHECK(a.waits());
    CHECK(b.waits());
    a.signal.emit(asio::cancellation_type::total);
    after_cancel.start(s);
    held.release();
    after_grant.start(s);
    run(io);
    CHECK(b.granted());
    CHECK(after_cancel.waits());
    CHECK(after_grant.waits());
    CHECK(s.statistics().refused_full == 1);
    CHECK(s.statistics().peak_waiting == 2);
}

TEST_CASE("where none may wait, a refusal leaves nothing behind") {
    asio::io_context io;
    semaphore s(io, with_capacity(2).max_waiters(0));
    permit held = s.try_acquire();
    request large, fits;
    large.start(s, 2);
    CHECK(s.try_acquire()); // the refused one does not stand in the way
    fits.start(s);
    run(io);
    CHECK(large.ec == error::queue_full);
    CHECK(fits.granted());
    CHECK(s.statistics().peak_waiting == 0);
}

TEST_CASE("closing goes before a full line") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).max_waiters(0));
    permit held = s.try_acquire();
    s.close();
    request late;
    late.start(s);
    error_code ec;
    auto acquire = [](semaphore& from, error_code& to) -> asio::awaitable<void> {
        auto const p = co_await from.acquire(to);
        CHECK_FALSE(p);
    };
    asio::co_spawn(io, acquire(s, ec), asio::detached);
    run(io);
    CHECK(late.ec == error::closed);
    CHECK(ec == error::closed);
}

TEST_CASE("a coroutine is refused without being suspended, with an error code or an exception") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).max_waiters(0));
    std::vector<error_code> seen;
    auto acquire = [&]() -> asio::awaitable<void> {
        error_code ec = asio::error::eof;
        auto const held = co_await s.acquire(ec);
        CHECK(held.count() == 1);
        seen.push_back(ec);
        auto const refused = co_await s.acquire(ec);
        CHECK_FALSE(refused);
        seen.push_back(ec);
        auto const bad = co_await s.acquire(ec, 2);
        seen.push_back(ec);
        try {
            auto const thrown = co_await s.acquire();
        } catch (boost::system::system_error const& e) {
            seen.push_back(e.code());
        }
    };
    asio::co_spawn(io, acquire(), asio::detached);
    run(io);
    CHECK(seen ==
          std::vector<error_code>{{}, error::queue_full, error::invalid_count, error::queue_full});
    CHECK(s.statistics().refused_full == 2);
    CHECK(s.available() == 1);
}

TEST_CASE("a coroutine waits in a line with room, with the error in a variable") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).max_waiters(1));
    permit held = s.try_acquire();
    request before; // fills the line, and leaves room again
    before.start(s);
    held.release();
    run(io);
    held = std::move(before.got);
    error_code ec = asio::error::eof;
    bool got = false;
    auto acquire = [&]() -> asio::awaitable<void> {
        auto const p = co_await s.acquire(ec);
        got = bool(p);
    };
    asio::co_spawn(io, acquire(), asio::detached);
    run(io);
    CHECK(s.waiting() == 1);
    held.release();
    run(io);
    CHECK(got);
    CHECK_FALSE(ec);
}

// A bounded wait -----------------------------------------------------------------------------

TEST_CASE("the longest wait and the operation's own deadline both count: the earlier one") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).max_wait(5s));
    permit held = s.try_acquire();
    request plain, shorter, longer;
    plain.start(s);
    shorter.start_until(s, clock_type::now() + 2s);
    longer.start_until(s, clock_type::now() + 1h);
    clock_type::advance(2s);
    run(io);
    CHECK(shorter.ec == error::deadline_exceeded);
    clock_type::advance(3s - 1ns);
    run(io);
    CHECK(plain.waits());
    CHECK(longer.waits());
    clock_type::advance(1ns);
    run(io);
    CHECK(plain.ec == error::deadline_exceeded);
    CHECK(longer.ec == error::deadline_exceeded);
    CHECK(s.statistics().timed_out == 3);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a wait that cannot be met is refused at once, without a timer") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).max_wait(0s));
    semaphore t(io, 1);
    permit const held = s.try_acquire(), held_too = t.try_acquire();
    request no_wait, passed;
    no_wait.start(s);
    passed.start_until(t, clock_type::now());
    CHECK(clock_type::pending() == 0);
    CHECK(s.waiting() == 0);
    run(io);
    CHECK(no_wait.ec == error::deadline_exceeded);
    CHECK(passed.ec == error::deadline_exceeded);
    CHECK(t.statistics().timed_out == 1);
    CHECK(io.stopped());
}

// Resizing -----------------------------------------------------------------------------------

TEST_CASE("raising the capacity wakes exactly those that fit") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    std::array<request, 4> r;
    for (request& each : r) each.start(s);
    s.resize(3);
    CHECK(s.waiting() == 2);
    run(io);
    CHECK(r[0].granted());
    CHECK(r[1].granted());
    CHECK(r[2].waits());
    s.resize(10);
    run(io);
    CHECK(r[3].granted());
    CHECK(s.capacity() == 10);
    CHECK(s.available() == 5);
}

TEST_CASE("lowering lets holders finish and lets nobody in until there is room below") {
    asio::io_context io;
    semaphore s(io, 4);
    std::array<permit, 4> held;
    for (permit& p : held) p = s.try_acquire();
    s.resize(2);
    CHECK(s.capacity() == 2);
    CHECK(s.available() == 0);
    for (permit const& p : held) CHECK(p.count() == 1);
    request next;
    next.start(s);
    held[0].release();
    held[1].release();
    run(io);
    CHECK(next.waits());
    CHECK_FALSE(s.try_acquire());
    held[2].release();
    run(io);
    CHECK(next.granted());
    held[3].release();
    CHECK(s.available() == 1);
    next.got.release();
    CHECK(s.available() == 2);
    CHECK(s.try_acquire(2));
}

TEST_CASE("lowering takes what is available first, and a permit of many pays back in one go") {
    asio::io_context io;
    semaphore s(io, 10);
    permit seven = s.try_acquire(7);
    s.resize(8);
    CHECK(s.available() == 1);
    s.resize(3);
    CHECK(s.available() == 0);
    s.resize(5); // of the four owed, two are left
    CHECK(s.available() == 0);
    seven.release();
    CHECK(s.available() == 5);
    CHECK(s.try_acquire(5));
    CHECK_FALSE(s.try_acquire(6));
}

TEST_CASE("raising again before permits are back lets in no more than the capacity") {
    asio::io_context io;
    semaphore s(io, 3);
    permit all = s.try_acquire(3);
    request a, b;
    a.start(s);
    b.start(s);
    s.resize(1);
    s.resize(4);
    run(io);
    CHECK(a.granted());
    CHECK(b.waits());
    all.release();
    run(io);
    CHECK(b.granted());
    CHECK(s.available() == 2);
}

TEST_CASE("waiters that want more than a lowered capacity fail, and those behind them go on") {
    asio::io_context io;
    semaphore s(io, 4);
    permit held = s.try_acquire(2);
    request large, small, also_large, last;
    large.start(s, 4);
    small.start(s, 1);
    also_large.start(s, 4);
    last.start(s, 2);
    s.resize(3);
    run(io);
    CHECK(large.ec == error::invalid_count);
    CHECK(also_large.ec == error::invalid_count);
    CHECK(small.granted());
    CHECK(last.waits());
    held.release();
    run(io);
    CHECK(last.granted());
    CHECK(s.available() == 0);
}

TEST_CASE("a lowered semaphore may go, or close, before its permits are back") {
    asio::io_context io;
    permit outlives;
    {
        semaphore s(io, 4);
        outlives = s.try_acquire(4);
        s.resize(1);
    }
    outlives.release();
    semaphore s(io, 4);
    permit all = s.try_acquire(4);
    s.resize(1);
    s.close();
    s.resize(2);
    all.release();
    CHECK(s.available() == 2);
    CHECK_FALSE(s.try_acquire());
}

TEST_CASE("a thousand waiters are woken by one resize") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    std::vector<permit> kept;
    for (int i = 0; i < 1000; ++i) {
        s.async_acquire([&](error_code, permit p) { kept.push_back(std::move(p)); });
    }
    s.resize(801);
    run(io);
    CHECK(kept.size() == 800);
    CHECK(s.waiting() == 200);
}

TEST_CASE("resizing from many threads loses no permit") {
    asio::io_context io;
    tidegate::semaphore s(io, 8);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t) {
        threads.emplace_back([&s, t] {
            for (unsigned i = 0; i < 20000; ++i) {
                auto const p = s.try_acquire(1 + i % 3);
                if (t < 2 && i % 4 == 0) s.resize(1 + (i / 4 + t) % 8);
            }
        });
    }
    for (std::thread& t : threads) t.join();
    CHECK(s.available() == s.capacity());
    s.resize(5);
    CHECK(s.try_acquire(5));
}

TEST_CASE("a lowered semaphore goes while other threads give its permits back") {
    asio::io_context io;
    for (int round = 0; round < 500; ++round) {
        std::optional<tidegate::semaphore> s(std::in_place, io, 4);
        auto two = s->try_acquire(2), one = s->try_acquire(), another = s->try_acquire();
        std::thread a([&] { two.release(); });
        std::thread b([&] {
            one.release();
            another.release();
        });
        s->resize(1 + static_cast<std::size_t>(round) % 4);
        s.reset();
        a.join();
        b.join();
    }
}

// Newest first under overload ----------------------------------------------------------------

TEST_CASE("a burst is served in order, a standing queue newest first") {
    asio::io_context io;
    semaphore s(io, newest_first(1));
    permit held = s.try_acquire();
    std::array<request, 4> r;
    r[0].start(s);
    clock_type::advance(104ms); // above the target for less than the interval
    r[1].start(s);
    held.release();
    run(io);
    CHECK(r[0].granted());
    CHECK_FALSE(s.is_overloaded());
    clock_type::advance(106ms);
    r[2].start(s);
    CHECK(s.is_overloaded());
    clock_type::advance(1ms);
    r[3].start(s);
    r[0].got.release();
    run(io);
    CHECK(r[3].granted());
    CHECK(r[2].waits());
    CHECK(r[1].ec == error::overloaded);
    CHECK(r[1].ec == tidegate::condition::rejected);
    CHECK(s.statistics().refused_overloaded == 1);
}

namespace {

// A semaphore with one permit out that has just found that it is overloaded: by the waiter `first`,
// which that made fail.
void overload(asio::io_context& io, semaphore& s, request& first, request& second) {
    first.start(s);
    clock_type::advance(105ms);
    second.start(s);
    run(io);
    REQUIRE(s.is_overloaded());
    REQUIRE(first.ec == error::overloaded);
    REQUIRE(second.waits());
}

} // namespace

TEST_CASE("under overload a waiter fails after twice the target, when somebody comes") {
    asio::io_context io;
    semaphore s(io, newest_first(1));
    permit held = s.try_acquire();
    request first, second, third, fourth;
    overload(io, s, first, second);
    clock_type::advance(10ms); // exactly twice the target
    third.start(s);
    run(io);
    CHECK(second.waits());
    clock_type::advance(1ns);
    fourth.start(s);
    run(io);
    CHECK(second.ec == error::overloaded);
    CHECK(third.waits());
}

TEST_CASE("under overload a permit goes to an old waiter rather than to nobody") {
    asio::io_context io;
    semaphore s(io, newest_first(1));
    permit held = s.try_acquire();
    request first, second;
    overload(io, s, first, second);
    clock_type::advance(1h);
    held.release();
    run(io);
    CHECK(second.granted());
}

TEST_CASE("under overload a newcomer that fits does not wait behind a large request") {
    asio::io_context io;
    semaphore s(io, newest_first(3));
    permit held = s.try_acquire(2);
    request large, larger, small;
    large.start(s, 2);
    clock_type::advance(105ms);
    larger.start(s, 3);
    run(io);
    REQUIRE(s.is_overloaded());
    small.start(s, 1);
    CHECK_FALSE(s.try_acquire()); // a try is never ahead of those that wait
    run(io);
    CHECK(small.granted());
    CHECK(larger.waits());
}

TEST_CASE("the order is turned back once the delay was not above the target for an interval") {
    asio::io_context io;
    semaphore s(io, newest_first(1));
    permit held = s.try_acquire();
    request first, second;
    overload(io, s, first, second);
    held.release();
    run(io);
    CHECK(second.granted());
    clock_type::advance(100ms);
    std::array<request, 3> r;
    r[0].start(s);
    clock_type::advance(1ms);
    r[1].start(s);
    CHECK_FALSE(s.is_overloaded());
    r[2].start(s);
    second.got.release();
    run(io);
    CHECK(r[0].granted());
    CHECK(r[1].waits());
}

TEST_CASE("when the order turns, who is next now goes on at once") {
    SECTION("to newest first") {
        asio::io_context io;
        semaphore s(io, newest_first(3));
        permit held = s.try_acquire();
        request large, small, newcomer;
        large.start(s, 3);
        clock_type::advance(100ms);
        small.start(s); // behind the large one, although it fits
        clock_type::advance(5ms);
        newcomer.start(s);
        run(io);
        CHECK(large.ec == error::overloaded);
        CHECK(newcomer.granted());
        CHECK(small.granted());
    }
    SECTION("to first in, first out") {
        asio::io_context io;
        semaphore s(io, newest_first(3));
        permit held = s.try_acquire(2), one = s.try_acquire();
        request first, second, small, large, newcomer;
        overload(io, s, first, second);
        one.release();
        run(io);
        REQUIRE(second.granted());
        clock_type::advance(99ms);
        small.start(s);
        large.start(s, 3);
        second.got.release();
        run(io);
        CHECK(small.waits()); // behind the newer large one, although it fits
        clock_type::advance(1ms);
        newcomer.start(s, 3);
        run(io);
        CHECK(small.granted());
        CHECK(large.waits());
    }
}

TEST_CASE("first in, first out stays so however long the queue stands") {
    asio::io_context io;
    semaphore s(io, 1);
    permit held = s.try_acquire();
    request a, b;
    a.start(s);
    clock_type::advance(1h);
    b.start(s);
    held.release();
    run(io);
    CHECK(a.granted());
    CHECK(b.waits());
    CHECK_FALSE(s.is_overloaded());
}

TEST_CASE("under overload the old make room for the new in a full line") {
    asio::io_context io;
    semaphore s(io, newest_first(1).max_waiters(1));
    permit held = s.try_acquire();
    request first, second, third;
    overload(io, s, first, second);
    third.start(s);
    clock_type::advance(11ms);
    request fourth;
    fourth.start(s);
    run(io);
    CHECK(third.ec == error::queue_full);
    CHECK(second.ec == error::overloaded);
    CHECK(fourth.waits());
}

// Statistics ---------------------------------------------------------------------------------

TEST_CASE("what becomes of waiters is counted, and what does not wait is not") {
    asio::io_context io;
    semaphore s(io, with_capacity(1).measure_waits());
    permit held = s.try_acquire();
    CHECK_FALSE(s.try_acquire());
    request granted, expired, cancelled, all_cancelled, closed;
    granted.start(s);
    clock_type::advance(2s);
    expired.start_until(s, clock_type::now() + 1s);
    cancelled.start(s);
    cancelled.signal.emit(asio::cancellation_type::total);
    clock_type::advance(1s);
    run(io);
    held.release();
    all_cancelled.start(s);
    s.cancel();
    closed.start(s);
    s.close();
    run(io);
    auto const told = s.statistics();
    CHECK(told.granted_after_waiting == 1);
    CHECK(told.timed_out == 1);
    CHECK(told.cancelled == 2);
    CHECK(told.refused_full == 0);
    CHECK(told.refused_overloaded == 0);
    CHECK(told.peak_waiting == 3);
    CHECK(told.total_wait == 3s);
    CHECK(told.longest_wait == 3s);
}

namespace {

// A clock that counts its readings.
struct counted_clock : std::chrono::steady_clock {
    static inline int readings = 0;
    static time_point now() noexcept {
        ++readings;
        return std::chrono::steady_clock::now();
    }
};

} // namespace

TEST_CASE("the clock is not read while nobody waits, nor for a plain wait") {
    asio::io_context io;
    using plain = tidegate::basic_semaphore<counted_clock>;
    plain s(io, newest_first(2).max_wait(1h));
    plain t(io, 1);
    counted_clock::readings = 0;
    auto held = s.try_acquire();
    s.async_acquire_until(counted_clock::time_point::max(), [](error_code, auto) {});
    run(io);
    held.release();
    s.resize(3);
    held = t.try_acquire();
    t.async_acquire([](error_code, auto) {});
    held.release();
    run(io);
    CHECK(counted_clock::readings == 0);
}

TEST_CASE("an unsynchronised semaphore is a bulkhead too") {
    asio::io_context io;
    tidegate::unsynchronized_semaphore s(io, newest_first(1).max_waiters(1));
    auto held = s.try_acquire();
    std::vector<error_code> seen;
    for (int i = 0; i < 2; ++i) {
        s.async_acquire([&](error_code ec, auto) { seen.push_back(ec); });
    }
    s.resize(2);
    run(io);
    CHECK(seen == std::vector<error_code>{error::queue_full, {}});
    tidegate::semaphore_statistics const told = s.statistics();
    CHECK(told.granted_after_waiting == 1);
}

TEST_CASE("a bounded line allocates no more than an open one") {
    asio::io_context io;
    semaphore s(io, newest_first(1).max_waiters(1));
    tidegate::testing::allocation_counts counts;
    permit held = s.try_acquire();
    auto handler = asio::bind_allocator(tidegate::testing::counting_allocator<>(counts),
                                        [](error_code, permit) {});
    s.async_acquire(handler);
    CHECK(counts.allocated == 1);
    s.async_acquire(handler); // refused
    held.release();
    run(io);
    CHECK(counts.allocated == 4); // two operations and their postings
    CHECK(counts.live() == 0);
}
