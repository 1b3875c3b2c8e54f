// SPDX-License-Identifier: BSL-1.0
// That nobody waits for longer than a limiter lets them, whatever happens while they wait.
#include <tidegate/rate_limiter.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <deque>
#include <limits>

namespace asio = boost::asio;
namespace testing = tidegate::testing;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using options = tidegate::rate_limiter_options;

namespace {

struct tag;
using test_clock = testing::basic_manual_clock<tag>;
using limiter = tidegate::basic_rate_limiter<test_clock>;

struct request {
    error_code ec = asio::error::would_block;

    void start(limiter& l) {
        l.async_acquire([this](error_code e) { ec = e; });
    }
    void start_for(limiter& l, test_clock::duration timeout) {
        l.async_acquire_for(timeout, [this](error_code e) { ec = e; });
    }
    bool waits() const { return ec == asio::error::would_block; }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

options one_a_second() { return options().rate(1, 1s).burst(10).start_empty(true); }

} // namespace

TEST_CASE("nobody waits for longer than max_wait, however slow the limiter becomes meanwhile") {
    asio::io_context io;
    limiter l(io, one_a_second().max_wait(2s));
    request first, second, impatient;
    first.start(l);
    test_clock::advance(500ms);
    second.start(l);
    impatient.start_for(l, 1500ms);
    run(io);
    SECTION("by a new rate") { l.set_rate(1, 24h); }
    SECTION("by a new rate and a smaller burst") { l.set_rate(1, 24h, 1); }
    run(io);
    CHECK((first.waits() && second.waits()));
    CHECK(impatient.ec == error::rate_limited); // on entry: it would have been the third
    test_clock::advance(1500ms - 1ns);
    run(io);
    CHECK(first.waits());
    test_clock::advance(1ns);
    run(io);
    CHECK(first.ec == error::deadline_exceeded);
    CHECK(second.waits());
    test_clock::advance(500ms);
    run(io);
    CHECK(second.ec == error::deadline_exceeded);
    CHECK(l.waiting() == 0);
    CHECK(test_clock::pending() == 0);
    CHECK(io.stopped());
}

TEST_CASE("a burst that is lowered costs permits, and nobody waits for those beyond max_wait") {
    asio::io_context io;
    limiter l(io, one_a_second().max_wait(6s));
    test_clock::advance(5s);
    error_code large = asio::error::would_block;
    l.async_acquire(9, [&](error_code e) { large = e; });
    request behind;
    behind.start(l); // its turn is in five seconds
    l.set_burst(1);  // four permits are gone
    run(io);
    CHECK_FALSE(large); // a full bucket overdrawn by eight
    test_clock::advance(6s - 1ns);
    run(io);
    CHECK(behind.waits());
    test_clock::advance(1ns);
    run(io);
    CHECK(behind.ec == error::deadline_exceeded);
}

TEST_CASE("the earlier of max_wait and the caller's own deadline counts") {
    asio::io_context io;
    limiter l(io, one_a_second().max_wait(3s));
    request own_is_earlier, own_is_later;
    own_is_earlier.start_for(l, 2s);
    own_is_later.start_for(l, 1h);
    run(io);
    l.set_rate(1, 24h);
    test_clock::advance(2s);
    run(io);
    CHECK(own_is_earlier.ec == error::deadline_exceeded);
    CHECK(own_is_later.waits());
    test_clock::advance(1s);
    run(io);
    CHECK(own_is_later.ec == error::deadline_exceeded);
}

TEST_CASE("a max_wait that reaches beyond the end of time is no limit") {
    asio::io_context io;
    limiter l(io, one_a_second().max_wait(std::chrono::nanoseconds::max() - 1ns));
    test_clock::advance(1h);
    CHECK(l.try_acquire(10));
    request a;
    a.start(l);
    run(io);
    CHECK(a.waits());
    test_clock::advance(1s);
    run(io);
    CHECK_FALSE(a.ec);
}

TEST_CASE("a clock may stand before its epoch") {
    test_clock::set(test_clock::time_point(-3h));
    asio::io_context io;
    limiter l(io, one_a_second().max_wait(2s));
    request first, impatient, second, third;
    first.start(l);
    impatient.start_for(l, 1999ms);
    second.start_for(l, 2s);
    third.start(l);
    run(io);
    CHECK(impatient.ec == error::rate_limited);
    CHECK(third.ec == error::rate_limited);
    test_clock::advance(1s);
    run(io);
    CHECK_FALSE(first.ec);
    test_clock::advance(1s);
    run(io);
    CHECK_FALSE(second.ec);
}

TEST_CASE("a timer that comes late takes no permit from those whose turn it was") {
    asio::io_context io;
    limiter l(io, options().rate(200, 1s).burst(200).start_empty(true).max_wait(1s));
    std::deque<request> all(200); // more than are woken at once
    for (auto& r : all) r.start(l);
    run(io);
    test_clock::advance(10s);
    run(io);
    for (auto const& r : all) CHECK_FALSE(r.ec);
    CHECK(l.waiting() == 0);
    CHECK(test_clock::pending() == 0);
}

TEST_CASE("a request that waits is paid for in full at a lower rate") {
    asio::io_context io;
    limiter l(io, options().rate(1'000'000, 1s).burst(2502).start_empty(true));
    error_code ec = asio::error::would_block;
    l.async_acquire(2502, [&](error_code e) { ec = e; }); // 2502 days are 3 * 2^56 ns and a little
    run(io);
    l.set_rate(1, 24h, 1);
    test_clock::advance(24h * 2502);
    run(io);
    CHECK_FALSE(ec);
    auto const refused = l.try_acquire();
    CHECK_FALSE(refused);
    CHECK(refused.retry_after() >= 24h * 2502);
    CHECK(refused.retry_after() < 24h * 2502 + 1s);
}
