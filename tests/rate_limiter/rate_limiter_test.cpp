// SPDX-License-Identifier: BSL-1.0
// Who is admitted at which rate, who waits, and that nothing is lost.
#include <tidegate/rate_limiter.hpp>
#include <tidegate/testing/counting_allocator.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/testing/tracking_executor.hpp>

#include "support/initiating.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <vector>

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

// How many permits somebody gets who asks for as many as there are, every `step` for a time.
int admitted(limiter& l, test_clock::duration time, test_clock::duration step) {
    int sum = 0;
    for (test_clock::duration passed{0}; passed < time; passed += step) {
        while (sum < 10'000 && l.try_acquire()) ++sum;
        test_clock::advance(step);
    }
    return sum;
}

options ten_a_second() { return options().rate(10, 1s).burst(10); }

// Acquires and remembers what came of it, and when.
struct request {
    error_code ec = asio::error::would_block;
    int completions = 0;
    test_clock::time_point at;
    asio::cancellation_signal signal;

    auto handler() {
        return asio::bind_cancellation_slot(signal.slot(), [this](error_code e) {
            ec = e;
            at = test_clock::now();
            ++completions;
        });
    }

    void start(limiter& l, std::uint64_t n = 1) { l.async_acquire(n, handler()); }
    void start_for(limiter& l, test_clock::duration timeout, std::uint64_t n = 1) {
        l.async_acquire_for(timeout, n, handler());
    }
    bool waits() const { return completions == 0; }
    bool granted() const { return completions == 1 && !ec; }
    bool failed_with(error_code const& e) const { return completions == 1 && ec == e; }
};

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

// A bucket that fills every second, in permits times that: exact.
struct exact_bucket {
    static constexpr std::uint64_t second = 1'000'000'000;

    std::uint64_t permits;
    std::uint64_t burst;
    std::uint64_t there = burst * second;

    void pass(test_clock::duration time) {
        auto const ns = static_cast<std::uint64_t>(time.count());
        std::uint64_t const room = burst * second - there;
        there += ns > room / permits ? room : ns * permits;
    }
};

// In small steps: a timer that comes late has let a full bucket overflow.
void pass(test_clock::duration by, asio::io_context& io) {
    for (; by > 10ms; by -= 10ms) {
        test_clock::advance(10ms);
        run(io);
    }
    test_clock::advance(by);
    run(io);
}

} // namespace

TEST_CASE("a burst is there at once, the rate after it") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    CHECK(l.available() == 10);
    CHECK(l.try_acquire(7));
    CHECK(l.try_acquire(3));
    CHECK_FALSE(l.try_acquire());
    test_clock::advance(100ms - 1ns);
    CHECK_FALSE(l.try_acquire());
    test_clock::advance(1ns);
    CHECK(l.try_acquire());
    CHECK_FALSE(l.try_acquire());
}

TEST_CASE("a refusal says exactly when to come again") {
    asio::io_context io;
    limiter l(io, options().rate(3, 1s).burst(5));
    CHECK(l.try_acquire(5).retry_after() == 0s);
    auto const refused = l.try_acquire(2);
    CHECK_FALSE(refused);
    CHECK(refused.error() == error::rate_limited);
    CHECK(refused.error() == tidegate::condition::rejected);
    CHECK(refused.retry_after() == 666'666'667ns);
    test_clock::advance(refused.retry_after() - 1ns);
    CHECK(l.try_acquire(2).retry_after() == 1ns);
    test_clock::advance(1ns);
    CHECK(l.try_acquire(2));
}

TEST_CASE("no or too many permits are refused for good") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    for (std::uint64_t const n : {std::uint64_t{0}, std::uint64_t{11}, ~std::uint64_t{0}}) {
        auto const refused = l.try_acquire(n);
        CHECK_FALSE(refused);
        CHECK(refused.error() == error::invalid_count);
        CHECK(refused.retry_after() == test_clock::duration::max());
        request r;
        r.start(l, n);
        run(io);
        CHECK(r.failed_with(error::invalid_count));
    }
    CHECK(l.available() == 10);
}

TEST_CASE("a large request overdraws a full bucket, and later ones pay") {
    asio::io_context io;
    limiter l(io, ten_a_second().overdraw(true));
    CHECK(l.try_acquire(1));
    CHECK_FALSE(l.try_acquire(30));
    test_clock::advance(100ms);
    CHECK(l.try_acquire(30));
    CHECK(l.try_acquire().retry_after() == 2100ms);
    request behind;
    behind.start(l);
    run(io);
    pass(2100ms - 1ns, io);
    CHECK(behind.waits());
    pass(1ns, io);
    CHECK(behind.granted());
}

TEST_CASE("waiters are served in order, whatever they weigh") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    std::deque<request> all(5);
    std::vector<std::uint64_t> const weights = {3, 10, 1, 1, 5};
    auto const start = test_clock::now();
    for (std::size_t i = 0; i < all.size(); ++i) all[i].start(l, weights[i]);
    CHECK(l.waiting() == 5);
    CHECK_FALSE(l.try_acquire());
    while (l.waiting() > 0) {
        REQUIRE(test_clock::pending() == 1);
        REQUIRE(test_clock::advance_to_next());
        run(io);
    }
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        sum += weights[i];
        CHECK(all[i].granted());
        CHECK(all[i].at - start == 100ms * static_cast<int>(sum));
    }
    CHECK(test_clock::pending() == 0);
}

TEST_CASE("a try does not overtake those who wait") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    CHECK(l.try_acquire(9));
    request large;
    large.start(l, 5);
    auto const refused = l.try_acquire();
    CHECK_FALSE(refused);
    CHECK(refused.retry_after() == 500ms); // after the large one
    large.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(large.failed_with(asio::error::operation_aborted));
    CHECK(l.try_acquire());
}

TEST_CASE("a wait that cannot be met in time is refused at once") {
    asio::io_context io;
    limiter l(io, ten_a_second().max_wait(2s));
    CHECK(l.try_acquire(10));
    request first;
    first.start(l, 10);
    SECTION("by its own timeout, counting those ahead") {
        request fits, does_not;
        does_not.start_for(l, 1s + 100ms - 1ns);
        fits.start_for(l, 1s + 100ms);
        run(io);
        CHECK(does_not.failed_with(error::rate_limited));
        CHECK(fits.waits());
        pass(1s + 100ms, io);
        CHECK(fits.granted());
    }
    SECTION("by max_wait") {
        request fits, does_not;
        fits.start(l, 10);
        does_not.start(l);
        run(io);
        CHECK(does_not.failed_with(error::rate_limited));
        pass(2s, io);
        CHECK(fits.granted());
    }
}

TEST_CASE("permits that are there are granted even when the deadline is over") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    request r;
    r.start_for(l, -1s);
    run(io);
    CHECK(r.granted());
}

TEST_CASE("a timer that comes late lets no more than a burst through") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    std::deque<request> all(30);
    for (auto& r : all) r.start(l);
    run(io);
    test_clock::advance(2s);
    run(io);
    CHECK(l.waiting() == 20);
    pass(100ms, io);
    CHECK(l.waiting() == 19);
    l.cancel();
    run(io);
}

TEST_CASE("the number of waiters is bounded") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true).max_waiters(2));
    request a, b, c;
    a.start(l);
    b.start(l);
    c.start(l);
    run(io);
    CHECK(c.failed_with(error::queue_full));
    b.signal.emit(asio::cancellation_type::total);
    request d;
    d.start(l);
    run(io);
    CHECK(d.waits());
    CHECK(l.waiting() == 2);
    l.cancel();
    run(io);
}

TEST_CASE("a cancelled head lets the next one go at its own time") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    request head, next;
    head.start(l, 10);
    next.start(l, 1);
    pass(100ms, io);
    CHECK(next.waits());
    head.signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(head.failed_with(asio::error::operation_aborted));
    CHECK(next.granted()); // without waiting for the timer of the first
    CHECK(l.available() == 0);
}

TEST_CASE("refunded permits go to those who wait") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    CHECK(l.try_acquire(10));
    request a, b;
    a.start(l, 4);
    b.start(l, 4);
    l.refund(5);
    run(io);
    CHECK(a.granted());
    CHECK(b.waits());
    pass(300ms, io);
    CHECK(b.granted());
    l.refund(100);
    CHECK(l.available() == 10);
}

TEST_CASE("a reservation that is not committed goes back at the end of its scope") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    auto work = [&]() -> asio::awaitable<void> {
        {
            auto reserved = co_await l.reserve(4);
            CHECK(l.available() == 6);
        }
        CHECK(l.available() == 10);
        {
            auto reserved = co_await l.reserve(4);
            auto moved = std::move(reserved);
            CHECK_FALSE(reserved);
            moved.commit();
        }
        CHECK(l.available() == 6);
    };
    auto done = asio::co_spawn(io, work(), asio::use_future);
    run(io);
    done.get();
}

TEST_CASE("several limits are waited for in turn, and given back if one of them fails") {
    asio::io_context io;
    limiter day(io, options().rate(2, 24h));
    limiter second(io, options().rate(1, 1s).burst(2));
    std::vector<std::string> log;
    auto work = [&]() -> asio::awaitable<void> {
        co_await tidegate::acquire_all(1, day, second);
        log.push_back("first");
        CHECK(second.try_acquire());
        co_await tidegate::acquire_all(1, day, second);
        log.push_back("second");
    };
    auto done = asio::co_spawn(io, work(), asio::use_future);
    run(io);
    CHECK(log.size() == 1);
    CHECK(day.available() == 0);
    SECTION("in time") {
        pass(1s, io);
        done.get();
        CHECK(log.size() == 2);
    }
    SECTION("cut short") {
        second.cancel();
        run(io);
        CHECK_THROWS_AS(done.get(), boost::system::system_error);
        CHECK(day.available() == 1); // what was taken for the second one
    }
}

TEST_CASE("a new rate applies to those who wait") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    request a, b, c;
    a.start(l, 10);
    b.start(l, 10);
    c.start_for(l, 2500ms);
    run(io);
    l.set_rate(100, 1s);
    CHECK(l.settings().burst() == 10);
    pass(100ms, io);
    CHECK(a.granted());
    l.set_rate(1, 1s);
    pass(2400ms, io);
    CHECK(b.waits());
    CHECK(c.failed_with(error::deadline_exceeded));
    pass(7600ms - 1ns, io);
    CHECK(b.waits());
    pass(1ns, io);
    CHECK(b.granted());
}

TEST_CASE("a deadline that comes before the next grant is kept") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    request a, b, c;
    a.start(l, 10);
    b.start(l, 10);
    c.start_for(l, 2500ms);
    l.set_rate(5, 1s);
    pass(2s, io); // the timer serves `a`, and is set for `b` in another two seconds
    CHECK(a.granted());
    CHECK(b.waits());
    pass(500ms, io);
    CHECK(c.failed_with(error::deadline_exceeded));
    l.cancel();
    run(io);
}

TEST_CASE("a burst lowered below what a waiter asked for is granted on a full bucket") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    request a;
    a.start(l, 10);
    l.set_burst(2);
    pass(200ms, io);
    CHECK(a.granted());
    CHECK(l.try_acquire().retry_after() == 900ms);
}

TEST_CASE("a burst lowered below what a waiter asked for is paid for at any rate") {
    asio::io_context io;
    limiter l(io, options().rate(999'999'937, 1s).burst(999'999'937).start_empty(true));
    request a;
    a.start(l, 999'999'937);
    run(io);
    l.set_rate(500'000'000, 1s, 500'000'001); // a few bits of a permit are left for fractions
    pass(1001ms, io);
    REQUIRE(a.granted()); // on a full bucket: half of it is owed
    pass(999ms, io);
    CHECK(l.available() == 0);
    pass(2ms, io);
    CHECK(l.available() > 0);
    CHECK(l.available() < 2'000'000);
}

TEST_CASE("an overdraft is owed in full whatever the rate becomes") {
    asio::io_context io;
    limiter l(io, options().rate(1, 1s).burst(1).overdraw(true));
    REQUIRE(l.try_acquire(4'000'000));
    SECTION("at once") { l.set_rate(1, 10min); }
    SECTION("by and by") {
        l.set_rate(1, 1min);
        l.set_rate(7, 7h + 1ns);
        l.set_burst(3);
        l.set_burst(1);
        l.set_rate(1, 10min);
    }
    auto const refused = l.try_acquire();
    CHECK_FALSE(refused);
    CHECK(refused.retry_after() >= 4'000'000 * 10min);
    CHECK(refused.retry_after() < 4'000'000 * 10min + 1s);
}

TEST_CASE(
    "what was above a lowered burst makes the rate less exact for as long as it is there only") {
    constexpr std::uint64_t huge = std::uint64_t{1} << 51;
    asio::io_context io;
    limiter l(io, options().rate(3, 10s).burst(huge).start_empty(true).overdraw(true));
    SECTION("a request that left") {
        request waits;
        waits.start(l, huge);
        run(io);
        l.set_burst(1);
        waits.signal.emit(asio::cancellation_type::terminal);
        run(io);
        CHECK(waits.failed_with(asio::error::operation_aborted));
    }
    SECTION("an overdraft that was repaid") {
        l.set_rate(1'000'000'000, 1s, 1);
        test_clock::advance(10ns);
        REQUIRE(l.try_acquire(huge));
        l.set_rate(999'999'937, 1s);
        test_clock::advance(24h * 27);
        CHECK(l.available() == 1);
        l.set_rate(3, 10s);
    }
    test_clock::advance(10s);
    REQUIRE(l.try_acquire());
    auto const start = test_clock::now();
    for (int i = 0; i < 1000; ++i) {
        test_clock::advance(l.try_acquire().retry_after());
        REQUIRE(l.try_acquire());
    }
    auto const elapsed = test_clock::now() - start;
    CHECK(elapsed >= 10'000s / 3);
    CHECK(elapsed < 10'000s / 3 + 1s);
}

TEST_CASE("changing the rate lets no burst through") {
    asio::io_context io;
    limiter l(io, ten_a_second());
    CHECK(l.try_acquire(10));
    for (int i = 0; i < 1000; ++i) {
        l.set_rate(static_cast<std::uint64_t>(1 + i % 10), 1s,
                   static_cast<std::uint64_t>(5 + i % 5));
        l.set_burst(10);
    }
    CHECK(l.available() == 0);
    CHECK_THROWS_AS(l.set_rate(0, 1s), std::invalid_argument);
    CHECK_THROWS_AS(l.set_burst(0), std::invalid_argument);
}

TEST_CASE("a limiter that warms up starts slowly, and again after a rest") {
    asio::io_context io;
    limiter l(io, options().rate(100, 1s).burst(10).warm_up(10s, 4));
    auto admitted_in = [&](test_clock::duration time) { return admitted(l, time, 1ms); };
    for (int round = 0; round < 2; ++round) {
        int const first = admitted_in(1s);
        CHECK(first >= 25);
        CHECK(first <= 31);
        // The mean of the ramp is (1/4 + 1) / 2 of the rate.
        int const rest = admitted_in(9s);
        CHECK(first + rest >= 622);
        CHECK(first + rest <= 627);
        int const warm = admitted_in(1s);
        CHECK(warm >= 99);
        CHECK(warm <= 101);
        test_clock::advance(5s);
        CHECK(l.available() == 10); // a short rest does not cool it
        CHECK(l.try_acquire(10));
        test_clock::advance(20s);
    }
}

TEST_CASE("a warm-up of minutes admits no more than its ramp at an awkward rate") {
    asio::io_context io;
    limiter l(io, options().rate(1'000'003, 24h).burst(50).warm_up(600s, 3)); // 11.57 a second
    auto admitted_in = [&](test_clock::duration time) { return admitted(l, time, 100ms); };
    int const ramp = admitted_in(600s); // the mean is (1/3 + 1) / 2 of the rate
    CHECK(ramp >= 4627);
    CHECK(ramp <= 4631);
    int const warm = admitted_in(100s);
    CHECK(warm >= 1156);
    CHECK(warm <= 1158);
}

TEST_CASE("a rate that is set in a warm-up leaves the ramp as it is") {
    for (std::uint64_t const burst : {10u, 20u}) {
        asio::io_context io;
        limiter l(io, options().rate(100, 1s).burst(10).warm_up(10s, 4));
        auto admitted_in = [&](test_clock::duration time) {
            int sum = 0;
            for (auto passed = 0ms; passed < time; passed += 10ms) {
                sum += admitted(l, 10ms, 1ms);
                l.set_rate(100, 1s, burst);
            }
            return sum;
        };
        int const first = admitted_in(1s);
        CHECK(first >= 25);
        CHECK(first <= 31);
        int const rest = admitted_in(9s);
        CHECK(first + rest >= 622);
        CHECK(first + rest <= 627);
        int const warm = admitted_in(1s);
        CHECK(warm >= 99);
        CHECK(warm <= 101);
    }
}

TEST_CASE("waiters are served through a warm-up and beyond") {
    asio::io_context io;
    limiter l(io, options().rate(10, 1s).burst(1).warm_up(1s, 2));
    std::deque<request> all(20);
    for (auto& r : all) r.start(l);
    run(io);
    auto const start = test_clock::now();
    while (l.waiting() > 0) {
        REQUIRE(test_clock::advance_to_next());
        run(io);
    }
    CHECK(all[0].granted());
    // 7.5 permits in the first second, then ten a second; one was there.
    CHECK(all[19].at - start >= 1s + 1150ms);
    CHECK(all[19].at - start <= 1s + 1150ms + 1us);
}

TEST_CASE("closing completes those who wait, and all that come later") {
    asio::io_context io;
    std::optional<limiter> l(std::in_place, io, ten_a_second().start_empty(true));
    request a, b;
    a.start(*l);
    l->close();
    b.start(*l);
    run(io);
    CHECK(a.failed_with(error::closed));
    CHECK(b.failed_with(error::closed));
    CHECK(l->try_acquire().error() == error::closed);
    CHECK_FALSE(l->is_open());
    l->refund(3);
    l.reset();
    CHECK(test_clock::pending() == 0);
}

TEST_CASE("the context may go while operations wait") {
    bool destroyed = false;
    struct sentinel {
        bool& gone;
        ~sentinel() { gone = true; }
    };
    std::optional<limiter> l;
    {
        asio::io_context io;
        l.emplace(io, ten_a_second().start_empty(true));
        l->async_acquire([s = std::make_shared<sentinel>(destroyed)](error_code) { FAIL(); });
        io.poll();
    }
    CHECK(destroyed);
    l->refund();
    CHECK_FALSE(l->try_acquire());
}

TEST_CASE("a handler runs on its own executor, never inside the call") {
    asio::io_context io;
    asio::io_context other;
    limiter l(io, ten_a_second());
    bool ran = false;
    test::initiate([&] {
        l.async_acquire(asio::bind_executor(other, [&](error_code ec) {
            CHECK_FALSE(test::initiating());
            CHECK_FALSE(ec);
            ran = true;
        }));
    });
    io.poll();
    CHECK_FALSE(ran);
    other.poll();
    CHECK(ran);
}

TEST_CASE("a waiting acquire allocates once, from the handler's allocator") {
    asio::io_context io;
    limiter l(io, ten_a_second().start_empty(true));
    testing::allocation_counts counts;
    l.async_acquire(
        asio::bind_allocator(testing::counting_allocator<void>(counts), [](error_code) {}));
    CHECK(counts.allocated == 1);
    pass(100ms, io);
    CHECK(counts.live() == 0);
}

TEST_CASE("a clock that goes back holds nobody up for longer than it takes to fill a bucket") {
    asio::io_context io;
    SECTION("in a warm-up, which begins again") {
        limiter l(io, options().rate(100, 1s).burst(10).warm_up(10s, 4));
        auto const start = test_clock::now();
        CHECK(admitted(l, 5s, 1ms) > 150);
        SECTION("to before it began") { test_clock::set(start - 30min); }
        SECTION("to its beginning") { test_clock::set(start); }
        CHECK_FALSE(l.try_acquire());
        int const first = admitted(l, 1s, 1ms);
        CHECK(first >= 25 - 10);
        CHECK(first <= 31);
    }
    SECTION("who wait go on as soon as somebody asks") {
        limiter l(io, ten_a_second());
        test_clock::advance(2h);
        CHECK(l.try_acquire(10));
        request a, b;
        a.start(l);
        b.start(l, 9);
        run(io);
        SECTION("after the terms were made") { test_clock::set(test_clock::now() - 1h); }
        SECTION("and before") { test_clock::set(test_clock::now() - 3h + 1s); }
        CHECK_FALSE(l.try_acquire());
        pass(100ms, io);
        CHECK(a.granted());
        CHECK(b.waits());
        pass(900ms, io);
        CHECK(b.granted());
    }
}

TEST_CASE("who read the clock before new terms were made forgives no overdraft") {
    asio::io_context io;
    limiter l(io, options().rate(16'000'001, 1s).burst(1000).overdraw(true));
    test_clock::advance(2s); // longer than terms hold
    auto const early = test_clock::now() - 1us;
    CHECK(l.try_acquire(4'000'000));
    CHECK_FALSE(l.try_acquire(1, early));
    CHECK_FALSE(l.try_acquire());
    test_clock::advance(249ms);
    CHECK_FALSE(l.try_acquire());
    test_clock::advance(1ms);
    CHECK(l.try_acquire());
}

TEST_CASE("a clock that goes back forgives no overdraft") {
    asio::io_context io;
    limiter l(io, options().rate(1, 1s).burst(10).overdraw(true));
    test_clock::advance(1h);
    auto back = [&](test_clock::duration by) { test_clock::set(test_clock::now() - by); };
    SECTION("to before the terms were made") {
        CHECK(l.try_acquire(1000));
        back(2h);
        CHECK_FALSE(l.try_acquire());
    }
    SECTION("and again") {
        CHECK(l.try_acquire(1000));
        back(2h);
        CHECK_FALSE(l.try_acquire());
        test_clock::advance(100s);
        back(1h);
        CHECK_FALSE(l.try_acquire());
    }
    SECTION("by little, and to before the terms were made") {
        CHECK(l.try_acquire(1000));
        back(30min);
        CHECK_FALSE(l.try_acquire());
        back(2h);
        CHECK_FALSE(l.try_acquire());
    }
    SECTION("of one that waited for it") {
        CHECK(l.try_acquire(10));
        request large;
        large.start(l, 1000);
        pass(10s, io);
        REQUIRE(large.granted());
        back(2h);
        CHECK_FALSE(l.try_acquire());
    }
    SECTION("when the rate changes") {
        CHECK(l.try_acquire(1000));
        back(2h);
        l.set_rate(1, 1s, 5);
    }
    CHECK(l.try_acquire().retry_after() == 991s);
    test_clock::advance(991s - 1ns);
    CHECK_FALSE(l.try_acquire());
    test_clock::advance(1ns);
    CHECK(l.try_acquire());
}

TEST_CASE("a clock that goes back finds a repaid overdraft repaid") {
    asio::io_context io;
    limiter l(io, options().rate(1000, 1s).burst(10).overdraw(true));
    CHECK(l.try_acquire(100));
    for (int i = 0; i < 3600; ++i) {
        test_clock::advance(1s);
        CHECK(l.try_acquire(10));
    }
    SECTION("as much as it may hold up") { test_clock::set(test_clock::now() - 30min); }
    SECTION("to before the terms were made") { test_clock::set(test_clock::now() - 2h); }
    CHECK_FALSE(l.try_acquire());
    test_clock::advance(1ms);
    CHECK(l.try_acquire());
}

TEST_CASE("the wait behind thousands of large requests is told as it is") {
    asio::io_context io;
    limiter l(io, options().rate(16'000'001, 1s).burst(4'500'000).start_empty(true));
    std::deque<request> all(5000);
    for (auto& r : all) r.start(l, 4'500'000);
    // 5000 * 4.5 / 16.000001
    CHECK(l.try_acquire().retry_after() > 1406s);
    CHECK(l.try_acquire().retry_after() < 1407s);
    request fits, does_not;
    does_not.start_for(l, 1406s);
    fits.start_for(l, 1407s);
    run(io);
    CHECK(does_not.failed_with(error::rate_limited));
    CHECK(fits.waits());
    l.cancel();
    run(io);
    CHECK(l.available() == 0);
}

TEST_CASE("nobody waits for longer than time is counted") {
    asio::io_context io;
    constexpr std::uint64_t most = std::uint64_t{1} << 52; // 52 days
    limiter l(io, options().rate(1, 1ns).burst(most).start_empty(true));
    std::deque<request> all(5000);
    for (auto& r : all) r.start(l, most);
    run(io);
    CHECK(l.waiting() == 2048); // 292 years
    CHECK(all.back().failed_with(error::rate_limited));
    CHECK(l.try_acquire().retry_after() == test_clock::duration::max());
    l.cancel();
    run(io);
}

TEST_CASE("to look at a bucket takes nothing from it, however long ago it was used") {
    struct {
        std::uint64_t permits;
        test_clock::duration per;
        std::uint64_t burst;
        test_clock::duration rest; // longer than the terms of the rate hold
    } const rates[] = {
        {999, 1s, 999, 24h},             // 5 hours
        {16'000'001, 1s, 4'000'000, 2s}, // a second
        {999'999'937, 1s, 1000, 2s},     // not exact
        {10, 1s, 10, 24h * 365},         // 208 days
    };
    for (auto const& rate : rates) {
        for (bool const warms_up : {false, true}) {
            INFO(rate.permits << " permits a second" << (warms_up ? ", with a warm-up" : ""));
            asio::io_context io;
            auto settings = options().rate(rate.permits, rate.per).burst(rate.burst);
            if (warms_up) settings.warm_up(1s, 4);
            limiter peeked(io, settings);
            limiter other(io, settings); // where the time is told without a request
            for (int round = 0; round < 3; ++round) {
                for (auto const time : {rate.rest, 1ns, 1000ns, rate.rest / 3}) {
                    test_clock::advance(time);
                    std::uint64_t const there = other.available();
                    CHECK(peeked.peek(1, test_clock::now()));
                    CHECK(peeked.peek(there, test_clock::now()));
                    CHECK_FALSE(peeked.peek(there + 1, test_clock::now()));
                    CHECK(peeked.available() == there);
                }
                // A large part of a burst is gone, so that there is something to be lost.
                test_clock::advance(1s);
                std::uint64_t const most = other.available();
                CHECK(peeked.available() == most);
                CHECK(peeked.try_acquire(most));
                CHECK(other.try_acquire(most));
                CHECK(peeked.available() == 0);
            }
        }
    }
}

TEST_CASE("limits that are only ever taken together keep each of their rates for days") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        asio::io_context io;
        exact_bucket a{999, 999};
        exact_bucket b{16'000'001, 1000};
        limiter first(io, options().rate(a.permits, 1s).burst(a.burst));
        limiter second(io, options().rate(b.permits, 1s).burst(b.burst));
        test_clock::duration const scales[] = {10us, 300ms, 300ms, 3h};
        for (int i = 0; i < 5000; ++i) {
            auto const most = scales[test::below(random, 4)].count();
            test_clock::duration const step(test::below(random, static_cast<std::size_t>(most)));
            test_clock::advance(step);
            a.pass(step);
            b.pass(step);
            std::uint64_t const n = 1 + test::below(random, 400);
            std::uint64_t const need = n * exact_bucket::second;
            bool const fits = need <= a.there && need <= b.there;
            REQUIRE(bool(tidegate::try_acquire_all(n, first, second)) == fits);
            if (fits) {
                a.there -= need;
                b.there -= need;
            }
            if (i % 10 == 0) {
                REQUIRE(first.available() == a.there / exact_bucket::second);
                REQUIRE(second.available() == b.there / exact_bucket::second);
            }
        }
    }
}

TEST_CASE("options out of range are refused with the option, the value and the range") {
    CHECK_THROWS_AS(options().rate(0, 1s), std::invalid_argument);
    CHECK_THROWS_AS(options().rate(2, 1ns), std::invalid_argument);
    CHECK_THROWS_AS(options().rate(1, 0s), std::invalid_argument);
    CHECK_THROWS_AS(options().rate(1, -1s), std::invalid_argument);
    CHECK_THROWS_AS(options().rate(~std::uint64_t{0}, std::chrono::nanoseconds::max()),
                    std::invalid_argument);
    CHECK_THROWS_AS(options().burst(std::uint64_t{1} << 53), std::invalid_argument);
    CHECK_THROWS_AS(options().max_wait(-1ns), std::invalid_argument);
    CHECK_THROWS_AS(options().warm_up(1s, 1.0), std::invalid_argument);
    CHECK_THROWS_MATCHES(
        options().burst(0), std::invalid_argument,
        Catch::Matchers::Message("tidegate: rate_limiter burst is 0, allowed is 1 to "
                                 "4503599627370496"));
    asio::io_context io;
    CHECK_THROWS_AS(limiter(io, options()), std::invalid_argument);
}

TEST_CASE("a default burst out of range is refused as one that is set") {
    asio::io_context io;
    constexpr std::uint64_t most = std::uint64_t{1} << 52;
    auto const of_period = [](std::uint64_t permits) {
        return options().rate(permits, std::chrono::nanoseconds(std::int64_t{1} << 53));
    };
    CHECK(limiter(io, of_period(most)).try_acquire(most));
    CHECK(limiter(io, of_period(most + 1).burst(7)).available() == 7);
    CHECK_THROWS_MATCHES(
        limiter(io, of_period(most + 1)), std::invalid_argument,
        Catch::Matchers::Message("tidegate: rate_limiter burst is 4503599627370497, allowed is 1 "
                                 "to 4503599627370496"));
    CHECK_THROWS_AS(limiter(io, of_period(2 * most)), std::invalid_argument);
}

TEST_CASE("a limiter that is named twice gives twice, or nothing") {
    asio::io_context io;
    limiter l(io, tidegate::rate_limiter_options().rate(3, 1s));
    CHECK(tidegate::try_acquire_all(1, l, l));
    CHECK(l.available() == 1);
    auto const refused = tidegate::try_acquire_all(1, l, l);
    CHECK_FALSE(refused);
    CHECK(refused.error() == tidegate::error::rate_limited);
    CHECK(l.available() == 1);
}
