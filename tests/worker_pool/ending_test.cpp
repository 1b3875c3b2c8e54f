// SPDX-License-Identifier: BSL-1.0
// Whoever ends first, and wherever: the pool, its jobs, its handlers, its context.
#include <tidegate/worker_pool.hpp>

#include "support.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using test::code_of;
using tidegate::error;
using tidegate::error_code;
using tidegate::when_full;
using tidegate::worker_pool;
using options = tidegate::worker_pool_options;

namespace {

// Goes with the last state of a pool.
options observed(std::shared_ptr<int> const& alive) {
    return options{}.threads(2).on_exception([alive](std::exception_ptr) {});
}

void await_end(std::weak_ptr<int> const& alive) {
    while (!alive.expired()) std::this_thread::yield();
}

} // namespace

TEST_CASE("a job may own the last reference to its pool") {
    asio::io_context io;
    auto alive = std::make_shared<int>(0);
    std::weak_ptr<int> const watch = alive;
    auto pool = std::make_shared<worker_pool>(io, observed(alive));
    alive.reset();
    std::promise<void> go;
    REQUIRE(pool->post([pool, opened = go.get_future().share()] { opened.wait(); }));
    pool.reset();
    go.set_value(); // the job ends on its thread, and the pool with it
    await_end(watch);
    io.run();
}

TEST_CASE("a job that never runs may own the last reference to its pool") {
    asio::io_context io;
    auto pool = std::make_shared<worker_pool>(
        io, options{}.threads(1).queue(1).full(when_full::drop_oldest));
    std::latch busy(1);
    REQUIRE(pool->post([&busy](std::stop_token stop) {
        busy.count_down();
        while (!stop.stop_requested()) std::this_thread::yield();
    }));
    busy.wait();
    REQUIRE(pool->post([pool] {}));
    worker_pool* const there = pool.get();
    std::weak_ptr<worker_pool> const watch = std::exchange(pool, nullptr);
    SECTION("when it is dropped") {
        static_cast<void>(there->post([] {}));
    }
    SECTION("when the pool is closed") { there->close(); }
    SECTION("when the pool is stopped") { there->stop(); }
    CHECK(watch.expired());
}

TEST_CASE("an awaited job may own the last reference to its pool") {
    asio::io_context io;
    auto pool = std::make_shared<worker_pool>(io, options{}.threads(1));
    std::promise<void> go;
    bool done = false;
    pool->async_submit([pool, opened = go.get_future().share()] { opened.wait(); },
                       [&](std::exception_ptr e) { done = !e; });
    pool.reset();
    go.set_value();
    io.run();
    CHECK(done);
}

TEST_CASE("a handler may destroy the pool, and those after it still hear") {
    asio::io_context io;
    auto pool = std::make_unique<worker_pool>(io, options{}.threads(1));
    int heard = 0;
    pool->async_submit([] {},
                       [&](std::exception_ptr) {
                           ++heard;
                           pool.reset();
                       });
    for (int i = 0; i < 10; ++i) pool->async_submit([] {}, [&](std::exception_ptr) { ++heard; });
    io.run();
    CHECK(heard == 11);
}

TEST_CASE("ten thousand queued jobs all hear of the end, and those that run end well") {
    asio::io_context io;
    int refused = 0, good = 0;
    auto const note = [&](std::exception_ptr e) {
        ++(code_of(e) == error::closed ? refused : good);
    };
    std::atomic<int> ran{0};
    {
        worker_pool pool(io, options{}.threads(4).queue(5000));
        std::latch running(4);
        auto run = [&] {
            running.arrive_and_wait();
            ++ran;
        };
        for (int i = 0; i < 4; ++i) pool.async_submit(run, note);
        running.wait();
        std::optional<test::held_thread> gates[4];
        for (auto& g : gates) g.emplace(pool);
        for (int i = 0; i < 10000; ++i) pool.async_submit([&] { ++ran; }, note);
        CHECK(pool.queued() == 5000);
        CHECK(pool.waiting() == 5000);
        pool.close();
        for (auto& g : gates) g->open();
        pool.join();
    }
    io.run();
    CHECK(good == 4);
    CHECK(refused == 10000);
    CHECK(ran == 4);
}

TEST_CASE("an exception whose end uses the pool is no deadlock") {
    struct calls_back {
        explicit calls_back(worker_pool& p) : pool(&p) {}
        worker_pool* pool;
        ~calls_back() { static_cast<void>(pool->queued()); }
    };
    struct failure {
        std::shared_ptr<calls_back> last;
    };
    asio::io_context io;
    std::promise<void> after;
    worker_pool pool(io, options{}.threads(1).on_exception([](std::exception_ptr) {}));
    REQUIRE(pool.post([&] { throw failure{std::make_shared<calls_back>(pool)}; }));
    pool.async_submit([&] { throw failure{std::make_shared<calls_back>(pool)}; }, asio::detached);
    REQUIRE(pool.post([&] { after.set_value(); }));
    CHECK(test::comes(after));
    io.run();
}

TEST_CASE("a callable whose end uses the pool is no deadlock, run or not") {
    struct calls_back {
        explicit calls_back(worker_pool& p) : pool(&p) {}
        worker_pool* pool;
        ~calls_back() {
            static_cast<void>(pool->queued());
            static_cast<void>(pool->post([] {}));
        }
    };
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1).full(when_full::drop_oldest));
    test::held_thread busy(pool);
    for (int i = 0; i < 2; ++i) { // the first is dropped by the second
        CHECK(pool.post([kept = std::make_shared<calls_back>(pool)] {}));
        pool.async_submit([kept = std::make_shared<calls_back>(pool)] {}, asio::detached);
    }
    pool.close();
    CHECK_FALSE(pool.post([kept = std::make_shared<calls_back>(pool)] {}));
    busy.open();
    io.run();
    CHECK(pool.queued() == 0);
}

TEST_CASE("a pool that was moved is used through its new name") {
    asio::io_context io;
    worker_pool first(io, options{}.threads(1));
    bool done = false;
    first.async_submit([] {}, [&](std::exception_ptr e) { done = !e; });
    worker_pool second(std::move(first));
    io.run();
    CHECK(done);
    CHECK(second.size() == 1);
    CHECK(second.is_open());
}

TEST_CASE("closing and joining twice, and after the context is gone, does nothing") {
    auto io = std::make_unique<asio::io_context>();
    worker_pool pool(*io, options{}.threads(2));
    pool.drain();
    pool.drain();
    pool.join();
    pool.close();
    pool.join();
    io.reset();
    pool.close();
    pool.drain();
    pool.join();
    CHECK_FALSE(pool.post([] {}));
    CHECK_FALSE(pool.is_open());
}

TEST_CASE("a pool outlives its context, and refuses without touching it") {
    auto io = std::make_unique<asio::io_context>();
    asio::io_context other;
    worker_pool pool(*io, options{}.threads(1));
    io.reset();
    CHECK_FALSE(pool.post([] {}));
    CHECK(pool.queued() + pool.waiting() + pool.active() == 0);
}

TEST_CASE("the context may go while results are on their way to another one") {
    auto const alive = std::make_shared<int>(0);
    asio::io_context other;
    int heard = 0;
    auto io = std::make_unique<asio::io_context>();
    worker_pool pool(*io, options{}.threads(2));
    std::latch running(1);
    std::promise<void> go;
    auto const there =
        asio::bind_executor(other.get_executor(), [&, alive](std::exception_ptr) { ++heard; });
    pool.async_submit(
        [&] {
            running.count_down();
            go.get_future().wait();
        },
        there);
    running.wait();
    std::thread opener([&] { go.set_value(); });
    io.reset(); // waits for the job, whose result belongs to the other
    opener.join();
    other.run();
    CHECK(heard == 1);
    CHECK(alive.use_count() == 2); // ours, and the one in `there`
}

TEST_CASE("coroutines that own the pool they wait for go with the context") {
    auto const alive = std::make_shared<int>(0);
    std::promise<void> go;
    {
        asio::io_context io;
        auto own = std::make_shared<worker_pool>(io, options{}.threads(1).queue(1));
        test::held_thread busy(*own);
        auto wait = [](std::shared_ptr<worker_pool> pool,
                       std::shared_ptr<int> kept) -> asio::awaitable<void> {
            auto const job = [kept] {};
            co_await pool->submit(job);
        };
        for (int i = 0; i < 3; ++i) asio::co_spawn(io, wait(own, alive), asio::detached);
        own.reset();
        io.poll();
        CHECK(alive.use_count() > 1);
        busy.open();
    }
    CHECK(alive.use_count() == 1);
}

TEST_CASE("an empty handler for exceptions is refused") {
    CHECK_THROWS_AS(options{}.on_exception(nullptr), std::invalid_argument);
}
