// SPDX-License-Identifier: BSL-1.0
// Batches: everybody gets the result at their own place, and failures stay where they belong.
#include <tidegate/batcher.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "batcher/support.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <atomic>
#include <deque>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::batch_reason;
using tidegate::batcher;
using tidegate::error;
using tidegate::error_code;
using tidegate::worker_pool;
using options = tidegate::batcher_options;
using clock_type = tidegate::testing::manual_clock;

using test::call;
using test::code_of;
using test::doubled;
using test::stepped;

namespace {

tidegate::worker_pool_options threads(std::size_t n) {
    return tidegate::worker_pool_options{}.threads(n);
}

void run_until(asio::io_context& io, auto done) {
    while (!done()) {
        if (io.run_one() == 0) io.restart();
    }
}

} // namespace

TEST_CASE("an idle worker takes what is there; a busy one lets batches grow") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    auto const step = std::make_shared<stepped>();
    batcher<int, int> b(pool, options{}.max_size(4), [step](auto items) { return (*step)(items); });
    std::deque<call> calls(8);
    calls[0].start(b, 0);
    step->entered.wait();
    for (int i = 1; i < 8; ++i) calls[static_cast<std::size_t>(i)].start(b, i);
    CHECK(b.queued() == 7);
    step->go.set_value();
    io.run();
    CHECK(step->batches == std::vector<std::vector<int>>{{0}, {1, 2, 3, 4}, {5, 6, 7}});
    for (int i = 0; i < 8; ++i) {
        CHECK(calls[static_cast<std::size_t>(i)].completions == 1);
        CHECK(calls[static_cast<std::size_t>(i)].result == 2 * i);
    }
    auto const stats = b.statistics();
    CHECK(stats.batches == 3);
    CHECK(stats.items == 8);
    CHECK(stats.by_size[1] + stats.by_size[3] + stats.by_size[4] == 3);
    CHECK(stats.closed_for(batch_reason::full) == 1);
    CHECK(stats.closed_for(batch_reason::idle) == 2);
}

TEST_CASE("a context that goes takes along the batch that runs, and results that nobody fetched") {
    std::optional<asio::io_context> io(std::in_place);
    std::promise<void> go;
    std::latch inside(1);
    worker_pool pool(*io, threads(1));
    batcher<int, int> b(pool, options{}.max_size(1), [&](std::span<int> items) {
        if (items[0] == 1) {
            inside.count_down();
            go.get_future().wait();
        }
        return doubled(items);
    });
    std::atomic<int> called = 0, gone = 0;
    struct counted {
        std::atomic<int>* called;
        std::atomic<int>* gone;
        std::promise<void>* at_end;
        counted(std::atomic<int>& c, std::atomic<int>& g, std::promise<void>* p)
            : called(&c), gone(&g), at_end(p) {}
        counted(counted&& other) noexcept
            : called(other.called),
              gone(std::exchange(other.gone, nullptr)),
              at_end(other.at_end) {}
        ~counted() {
            if (!gone) return;
            ++*gone;
            if (at_end) at_end->set_value();
        }
        void operator()(std::exception_ptr, int) { ++*called; }
    };
    b.async_submit(0, counted(called, gone, &go)); // has its result, which nobody fetches
    b.async_submit(1, counted(called, gone, nullptr));
    inside.wait();
    io.reset(); // the first one's end lets the second batch end
    CHECK(gone == 2);
    CHECK(called == 0);
}

TEST_CASE("a batch that its pool drops for a newer job fails, and the next one runs") {
    asio::io_context io;
    worker_pool pool(io, threads(1).queue(1).full(tidegate::when_full::drop_oldest));
    std::promise<void> go;
    std::latch inside(1);
    REQUIRE(pool.post([&] {
        inside.count_down();
        go.get_future().wait();
    }));
    inside.wait();
    batcher<int, int> b(pool, options{}.max_size(2), doubled);
    call first, second, third;
    first.start(b, 1);
    second.start(b, 2);
    CHECK(pool.post([] {}));                         // takes the place of the batch
    third.start(b, 3);                               // takes the place of that
    first.signal.emit(asio::cancellation_type::all); // too late
    go.set_value();
    io.run();
    CHECK(code_of(first.failure) == error::dropped);
    CHECK(code_of(second.failure) == error::dropped);
    CHECK(first.completions == 1);
    CHECK(b.statistics().cancelled == 0);
    CHECK(third.result == 6);
}

TEST_CASE("an incomplete batch waits for its oldest item, whatever comes after it") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    tidegate::basic_batcher<int, int, clock_type> b(pool, options{}.max_size(8).max_delay(10ms),
                                                    doubled);
    call first, second;
    first.start(b, 1);
    clock_type::advance(9ms);
    second.start(b, 2); // does not postpone it
    io.poll();
    CHECK(b.statistics().batches == 0);
    CHECK(clock_type::pending() == 1);
    clock_type::advance(1ms);
    io.restart();
    io.run();
    CHECK(first.result == 2);
    CHECK(second.result == 4);
    CHECK(b.statistics().batches == 1);
    CHECK(b.statistics().closed_for(batch_reason::delay) == 1);
    CHECK(clock_type::pending() == 0);
}

namespace {

/// Keeps the threads of a pool busy until `open`. May go before the threads do.
class held_threads {
public:
    held_threads(worker_pool& pool, int n) {
        auto const inside = std::make_shared<std::latch>(n);
        for (int i = 0; i < n; ++i) {
            REQUIRE(pool.post([inside, opened = opened_] {
                inside->count_down();
                opened.wait();
            }));
        }
        inside->wait();
    }
    void open() { go_.set_value(); }

private:
    std::promise<void> go_;
    std::shared_future<void> opened_ = go_.get_future().share();
};

} // namespace

TEST_CASE("what is left behind a batch is due in its own time, not when that batch ends") {
    asio::io_context io;
    worker_pool pool(io, threads(2));
    held_threads held(pool, 2);
    auto const step = std::make_shared<test::stepped>();
    auto run = [step](std::span<int> items) { return (*step)(items); };
    tidegate::basic_batcher<int, int, clock_type> b(pool, options{}.max_size(2).max_delay(10ms),
                                                    run);
    call c[3];
    for (int i = 0; i < 3; ++i) c[i].start(b, i);
    held.open();
    step->entered.wait(); // the first two, for long
    REQUIRE(clock_type::pending() == 1);
    clock_type::advance(10ms);
    run_until(io, [&] { return c[2].completions == 1; });
    CHECK(c[0].completions == 0);
    step->go.set_value();
    io.run();
    CHECK(c[0].completions == 1);
    CHECK(step->batches == test::batches{{0, 1}, {2}});
}

TEST_CASE("a batch that runs while its pool drains gives its results, whatever is left behind") {
    asio::io_context io;
    worker_pool pool(io, threads(2));
    held_threads held(pool, 2);
    tidegate::basic_batcher<int, int, clock_type> b(pool, options{}.max_size(2).max_delay(10ms),
                                                    doubled);
    call c[3];
    for (int i = 0; i < 3; ++i) c[i].start(b, i);
    clock_type::advance(10ms); // the third is due, too
    pool.drain();
    held.open();
    io.run();
    CHECK(c[0].result == 0);
    CHECK(c[1].result == 2);
    CHECK(code_of(c[2].failure) == error::closed);
}

namespace {

/// A batcher of one item a batch on two threads; the first batch runs until `open`.
struct one_batch_runs {
    one_batch_runs() {
        running.start(b, 1);
        step->entered.wait();
    }
    void open() {
        step->go.set_value();
        io.restart();
        io.run();
    }

    asio::io_context io;
    worker_pool pool{io, threads(2)};
    std::shared_ptr<stepped> step = std::make_shared<stepped>();
    batcher<int, int> b{pool, options{}.max_size(1).max_in_flight(2),
                        [s = step](std::span<int> items) { return (*s)(items); }};
    call running;
};

} // namespace

TEST_CASE("what a draining pool refuses does not take the results of a batch that runs") {
    one_batch_runs t;
    t.pool.drain();
    call late[2];
    late[0].start(t.b, 2);
    late[1].start(t.b, 3);
    t.io.poll();
    CHECK(code_of(late[0].failure) == error::closed);
    CHECK(code_of(late[1].failure) == error::closed);
    CHECK(t.running.completions == 0);
    t.open();
    CHECK(t.running.completions == 1);
    CHECK(t.running.result == 2);
}

TEST_CASE("a batch that ends in a draining pool takes nothing from another that runs") {
    one_batch_runs t;
    std::latch inside(1);
    std::promise<void> go;
    REQUIRE(t.pool.post([&] {
        inside.count_down();
        go.get_future().wait();
    }));
    inside.wait();
    call quick, left;
    quick.start(t.b, 2); // asks for the second batch that may run
    left.start(t.b, 3);
    t.pool.drain();
    go.set_value();
    run_until(t.io, [&] { return left.completions == 1; });
    CHECK(quick.result == 4); // by the pool, which had been asked
    CHECK(code_of(left.failure) == error::closed);
    CHECK(t.running.completions == 0);
    t.open();
    CHECK(t.running.result == 2);
}

TEST_CASE("a draining pool comes for what it was asked for, whatever it refuses meanwhile") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    held_threads held(pool, 1);
    batcher<int, int> b(pool, options{}.max_size(1).max_in_flight(2), doubled);
    call first, late;
    first.start(b, 1);
    pool.drain();
    late.start(b, 2);
    held.open();
    io.run();
    CHECK(first.result == 2);
    CHECK(code_of(late.failure) == error::closed);
}

TEST_CASE("a pool that closes fails what is queued, and no batch that runs") {
    one_batch_runs t;
    held_threads held(t.pool, 1);
    call queued;
    queued.start(t.b, 2);
    t.pool.close();
    t.io.poll();
    CHECK(code_of(queued.failure) == error::closed);
    CHECK(t.running.completions == 0);
    held.open();
    t.open();
    CHECK(t.running.result == 2);
}

TEST_CASE("who leaves a batch that runs on in a closed pool leaves at once") {
    one_batch_runs t;
    t.pool.close();
    call late;
    late.start(t.b, 2);
    t.running.signal.emit(asio::cancellation_type::total);
    t.io.restart();
    t.io.poll();
    CHECK(code_of(late.failure) == error::closed);
    CHECK(code_of(t.running.failure) == asio::error::operation_aborted);
    t.open();
    CHECK(t.running.completions == 1);
}

TEST_CASE("when a delay ends in a draining pool, what it kept fails alone") {
    asio::io_context io;
    worker_pool pool(io, threads(2));
    auto const step = std::make_shared<stepped>();
    auto run = [step](std::span<int> items) { return (*step)(items); };
    tidegate::basic_batcher<int, int, clock_type> b(pool, options{}.max_size(2).max_delay(10ms),
                                                    run);
    call c[3];
    c[0].start(b, 0);
    c[1].start(b, 1);
    step->entered.wait();
    c[2].start(b, 2);
    pool.drain();
    clock_type::advance(10ms);
    run_until(io, [&] { return c[2].completions == 1; });
    CHECK(code_of(c[2].failure) == error::closed);
    CHECK(c[0].completions == 0);
    step->go.set_value();
    io.run(); // returns: no timer is left
    CHECK(c[1].result == 2);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a full batch does not wait, and flush closes one early") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    tidegate::basic_batcher<int, int, clock_type> b(pool, options{}.max_size(2).max_delay(1h),
                                                    doubled);
    call c[3];
    for (int i = 0; i < 3; ++i) c[i].start(b, i);
    run_until(io, [&] { return c[1].completions == 1; });
    CHECK(c[2].completions == 0);
    b.flush();
    io.run(); // returns: no timer is left
    CHECK(c[2].result == 4);
    CHECK(b.statistics().closed_for(batch_reason::full) == 1);
    CHECK(b.statistics().closed_for(batch_reason::flush) == 1);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("forced sizes 4 and 8: a failing batch fails its own callers only") {
    for (std::size_t const size : {4u, 8u}) {
        asio::io_context io;
        worker_pool pool(io, threads(2));
        auto const fails_on_5 = [](std::span<int> items) {
            for (int item : items) {
                if (item == 5) throw std::domain_error("five");
            }
            return doubled(items);
        };
        batcher<int, int> b(pool, options{}.max_size(size).max_delay(1h), fails_on_5);
        std::deque<call> calls(3 * size);
        for (std::size_t i = 0; i < calls.size(); ++i) calls[i].start(b, static_cast<int>(i));
        io.run();
        for (std::size_t i = 0; i < calls.size(); ++i) {
            bool const with_five = i / size == 5 / size;
            CHECK(calls[i].completions == 1);
            CHECK((calls[i].failure != nullptr) == with_five);
            if (!with_five) CHECK(calls[i].result == static_cast<int>(2 * i));
        }
        CHECK(b.statistics().by_size[size] == 3);
    }
}

TEST_CASE("a cancelled caller leaves the queue, or a running batch, and disturbs nobody") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    auto const step = std::make_shared<stepped>();
    batcher<int, int> b(pool, options{}.max_size(4), [step](auto items) { return (*step)(items); });
    call runs, queued, stays;
    runs.start(b, 1);
    step->entered.wait();
    queued.start(b, 2);
    stays.start(b, 3);
    runs.signal.emit(asio::cancellation_type::total);
    queued.signal.emit(asio::cancellation_type::total);
    io.poll();
    CHECK(code_of(runs.failure) == asio::error::operation_aborted); // at once, though it runs
    CHECK(code_of(queued.failure) == asio::error::operation_aborted);
    step->go.set_value();
    io.restart();
    io.run();
    CHECK(stays.result == 6);
    CHECK(step->batches == std::vector<std::vector<int>>{{1}, {3}});
    CHECK(runs.completions + queued.completions + stays.completions == 3);
}

TEST_CASE("when all leave a waiting batch, its timer goes too") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    tidegate::basic_batcher<int, int, clock_type> b(pool, options{}.max_delay(1h), doubled);
    call only;
    only.start(b, 1);
    only.signal.emit(asio::cancellation_type::total);
    io.run();
    CHECK(clock_type::pending() == 0);
    CHECK(b.statistics().batches == 0);
}

TEST_CASE("another number of results fails the whole batch") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    batcher<int, int> b(pool, {}, [](std::span<int>) { return std::vector<int>(3); });
    call c;
    c.start(b, 1);
    io.run();
    CHECK(code_of(c.failure) == error::result_count_mismatch);
}

TEST_CASE("a queue that is refilled from the line has as many workers as may run") {
    asio::io_context io;
    worker_pool pool(io, threads(2));
    held_threads held(pool, 2);
    auto const step = std::make_shared<stepped>();
    batcher<int, int> b(pool, options{}.queue(4).max_size(4).max_in_flight(2),
                        [step](std::span<int> items) { return (*step)(items); });
    std::deque<call> calls(16);
    for (std::size_t i = 0; i < calls.size(); ++i) calls[i].start(b, static_cast<int>(i));
    CHECK(b.waiting() == 12);
    held.open();
    step->entered.wait(); // the first four, for long
    run_until(io, [&] { return calls[15].completions == 1; });
    CHECK(calls[0].completions == 0);
    step->go.set_value();
    io.run();
    CHECK(step->batches.size() == 4);
    for (call const& c : calls) CHECK(c.completions == 1);
}

TEST_CASE("no more than max_in_flight batches run at once") {
    asio::io_context io;
    worker_pool pool(io, threads(4));
    std::atomic<int> running{0}, most{0};
    auto const count = [&](std::span<int> items) {
        int const now = ++running;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        auto results = doubled(items);
        --running;
        return results;
    };
    batcher<int, int> b(pool, options{}.max_size(2).max_in_flight(2), count);
    std::deque<call> calls(500);
    for (std::size_t i = 0; i < calls.size(); ++i) calls[i].start(b, static_cast<int>(i));
    io.run();
    CHECK(most <= 2);
    for (call const& c : calls) CHECK(c.completions == 1);
}

TEST_CASE("closing the batcher, or its pool, ends those who wait") {
    for (bool const close_pool : {false, true}) {
        asio::io_context io;
        worker_pool pool(io, threads(1));
        auto const step = std::make_shared<stepped>();
        batcher<int, int> b(pool, options{}.max_size(1),
                            [step](auto items) { return (*step)(items); });
        call runs, queued, late;
        runs.start(b, 1);
        step->entered.wait();
        queued.start(b, 2);
        if (close_pool) pool.close();
        else b.close();
        step->go.set_value();
        io.run();
        late.start(b, 3);
        io.restart();
        io.run();
        CHECK(code_of(queued.failure) == error::closed);
        CHECK(code_of(late.failure) == error::closed);
        CHECK(runs.completions == 1);
    }
}

TEST_CASE("destroying batcher and context while a batch runs calls nobody") {
    bool called = false;
    auto const alive = std::make_shared<int>(0);
    {
        auto io = std::make_unique<asio::io_context>();
        auto const step = std::make_shared<stepped>();
        auto pool = std::make_unique<worker_pool>(*io, threads(1));
        auto b = std::make_unique<batcher<int, int>>(*pool, options{},
                                                     [step](auto items) { return (*step)(items); });
        b->async_submit(1, [&called, alive](std::exception_ptr, int) { called = true; });
        step->entered.wait();
        b->async_submit(2, [&called, alive](std::exception_ptr, int) { called = true; });
        step->go.set_value();
        io.reset();
        b.reset();
        pool.reset();
    }
    CHECK_FALSE(called);
    CHECK(alive.use_count() == 1);
}

TEST_CASE("bad options are refused by name") {
    CHECK_THROWS_AS(options{}.max_size(0), std::invalid_argument);
    CHECK_THROWS_AS(options{}.max_delay(-1ns), std::invalid_argument);
    CHECK_THROWS_AS(options{}.max_in_flight(0), std::invalid_argument);
}

TEST_CASE("random batches with leavers and failures: each caller hears once, and right",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 40);
        for (std::size_t round = 0; round < rounds; ++round) {
            asio::io_context io;
            worker_pool pool(io, threads(2));
            auto const some_fail = [](std::span<int> items) {
                for (int item : items) {
                    if (item % 17 == 3) throw std::domain_error("bad item");
                }
                return doubled(items);
            };
            batcher<int, int> b(pool,
                                options{}
                                    .max_size(1 + test::below(random, 8))
                                    .max_delay(std::chrono::microseconds(
                                        static_cast<int>(50 * test::below(random, 3)))),
                                some_fail);
            std::deque<call> calls(40);
            for (std::size_t i = 0; i < calls.size(); ++i) {
                bool const cancel_it = test::below(random, 4) == 0;
                asio::post(io, [&, i, cancel_it] {
                    calls[i].start(b, static_cast<int>(i));
                    if (!cancel_it) return;
                    asio::post(io,
                               [&, i] { calls[i].signal.emit(asio::cancellation_type::total); });
                });
            }
            io.run();
            for (std::size_t i = 0; i < calls.size(); ++i) {
                REQUIRE(calls[i].completions == 1);
                if (!calls[i].failure) REQUIRE(calls[i].result == static_cast<int>(2 * i));
            }
            auto const stats = b.statistics();
            std::uint64_t items = 0, batches = 0;
            for (std::size_t n = 1; n < stats.by_size.size(); ++n) {
                items += n * stats.by_size[n];
                batches += stats.by_size[n];
            }
            REQUIRE(items == stats.items);
            REQUIRE(batches == stats.batches);
            REQUIRE(std::accumulate(stats.by_reason.begin(), stats.by_reason.end(),
                                    std::uint64_t{0}) == stats.batches);
            REQUIRE(b.queued() == 0);
        }
    }
}
