// SPDX-License-Identifier: BSL-1.0
// Objects on loan: one borrower each, and all come back.
#include <tidegate/object_pool.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using clock_type = tidegate::testing::manual_clock;

namespace {

struct counted {
    explicit counted(int& alive) : alive_(alive) { ++alive_; }
    ~counted() { --alive_; }
    int& alive_;
};

using pool = tidegate::basic_object_pool<counted, clock_type>;
using lease = pool::lease;

auto maker(int& alive) {
    return [&alive] { return std::make_unique<counted>(alive); };
}

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("objects are made at the start, lent and given back") {
    asio::io_context io;
    int alive = 0;
    {
        pool p(io, 2, maker(alive));
        CHECK(alive == 2);
        lease a = p.try_acquire();
        lease b = p.try_acquire();
        CHECK(a.get() != b.get());
        CHECK_FALSE(p.try_acquire());
        CHECK(p.idle() == 0);
        counted* const back = b.get();
        b.release();
        CHECK_FALSE(b);
        lease again = p.try_acquire();
        CHECK(again.get() == back); // the last one back is the first out
    }
    CHECK(alive == 0);
}

TEST_CASE("waiters are served in order, and a leaver lets the next one in") {
    asio::io_context io;
    int alive = 0;
    pool p(io, 1, maker(alive));
    lease held = p.try_acquire();
    std::vector<int> order;
    asio::cancellation_signal signal;
    p.async_acquire(asio::bind_cancellation_slot(signal.slot(), [&](error_code ec, lease) {
        CHECK(ec == asio::error::operation_aborted);
        order.push_back(0);
    }));
    for (int i = 1; i < 4; ++i) p.async_acquire([&, i](error_code, lease) { order.push_back(i); });
    signal.emit(asio::cancellation_type::total);
    held.release();
    run(io);
    CHECK(order == std::vector{0, 1, 2, 3});
    CHECK(p.idle() == 1);
}

TEST_CASE("a deadline ends the wait") {
    asio::io_context io;
    int alive = 0;
    pool p(io, 1, maker(alive));
    lease held = p.try_acquire();
    error_code result;
    p.async_acquire_for(1s, [&](error_code ec, lease) { result = ec; });
    clock_type::advance(1s);
    run(io);
    CHECK(result == error::deadline_exceeded);
    CHECK(io.stopped());
}

TEST_CASE("a lease outlives its pool, and its object goes with it") {
    asio::io_context io;
    int alive = 0;
    lease outlives;
    {
        pool p(io, 2, maker(alive));
        outlives = p.try_acquire();
    }
    CHECK(alive == 1);
    outlives.release();
    CHECK(alive == 0);
}

TEST_CASE("closing ends waiters and later requests") {
    asio::io_context io;
    int alive = 0;
    pool p(io, 1, maker(alive));
    lease held = p.try_acquire();
    error_code waiting, later;
    p.async_acquire([&](error_code ec, lease) { waiting = ec; });
    p.close();
    p.async_acquire([&](error_code ec, lease) { later = ec; });
    run(io);
    CHECK(waiting == error::closed);
    CHECK(later == error::closed);
    held.release();
    CHECK(alive == 0);
}

TEST_CASE("a lease granted to a handler that never runs comes back") {
    asio::io_context home;
    int alive = 0;
    pool p(home, 1, maker(alive));
    {
        asio::io_context io;
        lease held = p.try_acquire();
        p.async_acquire(asio::bind_executor(io.get_executor(), [](error_code, lease) {}));
        held.release();
        CHECK(p.idle() == 0);
    }
    CHECK(p.idle() == 1);
}

TEST_CASE("a factory that throws stops the construction and leaks nothing") {
    asio::io_context io;
    int alive = 0;
    int made = 0;
    auto const third_fails = [&]() -> std::unique_ptr<counted> {
        if (++made == 3) throw std::runtime_error("no more");
        return std::make_unique<counted>(alive);
    };
    CHECK_THROWS_AS(pool(io, 4, third_fails), std::runtime_error);
    CHECK(alive == 0);
    CHECK_THROWS_AS(pool(io, 0, maker(alive)), std::invalid_argument);
}

TEST_CASE("threads never share an object", "[stress]") {
    asio::io_context a, b;
    struct slot {
        int users = 0;
        int uses = 0;
    };
    tidegate::object_pool<slot> p(a, 2, [] { return std::make_unique<slot>(); });
    std::atomic<int> wrong{0};
    auto use = [&](int times) -> asio::awaitable<void> {
        for (int i = 0; i < times; ++i) {
            auto mine = co_await p.acquire();
            if (++mine->users != 1) ++wrong;
            ++mine->uses;
            --mine->users;
        }
    };
    for (int i = 0; i < 4; ++i) asio::co_spawn(i % 2 ? a : b, use(500), asio::detached);
    std::thread other([&] { b.run(); });
    a.run();
    other.join();
    CHECK(wrong == 0);
    CHECK(p.try_acquire()->uses + p.try_acquire()->uses >= 1000);
    CHECK(p.idle() == 2);
}

TEST_CASE("a pool that is closed does not wait for what would have been idle for too long") {
    asio::io_context io{1};
    auto const make = [] { return std::make_unique<int>(1); };
    tidegate::object_pool<int> pool(
        io, tidegate::object_pool_options<int>{}.max_size(1).max_idle_time(std::chrono::hours(1)),
        make);
    {
        auto const lease = pool.try_acquire();
    }
    io.poll();
    CHECK_FALSE(io.stopped()); // it is to be destroyed in an hour
    pool.close();
    io.poll();
    CHECK(io.stopped());
}
