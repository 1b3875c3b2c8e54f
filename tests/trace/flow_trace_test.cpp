// SPDX-License-Identifier: BSL-1.0
// What observers hear of channels, batchers, object pools and adaptive limiters.
#include "support.hpp"

#include "batcher/support.hpp"

#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/batcher.hpp>
#include <tidegate/channel.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::error_code;
using tidegate::trace_event;

namespace {

struct clock_tag;
using clock_type = tidegate::testing::basic_manual_clock<clock_tag>;
using channel = tidegate::basic_channel<int, clock_type>;
using object_pool = tidegate::basic_object_pool<int, clock_type>;

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

std::shared_ptr<test::recorder> ear() { return std::make_shared<test::recorder>(); }

} // namespace

TEST_CASE("a channel tells what it drops and refuses, not who waits") {
    asio::io_context io;
    channel c(io, tidegate::channel_options<int>().capacity(1));
    auto const heard = ear();
    c.observe(heard, "frames");
    CHECK(c.try_send(1));
    CHECK_FALSE(c.try_send(2));
    CHECK(heard->take() == told{"rejected 1"});
    CHECK(heard->last().error == asio::error::would_block);
    auto send = [&]() -> asio::awaitable<void> { co_await c.send(3); };
    asio::co_spawn(io, send(), asio::detached);
    run(io);
    CHECK(heard->take() == told{});
    asio::cancellation_signal signal;
    c.async_send(4, asio::bind_cancellation_slot(signal.slot(), [](error_code) {}));
    signal.emit(asio::cancellation_type::total);
    CHECK(heard->take() == told{"cancelled 1"});
    c.close();
    CHECK(heard->take() == told{"rejected 1"}); // the one that waits to send 3
    CHECK(heard->last().error == error::closed);
    CHECK_FALSE(c.try_send(5));
    c.async_send(6, [](error_code) {});
    c.async_reserve([](error_code, channel::reservation) {});
    run(io);
    CHECK(heard->take() == told{"rejected 1", "rejected 1", "rejected 1"});

    channel newest(
        io, tidegate::channel_options<int>().capacity(1).mode(tidegate::channel_mode::drop_oldest));
    newest.observe(heard, "newest");
    CHECK(newest.try_send(1));
    CHECK(newest.try_send(2));
    newest.async_send(3, [](error_code) {});
    CHECK(heard->take() == told{"dropped 1", "dropped 1"});
    CHECK(heard->last().name == "newest");
    CHECK(heard->last().error == error::dropped);
}

TEST_CASE("a batcher tells of batches on the thread that runs them, and of items not taken") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    auto const step = std::make_shared<test::stepped>();
    tidegate::batcher<int, int> b(
        pool, tidegate::batcher_options().max_size(4).queue(3).full(tidegate::when_full::reject),
        [step](auto items) { return (*step)(items); });
    auto const heard = ear();
    b.observe(heard, "frames");
    std::deque<test::call> calls(6);
    calls[0].start(b, 0);
    step->entered.wait();
    CHECK(heard->take() == told{"batch_started 1"});
    for (std::size_t i = 1; i < calls.size(); ++i) calls[i].start(b, static_cast<int>(i));
    CHECK(heard->take() == told{"rejected 1", "rejected 1"});
    CHECK(heard->last().error == error::queue_full);
    calls[1].signal.emit(asio::cancellation_type::total);
    calls[1].signal.emit(asio::cancellation_type::total);
    CHECK(heard->take() == told{"cancelled 1"});
    step->go.set_value();
    io.run();
    CHECK(heard->take() == told{"batch_finished 1", "batch_started 2", "batch_finished 2"});
    CHECK(heard->last().duration > 0ns);
    CHECK_FALSE(heard->last().error);
    b.close();
    calls[1].start(b, 1);
    CHECK(heard->take() == told{"rejected 1"});
    CHECK(heard->last().error == error::closed);
}

TEST_CASE("a batch that fails is told with its code, and a dropped item as dropped") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    std::promise<void> go;
    std::latch entered(1);
    tidegate::batcher<int, int> b(
        pool,
        tidegate::batcher_options().max_size(4).queue(1).full(tidegate::when_full::drop_oldest),
        [&, opened = go.get_future().share()](std::span<int> items) -> std::vector<int> {
            if (items[0] == 0) entered.count_down();
            opened.wait();
            throw std::runtime_error("broken");
        });
    auto const heard = ear();
    b.observe(heard, "frames");
    std::deque<test::call> calls(3);
    calls[0].start(b, 0);
    entered.wait();
    calls[1].start(b, 1);
    calls[2].start(b, 2);
    CHECK(heard->take() == told{"batch_started 1", "dropped 1"});
    go.set_value();
    io.run();
    CHECK(heard->take() == told{"batch_finished 1", "batch_started 1", "batch_finished 1"});
    CHECK(heard->last().error == error::exception_thrown);
}

TEST_CASE("an object pool tells of its objects and of those who ask for them") {
    asio::io_context io;
    bool fit = true;
    auto const heard = ear();
    {
        object_pool p(
            io, tidegate::object_pool_options<int>().max_size(1).recycle([&](int&) { return fit; }),
            [] { return std::make_unique<int>(1); });
        p.observe(heard, "decoders");
        auto lent = p.try_acquire();
        CHECK(heard->take() == told{"created 1", "acquired 1"});
        CHECK_FALSE(p.try_acquire());
        CHECK(heard->take() == told{"rejected 1"});
        CHECK(heard->last().error == asio::error::would_block);

        object_pool::lease waited;
        auto ask = [&]() -> asio::awaitable<void> { waited = co_await p.acquire(); };
        asio::co_spawn(io, ask(), asio::detached);
        run(io);
        CHECK(heard->take() == told{});
        fit = false; // so the one that waits gets a new one
        lent.release();
        run(io);
        CHECK(heard->take() == told{"destroyed 1", "created 1", "acquired 1"});
        fit = true;

        p.async_acquire_for(1s, [](error_code, object_pool::lease) {});
        clock_type::advance(1s);
        run(io);
        CHECK(heard->take() == told{"timed_out 1"});
        waited.release();
        p.async_acquire([](error_code, object_pool::lease) {});
        CHECK(heard->take() == told{"acquired 1"});
        run(io);
    }
    CHECK(heard->take() == told{"destroyed 1"});
}

TEST_CASE("an object that cannot be made refuses who waits for it") {
    asio::io_context io;
    bool broken = false;
    auto const heard = ear();
    object_pool p(
        io, tidegate::object_pool_options<int>().max_size(1).recycle([&](int&) { return !broken; }),
        [&] {
            if (broken) throw std::runtime_error("broken");
            return std::make_unique<int>(1);
        });
    p.observe(heard, "decoders");
    auto lent = p.try_acquire();
    p.async_acquire([](error_code, object_pool::lease) {});
    broken = true;
    heard->take();
    lent.release();
    CHECK(heard->take() == told{"destroyed 1", "rejected 1"});
    CHECK(heard->last().error == error::exception_thrown);
    CHECK_THROWS_AS(p.try_acquire(), std::runtime_error);
    CHECK(heard->take() == told{});
    run(io);
}

TEST_CASE("an adaptive limiter tells whom it lets in, and where its limit goes") {
    using limiter = tidegate::basic_adaptive_limiter<clock_type>;
    limiter l(tidegate::adaptive_limiter_options()
                  .limit(tidegate::concurrency_limit_options()
                             .algorithm(tidegate::limit_algorithm::aimd)
                             .initial(2))
                  .window_samples(10));
    auto const heard = ear();
    heard->also = [&](tidegate::trace_record const&) { static_cast<void>(l.statistics()); };
    l.observe(heard, "upstream");
    {
        auto const first = l.try_acquire(tidegate::priority::high);
        auto const second = l.try_acquire(tidegate::priority::high);
        CHECK_FALSE(l.try_acquire(tidegate::priority::high));
        CHECK(heard->take() == told{"acquired 1", "acquired 1", "rejected 1"});
        CHECK(heard->last().error == error::overloaded);
    }
    auto const before = l.limit();
    for (int i = 0; i < 100 && l.limit() == before; ++i) {
        auto one = l.try_acquire(tidegate::priority::high);
        auto other = l.try_acquire(tidegate::priority::high);
        clock_type::advance(10ms);
        one.success();
        other.success();
    }
    CHECK(l.limit() != before);
    CHECK(heard->count(trace_event::limit_changed) == 1);
    CHECK(heard->last().event == trace_event::limit_changed);
    CHECK(heard->last().count == l.limit());
    CHECK(heard->last().duration > 9ms);
}
