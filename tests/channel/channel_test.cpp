// SPDX-License-Identifier: BSL-1.0
// Values: in order, once each, and none lost.
#include <tidegate/channel.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/testing/tracking_executor.hpp>

#include "support/initiating.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/bind_immediate_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <pthread.h>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::channel;
using tidegate::error;
using tidegate::error_code;
namespace testing = tidegate::testing;
using boxed = std::unique_ptr<int>;

namespace {

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

asio::awaitable<void> send_numbers(channel<boxed>& c, int from, int n) {
    for (int i = from; i < from + n; ++i) co_await c.send(std::make_unique<int>(i));
}

asio::awaitable<void> receive_all(channel<boxed>& c, std::vector<int>& got) {
    while (auto value = co_await c.receive()) got.push_back(**value);
}

std::vector<int> numbers(int n) {
    std::vector<int> all;
    for (int i = 0; i < n; ++i) all.push_back(i);
    return all;
}

} // namespace

TEST_CASE("values arrive in order through any capacity") {
    for (std::size_t const capacity : {0u, 1u, 7u, 1000u}) {
        INFO("capacity " << capacity);
        asio::io_context io;
        channel<boxed> c(io, capacity);
        std::vector<int> got;
        asio::co_spawn(io, receive_all(c, got), asio::detached);
        asio::co_spawn(io, send_numbers(c, 0, 200), asio::detached);
        io.run_for(0s);
        run(io);
        CHECK(got == numbers(200));
        c.close();
        run(io);
        CHECK(io.stopped());
    }
}

TEST_CASE("try_send leaves the value alone when there is no room, and when closed") {
    asio::io_context io;
    channel<boxed> c(io, 1);
    boxed value = std::make_unique<int>(1);
    CHECK(c.try_send(std::move(value)));
    value = std::make_unique<int>(2);
    CHECK_FALSE(c.try_send(std::move(value)));
    REQUIRE(value);
    c.close();
    CHECK_FALSE(c.try_send(std::move(value)));
    CHECK(*value == 2);
    CHECK(**c.try_receive() == 1);
    CHECK_FALSE(c.try_receive());
}

TEST_CASE("closing delivers what is buffered and ends who waits") {
    asio::io_context io;
    channel<int> c(io, 2);
    error_code sent = asio::error::would_block;
    REQUIRE(c.try_send(1));
    REQUIRE(c.try_send(2));
    c.async_send(3, [&](error_code ec) { sent = ec; });
    c.close();
    run(io);
    CHECK(sent == error::closed);
    CHECK(c.try_receive() == 1);
    int second = 0;
    c.async_receive([&](error_code ec, int v) {
        CHECK_FALSE(ec);
        second = v;
    });
    error_code end;
    c.async_receive([&](error_code ec, int) { end = ec; });
    run(io);
    CHECK(second == 2);
    CHECK(end == error::closed);
}

TEST_CASE("waiting receivers are ended by close and by destruction") {
    asio::io_context io;
    error_code closed, destroyed;
    {
        channel<int> c(io, 1);
        c.async_receive([&](error_code ec, int) { closed = ec; });
        c.close();
        channel<int> d(io, 1);
        d.async_receive([&](error_code ec, int) { destroyed = ec; });
    }
    run(io);
    CHECK(closed == error::closed);
    CHECK(destroyed == error::closed);
}

TEST_CASE("senders and receivers are each served first in, first out") {
    asio::io_context io;
    channel<int> c(io, 0);
    std::vector<int> got, sent;
    for (int i = 0; i < 3; ++i) {
        c.async_receive([&, i](error_code, int v) { got.push_back(10 * i + v); });
    }
    for (int i = 0; i < 5; ++i) c.async_send(i, [&, i](error_code) { sent.push_back(i); });
    CHECK(c.waiting_senders() == 2);
    run(io);
    CHECK(got == std::vector{0, 11, 22});
    CHECK(sent == std::vector{0, 1, 2});
    CHECK(c.try_receive() == 3);
    CHECK(c.try_receive() == 4);
    run(io);
    CHECK(sent == numbers(5));
}

TEST_CASE("a cancelled receive takes nothing, a cancelled send leaves nothing") {
    asio::io_context io;
    channel<int> c(io, 1);
    asio::cancellation_signal signal;
    error_code ec1, ec2;
    c.async_receive(
        asio::bind_cancellation_slot(signal.slot(), [&](error_code e, int) { ec1 = e; }));
    signal.emit(asio::cancellation_type::total);
    REQUIRE(c.try_send(1));
    run(io);
    CHECK(ec1 == asio::error::operation_aborted);
    c.async_send(2, asio::bind_cancellation_slot(signal.slot(), [&](error_code e) { ec2 = e; }));
    signal.emit(asio::cancellation_type::terminal);
    run(io);
    CHECK(ec2 == asio::error::operation_aborted);
    CHECK(c.try_receive() == 1);
    CHECK_FALSE(c.try_receive());
}

TEST_CASE("a value handed over before the signal is delivered all the same") {
    asio::io_context io;
    channel<int> c(io, 0);
    asio::cancellation_signal signal;
    int got = 0;
    c.async_receive(
        asio::bind_cancellation_slot(signal.slot(), [&](error_code, int v) { got = v; }));
    REQUIRE(c.try_send(7));
    signal.emit(asio::cancellation_type::total);
    run(io);
    CHECK(got == 7);
}

TEST_CASE("deadlines end a wait and lose no value") {
    using timed = tidegate::basic_channel<int, testing::manual_clock>;
    asio::io_context io;
    timed c(io, 1);
    error_code received, sent;
    c.async_receive_for(1s, [&](error_code ec, int) { received = ec; });
    testing::manual_clock::advance(1s);
    REQUIRE(c.try_send(1)); // the time has come, but the timer has not run: the value is taken
    run(io);
    CHECK((received == error::deadline_exceeded || c.size() == 0));
    if (received) CHECK(c.try_receive() == 1);
    REQUIRE(c.try_send(2));
    c.async_send_for(1s, 3, [&](error_code ec) { sent = ec; });
    testing::manual_clock::advance(1s);
    run(io);
    CHECK(sent == error::deadline_exceeded);
    CHECK(c.try_receive() == 2);
    CHECK_FALSE(c.try_receive());
    CHECK(io.stopped());
    CHECK(testing::manual_clock::pending() == 0);
}

TEST_CASE("receive_some takes what is there, at least one") {
    asio::io_context io;
    channel<int> c(io, 8);
    for (int i = 0; i < 5; ++i) REQUIRE(c.try_send(i));
    std::vector<std::vector<int>> got;
    error_code last;
    auto const note = [&](error_code ec, std::vector<int> some) {
        last = ec;
        got.push_back(std::move(some));
    };
    c.async_receive_some(3, note);
    run(io);
    c.async_receive_some(3, note);
    run(io);
    c.async_receive_some(3, note); // waits
    run(io);
    REQUIRE(c.try_send(9));
    run(io);
    c.close();
    c.async_receive_some(3, note);
    run(io);
    CHECK(got == std::vector<std::vector<int>>{{0, 1, 2}, {3, 4}, {9}, {}});
    CHECK(last == error::closed);
}

TEST_CASE("handlers run on their executor, never inside the call") {
    using tracking = testing::tracking_executor<asio::io_context::executor_type>;
    asio::io_context io;
    tracking const home(io.get_executor(), 1), away(io.get_executor(), 2);
    tidegate::basic_channel<int, std::chrono::steady_clock, tracking> c(home, 1);
    std::vector<int> ran_on;
    auto const note = [&](auto...) {
        CHECK_FALSE(test::initiating());
        ran_on.push_back(tracking::current());
    };
    test::initiate([&] {
        c.async_send(1, note);
        c.async_receive(asio::bind_executor(away, note));
        c.async_receive(note);
        c.async_send(2, asio::bind_executor(away, note));
    });
    io.run();
    std::sort(ran_on.begin(), ran_on.end());
    CHECK(ran_on == std::vector{1, 1, 2, 2});
}

TEST_CASE("an immediate executor is not used: handlers may go on with the same channel") {
    using tracking = testing::tracking_executor<asio::io_context::executor_type>;
    asio::io_context io;
    tracking const home(io.get_executor(), 1);
    tidegate::basic_channel<int, std::chrono::steady_clock, tracking> c(home, 1);
    std::vector<std::string> ran;
    // Runs what is dispatched to it at once, inside the call.
    auto const at_once = [&](std::string name, auto go_on) {
        return asio::bind_immediate_executor(
            asio::system_executor(), [&ran, name, go_on](error_code ec, auto... value) {
                CHECK_FALSE(test::initiating());
                CHECK(tracking::current() == 1);
                CHECK_FALSE(ec);
                ran.push_back((name + ... + (" " + std::to_string(value))));
                go_on();
            });
    };
    auto const receive_again = [&] {
        CHECK(c.try_send(2)); // no lock is held here
        test::initiate([&] { c.async_receive(at_once("received", [] {})); });
        CHECK(c.size() == 0);
    };
    auto const receive = [&] {
        test::initiate([&] { c.async_receive(at_once("received", receive_again)); });
    };
    test::initiate([&] { c.async_send(1, at_once("sent", receive)); });
    CHECK(ran.empty());
    CHECK(c.size() == 1);
    io.run();
    CHECK(ran == std::vector<std::string>{"sent", "received 1", "received 2"});
}

TEST_CASE("use_future sends and receives") {
    asio::io_context io;
    channel<int> c(io, 1);
    auto received = c.async_receive(asio::use_future);
    auto sent = c.async_send(5, asio::use_future);
    io.run();
    sent.get();
    CHECK(received.get() == 5);
}

TEST_CASE("a context that goes takes its waiting coroutines with it") {
    auto const alive = std::make_shared<int>(0);
    {
        asio::io_context io;
        auto own = std::make_shared<channel<std::shared_ptr<int>>>(io, 1);
        auto wait = [](auto c, auto kept) -> asio::awaitable<void> {
            co_await c->send(kept);
            co_await c->send(kept); // waits for ever
        };
        asio::co_spawn(io, wait(own, alive), asio::detached);
        own.reset();
        io.poll();
        CHECK(alive.use_count() > 1);
    }
    CHECK(alive.use_count() == 1);
}

namespace {

asio::awaitable<void> pass_through(channel<int>& c, int times, int& done) {
    for (; done < times; ++done) {
        co_await c.send(done);
        auto const value = co_await c.receive();
        if (value != done) co_return;
    }
}

void* million_passes(void* result) {
    asio::io_context io;
    channel<int> c(io, 1);
    asio::co_spawn(io, pass_through(c, 1000000, *static_cast<int*>(result)), asio::detached);
    io.run();
    return nullptr;
}

} // namespace

TEST_CASE("a million ready receives in one coroutine fit into a stack of 256 KiB") {
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstacksize(&attributes, 256 * 1024) == 0);
    pthread_t thread;
    int done = 0;
    REQUIRE(pthread_create(&thread, &attributes, &million_passes, &done) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    pthread_attr_destroy(&attributes);
    CHECK(done == 1000000);
}

TEST_CASE("bad capacities are refused by name") {
    asio::io_context io;
    CHECK_THROWS_AS(channel<int>(io, (std::size_t{1} << 32) + 1), std::invalid_argument);
}

TEST_CASE("random schedules lose, double and reorder nothing", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules() / 4; ++i) {
            asio::io_context io;
            channel<int> c(io, test::below(random, 3));
            int next = 0;
            std::vector<int> sent, got;
            std::deque<asio::cancellation_signal> signals;
            for (std::size_t step = 0; step < 20; ++step) {
                signals.emplace_back();
                auto const slot = signals.back().slot();
                switch (test::below(random, 6)) {
                case 0:
                case 1: {
                    int const value = next++;
                    c.async_send(value,
                                 asio::bind_cancellation_slot(slot, [&, value](error_code ec) {
                                     if (!ec) sent.push_back(value);
                                 }));
                    break;
                }
                case 2:
                case 3:
                    c.async_receive(asio::bind_cancellation_slot(slot, [&](error_code ec, int v) {
                        if (!ec) got.push_back(v);
                    }));
                    break;
                case 4:
                    signals[test::below(random, signals.size())].emit(
                        asio::cancellation_type::total);
                    break;
                case 5:
                    if (auto v = c.try_receive()) got.push_back(*v);
                    break;
                }
                run(io);
            }
            c.cancel();
            run(io);
            while (auto v = c.try_receive()) got.push_back(*v);
            std::sort(sent.begin(), sent.end()); // a send may be told late, in its handler's turn
            REQUIRE(got == sent);
        }
    }
}

TEST_CASE("threads pass every value on exactly once", "[stress]") {
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 2000);
    for (std::size_t round = 0; round < rounds; ++round) {
        constexpr int per_sender = 500;
        asio::io_context a, b;
        channel<int> c(a, round % 4);
        std::atomic<int> senders_left{2};
        std::atomic<long> sum{0}, received{0};
        auto send = [&](int from) -> asio::awaitable<void> {
            for (int i = 0; i < per_sender; ++i) co_await c.send(from + i);
            if (--senders_left == 0) c.close();
        };
        auto receive = [&]() -> asio::awaitable<void> {
            while (auto v = co_await c.receive()) {
                sum += *v;
                ++received;
            }
        };
        asio::co_spawn(a, send(0), asio::detached);
        asio::co_spawn(b, send(per_sender), asio::detached);
        asio::co_spawn(a, receive(), asio::detached);
        asio::co_spawn(b, receive(), asio::detached);
        std::thread other([&] { b.run(); });
        a.run();
        other.join();
        CHECK(received == 2 * per_sender);
        CHECK(sum == long{2 * per_sender} * (2 * per_sender - 1) / 2);
    }
}
