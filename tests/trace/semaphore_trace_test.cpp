// SPDX-License-Identifier: BSL-1.0
// What observers hear of a semaphore, which stands for all that waits.
#include "support.hpp"

#include <tidegate/policy.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::error_code;
using tidegate::trace_event;

namespace {

struct clock_tag;
using clock_type = tidegate::testing::basic_manual_clock<clock_tag>;
using semaphore = tidegate::basic_semaphore<clock_type>;
using permit = semaphore::permit;

struct observed {
    explicit observed(semaphore::options const& settings) : s(io, settings) {
        s.observe(ear, "slots");
    }
    explicit observed(std::size_t capacity = 1)
        : observed(semaphore::options().capacity(capacity)) {}

    void run() {
        io.restart();
        io.poll();
    }
    auto keep() {
        return [this](error_code ec, permit p) {
            heard_before_handler = ear->all().size();
            last = ec;
            if (p) kept = std::move(p);
        };
    }

    std::shared_ptr<test::recorder> ear = std::make_shared<test::recorder>();
    std::size_t heard_before_handler = 0;
    error_code last;
    asio::io_context io;
    semaphore s;
    permit kept;
};

} // namespace

TEST_CASE("permits that are there are acquired, others are refused, each told once") {
    observed o(2);
    {
        permit const both = o.s.try_acquire(2);
        CHECK(o.ear->take() == told{"acquired 2"});
        auto const record = o.ear->last();
        CHECK(record.primitive == "semaphore");
        CHECK(record.name == "slots");
        CHECK_FALSE(record.error);
        CHECK(record.duration == 0ns);

        CHECK_FALSE(o.s.try_acquire());
        CHECK(o.ear->last().error == asio::error::would_block);
        CHECK_FALSE(o.s.try_acquire(3));
        CHECK(o.ear->last().error == error::invalid_count);
        CHECK_FALSE(o.s.try_acquire(0));
        CHECK(o.ear->last().error == error::invalid_count);
        CHECK(o.ear->take() == told{"rejected 1", "rejected 3", "rejected 0"});
    }
    o.s.close();
    CHECK_FALSE(o.s.try_acquire());
    CHECK(o.ear->last().error == error::closed);
    CHECK(o.ear->take() == told{"rejected 1"});
}

TEST_CASE("a permit that was waited for is told before the handler runs, with the wait") {
    observed o;
    permit held = o.s.try_acquire();
    o.s.async_acquire(o.keep());
    CHECK(o.ear->take() == told{"acquired 1"});
    clock_type::advance(3s);
    held.release();
    CHECK(o.ear->take() == told{"acquired 1"});
    CHECK(o.ear->last().duration == 3s);
    o.run();
    CHECK(o.heard_before_handler == 2);
    CHECK(o.ear->take() == told{});
}

TEST_CASE("an operation that does not wait tells once") {
    observed o(3);
    o.s.async_acquire(2, o.keep());
    CHECK(o.ear->take() == told{"acquired 2"});
    o.s.async_acquire(4, o.keep());
    CHECK(o.ear->take() == told{"rejected 4"});
    o.run();
    CHECK(o.ear->take() == told{});
}

TEST_CASE("cancelled by its slot, an operation is told as cancelled once") {
    observed o;
    permit const held = o.s.try_acquire();
    asio::cancellation_signal signal;
    o.s.async_acquire(asio::bind_cancellation_slot(signal.slot(), o.keep()));
    clock_type::advance(1s);
    o.ear->take();
    signal.emit(asio::cancellation_type::total);
    signal.emit(asio::cancellation_type::total);
    o.run();
    CHECK(o.ear->take() == told{"cancelled 1"});
    CHECK(o.ear->last().error == asio::error::operation_aborted);
    CHECK(o.ear->last().duration == 1s);
}

TEST_CASE("who fits when a large request is cancelled is told after it") {
    observed o(2);
    permit const held = o.s.try_acquire();
    asio::cancellation_signal signal;
    o.s.async_acquire(2, asio::bind_cancellation_slot(signal.slot(), o.keep()));
    o.s.async_acquire(1, o.keep());
    o.ear->take();
    signal.emit(asio::cancellation_type::total);
    CHECK(o.ear->take() == told{"cancelled 2", "acquired 1"});
}

TEST_CASE("a deadline that passes is told once, with the wait") {
    observed o;
    permit const held = o.s.try_acquire();
    o.s.async_acquire_for(5s, o.keep());
    o.ear->take();
    clock_type::advance(5s);
    o.run();
    CHECK(o.ear->take() == told{"timed_out 1"});
    CHECK(o.ear->last().error == error::deadline_exceeded);
    CHECK(o.ear->last().duration == 5s);
    CHECK(o.heard_before_handler == 2);
    // One that has passed already.
    o.s.async_acquire_until(clock_type::now() - 1s, o.keep());
    CHECK(o.ear->take() == told{"timed_out 1"});
    o.run();
    CHECK(o.ear->take() == told{});
}

TEST_CASE("cancel and close tell of everyone who waits, once") {
    observed o;
    permit held = o.s.try_acquire();
    for (int i = 0; i < 3; ++i) o.s.async_acquire(o.keep());
    o.ear->take();
    o.s.cancel();
    CHECK(o.ear->take() == told{"cancelled 1", "cancelled 1", "cancelled 1"});
    o.run();
    o.s.async_acquire(o.keep());
    o.s.close();
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::closed);
    o.s.close();
    o.run();
    held.release();
    CHECK(o.ear->take() == told{});
    o.s.async_acquire(o.keep());
    CHECK(o.ear->take() == told{"rejected 1"});
}

TEST_CASE("a full line refuses, whichever way it is asked") {
    observed o(semaphore::options().capacity(1).max_waiters(0));
    permit const held = o.s.try_acquire();
    o.ear->take();
    o.s.async_acquire(o.keep());
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::queue_full);
    auto ask = [&]() -> asio::awaitable<void> {
        error_code ec;
        permit const none = co_await o.s.acquire(ec);
        CHECK(ec == error::queue_full);
    };
    asio::co_spawn(o.io, ask(), asio::detached);
    o.run();
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::queue_full);
}

TEST_CASE("a coroutine that has to wait was not refused") {
    observed o;
    permit held = o.s.try_acquire();
    o.ear->take();
    auto ask = [&]() -> asio::awaitable<void> { o.kept = co_await o.s.acquire(); };
    asio::co_spawn(o.io, ask(), asio::detached);
    o.run();
    CHECK(o.ear->take() == told{});
    held.release();
    o.run();
    CHECK(o.ear->take() == told{"acquired 1"});
    o.kept.release();
    asio::co_spawn(o.io, ask(), asio::detached);
    o.run();
    CHECK(o.ear->take() == told{"acquired 1"});
}

TEST_CASE("a call of a policy that waits in a bulkhead was not refused") {
    observed o;
    permit held = o.s.try_acquire();
    o.ear->take();
    auto const policy = tidegate::policy(o.s);
    auto const nothing = []() -> asio::awaitable<void> { co_return; };
    auto ask = [&]() -> asio::awaitable<void> { co_await policy(nothing); };
    asio::co_spawn(o.io, ask(), asio::detached);
    o.run();
    CHECK(o.ear->take() == told{});
    held.release();
    o.run();
    CHECK(o.ear->take() == told{"acquired 1"});
}

TEST_CASE("under overload, those given up are told as refused") {
    observed o(semaphore::options()
                   .capacity(1)
                   .order(tidegate::queue_order::newest_first_under_overload)
                   .queue_delay_target(1ms)
                   .queue_delay_interval(10ms));
    permit held = o.s.try_acquire();
    for (int i = 0; i < 3; ++i) o.s.async_acquire(o.keep());
    clock_type::advance(20ms);
    o.s.async_acquire(o.keep());
    clock_type::advance(20ms);
    o.ear->take();
    held.release();
    o.run();
    o.kept.release();
    o.run();
    o.s.close();
    auto const counts = o.s.statistics();
    CHECK(counts.refused_overloaded > 0);
    CHECK(o.ear->count(trace_event::rejected) == counts.refused_overloaded);
    CHECK(o.ear->count(trace_event::acquired) == 1 + counts.granted_after_waiting);
}

TEST_CASE("raising the capacity and lowering it tell of those it lets in and turns away") {
    observed o(2);
    permit const held = o.s.try_acquire(2);
    o.s.async_acquire(2, o.keep());
    o.s.async_acquire(1, o.keep());
    o.ear->take();
    o.s.resize(1);
    CHECK(o.ear->take() == told{"rejected 2"});
    CHECK(o.ear->last().error == error::invalid_count);
    o.s.resize(3);
    CHECK(o.ear->take() == told{"acquired 1"});
}

TEST_CASE("an observer may ask for statistics, and give permits back") {
    observed o(2);
    permit to_release = o.s.try_acquire();
    permit const held = o.s.try_acquire();
    std::size_t asked = 0;
    o.ear->also = [&](tidegate::trace_record const& what) {
        ++asked;
        static_cast<void>(o.s.statistics());
        static_cast<void>(o.s.waiting());
        if (what.event == trace_event::cancelled) to_release.release();
    };
    asio::cancellation_signal signal;
    o.s.async_acquire(2, asio::bind_cancellation_slot(signal.slot(), o.keep()));
    o.s.async_acquire_for(1s, o.keep());
    o.s.async_acquire_for(1s, o.keep());
    CHECK_FALSE(o.s.try_acquire());
    signal.emit(asio::cancellation_type::total); // whose permits the first in line gets
    clock_type::advance(1s);
    o.run();
    o.s.async_acquire(2, o.keep());
    o.s.resize(1);
    o.s.close();
    CHECK(asked == 5);
    // What one observer's release brings about is told before it takes its note.
    CHECK(o.ear->take() == told{"acquired 1", "acquired 1", "rejected 1", "acquired 1",
                                "cancelled 2", "timed_out 1", "rejected 2"});
}

TEST_CASE("what happens after the semaphore has gone is told to nobody's harm") {
    auto ear = std::make_shared<test::recorder>();
    asio::io_context io;
    std::optional<semaphore> s(std::in_place, io, 1);
    s->observe(ear, "slots");
    permit held = s->try_acquire();
    int completions = 0;
    s->async_acquire([&](error_code, permit) { ++completions; });
    ear->take();
    s.reset();
    CHECK(ear->take() == told{"rejected 1"});
    CHECK(ear.use_count() == 2); // the permit keeps the state, and that the observer
    held.release();
    CHECK(ear.use_count() == 1);
    io.poll();
    CHECK(completions == 1);
    CHECK(ear->take() == told{});
}

TEST_CASE("operations destroyed with their context tell nothing") {
    auto ear = std::make_shared<test::recorder>();
    std::optional<asio::io_context> io(std::in_place);
    semaphore s(*io, 1);
    s.observe(ear, "slots");
    permit const held = s.try_acquire();
    s.async_acquire([](error_code, permit) { FAIL_CHECK("completed"); });
    ear->take();
    io.reset();
    CHECK(ear->take() == told{});
}

TEST_CASE("several observers hear the same, each under its own name, from when it came") {
    observed o(3);
    permit const first = o.s.try_acquire();
    auto late = std::make_shared<test::recorder>();
    o.s.observe(late, "late");
    o.s.observe(o.ear, "again");
    permit const second = o.s.try_acquire(2);
    CHECK(late->take() == told{"acquired 2"});
    CHECK(late->last().name == "late");
    CHECK(o.ear->take() == told{"acquired 1", "acquired 2", "acquired 2"});
    CHECK(o.ear->all()[1].name == "again");
    CHECK(o.ear->all()[2].name == "slots");
}

TEST_CASE("without an observer there is nothing to attach") {
    observed o;
    CHECK_THROWS_AS(o.s.observe(nullptr, "slots"), std::invalid_argument);
}

TEST_CASE("every event has a name of its own, and what is none says so") {
    using tidegate::trace_event;
    std::set<std::string_view> names;
    int events = 0;
    for (; to_string(static_cast<trace_event>(events)) != "unknown"; ++events)
        CHECK(names.insert(to_string(static_cast<trace_event>(events))).second);
    CHECK(events == static_cast<int>(trace_event::limit_changed) + 1);
}
