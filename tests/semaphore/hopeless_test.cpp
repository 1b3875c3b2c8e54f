// SPDX-License-Identifier: BSL-1.0
// Who is refused at once since the line is too long for its time, and who is not.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <deque>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using clock_type = tidegate::testing::manual_clock;
using semaphore = tidegate::basic_semaphore<clock_type>;
using permit = semaphore::permit;

namespace {

struct request {
    error_code ec = asio::error::would_block;
    permit held;

    bool waits() const { return ec == asio::error::would_block; }
    auto handler() {
        return [this](error_code e, permit p) {
            ec = e;
            held = std::move(p);
        };
    }
};

// One permit, and who come for it one after the other.
struct line {
    asio::io_context io;
    std::deque<request> requests;
    semaphore s;
    permit held;

    explicit line(tidegate::semaphore_options const& o) : s(io, o), held(s.try_acquire()) {}

    request& come() {
        request& r = requests.emplace_back();
        s.async_acquire(r.handler());
        run();
        return r;
    }
    request& come_for(clock_type::duration timeout) {
        request& r = requests.emplace_back();
        s.async_acquire_for(timeout, r.handler());
        run();
        return r;
    }
    // The permit comes back after a time, and goes to the next.
    void pass_on(clock_type::duration after) {
        clock_type::advance(after);
        run();
        held.release();
        run();
        for (request& r : requests) {
            if (r.held) held = std::move(r.held);
        }
    }
    // A turn every `each`, while somebody waits all the time.
    void learn(clock_type::duration each, int turns = 40) {
        for (int i = 0; i < turns; ++i) {
            while (s.waiting() < 2) come();
            pass_on(each);
        }
    }
    void run() {
        io.restart();
        io.poll();
    }
};

tidegate::semaphore_options refusing() { return tidegate::semaphore_options().refuse_hopeless(); }

} // namespace

TEST_CASE("who cannot be served in time is refused at once, who can is not") {
    line l(refusing());
    l.learn(10ms);
    REQUIRE(l.s.waiting() == 1);
    CHECK(l.come_for(10ms).ec == error::queue_full); // the second in line
    request& in_time = l.come_for(25ms);
    CHECK(in_time.waits());
    CHECK(l.come_for(25ms).ec == error::queue_full); // the third
    request& patient = l.come();
    CHECK(patient.waits());
    CHECK(l.s.statistics().refused_full == 2);
    CHECK(l.s.statistics().timed_out == 0);
    l.pass_on(10ms);
    l.pass_on(10ms);
    CHECK_FALSE(in_time.ec);
    l.pass_on(10ms);
    CHECK_FALSE(patient.ec);
    l.held.release();
    l.run();
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("max_wait is judged as a deadline is") {
    line l(refusing().max_wait(35ms));
    l.learn(10ms);
    REQUIRE(l.s.waiting() == 1);
    CHECK(l.come().waits());
    CHECK(l.come().waits());
    CHECK(l.come().ec == error::queue_full);
    CHECK(l.come_for(1h).ec == error::queue_full);
    for (int i = 0; i < 4; ++i) l.pass_on(10ms);
    CHECK(l.s.statistics().timed_out == 0);
}

TEST_CASE("nobody is refused unless that was asked for") {
    line l(tidegate::semaphore_options().max_wait(1ms));
    for (int i = 0; i < 40; ++i) {
        while (l.s.waiting() < 2) l.come();
        l.pass_on(500us);
    }
    for (int i = 0; i < 10; ++i) CHECK(l.come().waits());
    CHECK_FALSE(
        refusing().order(tidegate::queue_order::newest_first_under_overload).refuses_hopeless());
    CHECK_FALSE(tidegate::semaphore_options().refuses_hopeless());
    CHECK(refusing().refuses_hopeless());
}

TEST_CASE("nobody is refused when nobody waits, however slow the line was") {
    line l(refusing());
    l.learn(10s);
    while (l.s.waiting() > 0) l.pass_on(10s);
    request& first = l.come_for(1s);
    CHECK(first.waits());
    CHECK(l.come_for(1s).waits()); // the line is a new one
    l.pass_on(1ms);
    CHECK_FALSE(first.ec);
}

TEST_CASE("a line that was held up is tried again once it has cleared") {
    line l(refusing().max_wait(100ms));
    l.learn(10ms);
    while (l.come().waits()) {
    }
    CHECK(l.s.waiting() == 10);
    clock_type::advance(1h); // the holder stalls: all of them give up
    l.run();
    CHECK(l.s.waiting() == 0);
    for (int i = 0; i < 50; ++i) CHECK(l.come().waits());
    for (int i = 0; i < 50; ++i) l.pass_on(1ms);
    CHECK(l.s.statistics().timed_out == 10);
}

TEST_CASE("a line that never clears is known to be fast again after some turns") {
    line l(refusing());
    l.learn(1s, 100);
    l.come();
    l.come();
    l.pass_on(1h);
    CHECK(l.come_for(1s).ec == error::queue_full);
    l.learn(1ms, 300);
    CHECK(l.come_for(100ms).waits());
}

TEST_CASE("a refusal lets no permit lie idle") {
    // Twice as many come as can be served, each with patience for ten turns.
    line l(refusing().max_wait(105ms));
    int idle = 0;
    for (int i = 0; i < 1000; ++i) {
        l.come();
        l.come();
        l.pass_on(10ms);
        if (!l.held) ++idle;
    }
    CHECK(idle == 0);
    auto const told = l.s.statistics();
    CHECK(told.granted_after_waiting == 1000);
    CHECK(told.timed_out < 40); // those who came before it was known how long it takes
    CHECK(told.refused_full > 900);
}
