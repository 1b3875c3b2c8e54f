// SPDX-License-Identifier: BSL-1.0
// Items of several keys and sources, and more items than there is room for.
#include <tidegate/batcher.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "batcher/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <deque>
#include <latch>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::batch_reason;
using tidegate::batcher;
using tidegate::error;
using tidegate::when_full;
using tidegate::worker_pool;
using options = tidegate::batcher_options;
using pool_options = tidegate::worker_pool_options;
using test::batches;
using test::call;
using test::code_of;
using test::held_batcher;

namespace {

int tens(int item) { return item / 10; }
int of_nobody(int) { return 0; }

} // namespace

TEST_CASE("alternating keys give full batches of one key each") {
    held_batcher held(options().max_size(4), &tens);
    for (int i = 0; i < 4; ++i) {
        held.submit(10 + i);
        held.submit(20 + i);
    }
    CHECK(held.open() == batches{{10, 11, 12, 13}, {20, 21, 22, 23}});
    for (call const& c : held.calls) CHECK(c.completions == 1);
    CHECK(held.calls[3].result == 2 * 21);
    CHECK(held.b.statistics().closed_for(batch_reason::full) == 2);
}

TEST_CASE("keys that have batches ready take turns") {
    held_batcher held(options().max_size(2), &tens);
    for (int i = 0; i < 6; ++i) held.submit(10 + i);
    held.submit(20);
    held.submit(30);
    CHECK(held.open() == batches{{10, 11}, {20}, {30}, {12, 13}, {14, 15}});
}

TEST_CASE("sources take turns within a batch, each in its own order") {
    held_batcher held(options().max_size(3), std::monostate(), &tens);
    for (int i = 0; i < 5; ++i) held.submit(10 + i); // one source floods
    held.submit(20);
    held.submit(30);
    held.submit(21);
    CHECK(held.open() == batches{{10, 20, 30}, {11, 21, 12}, {13, 14}});
    for (call const& c : held.calls) CHECK(c.completions == 1);
}

TEST_CASE("with a delay, each key waits for its own oldest item") {
    struct keys_clock {};
    using clock_type = tidegate::testing::basic_manual_clock<keys_clock>;
    asio::io_context io;
    worker_pool pool(io, pool_options().threads(1));
    std::mutex mutex;
    batches seen;
    auto note = [&](std::span<int> items) {
        std::lock_guard lock(mutex);
        seen.emplace_back(items.begin(), items.end());
        return test::doubled(items);
    };
    tidegate::basic_batcher<int, int, clock_type> b(pool, options().max_size(8).max_delay(10ms),
                                                    note, &tens);
    std::deque<call> calls(4);
    auto turn = [&] {
        io.restart();
        io.poll();
    };
    auto until = [&](call& c) {
        while (c.completions == 0) {
            if (io.run_one() == 0) io.restart();
        }
    };
    calls[0].start(b, 10);
    clock_type::advance(4ms);
    turn();
    calls[1].start(b, 20);
    calls[2].start(b, 11);
    clock_type::advance(5ms);
    turn();
    CHECK(b.queued() == 3);
    clock_type::advance(1ms);
    until(calls[2]);
    CHECK(calls[0].completions == 1);
    CHECK(calls[1].completions == 0);
    CHECK(b.queued() == 1);
    clock_type::advance(3ms);
    turn();
    CHECK(calls[1].completions == 0);
    clock_type::advance(1ms);
    until(calls[1]);
    CHECK(seen == batches{{10, 11}, {20}});
    CHECK(b.statistics().closed_for(batch_reason::delay) == 2);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("flush starts what is queued of every key, and nothing that comes later") {
    struct flush_clock {};
    using clock_type = tidegate::testing::basic_manual_clock<flush_clock>;
    asio::io_context io;
    worker_pool pool(io, pool_options().threads(1));
    auto run = [](std::span<int> items) { return test::doubled(items); };
    tidegate::basic_batcher<int, int, clock_type> b(pool, options().max_size(4).max_delay(1h), run,
                                                    &tens);
    std::deque<call> calls(4);
    calls[0].start(b, 10);
    calls[1].start(b, 20);
    calls[2].start(b, 21);
    b.flush();
    while (calls[0].completions + calls[1].completions + calls[2].completions < 3) {
        if (io.run_one() == 0) io.restart();
    }
    calls[3].start(b, 11);
    io.restart();
    io.poll();
    CHECK(calls[3].completions == 0);
    CHECK(b.queued() == 1);
    CHECK(b.statistics().closed_for(batch_reason::flush) == 2);
}

TEST_CASE("a full queue rejects, drops the oldest, or makes callers wait in line") {
    SECTION("reject") {
        held_batcher held(options().max_size(4).queue(2).full(when_full::reject));
        for (int i = 0; i < 3; ++i) held.submit(i);
        CHECK(held.open() == batches{{0, 1}});
        CHECK(code_of(held.calls[2].failure) == error::queue_full);
        CHECK(held.b.statistics().rejected == 1);
    }
    SECTION("drop_oldest") {
        held_batcher held(options().max_size(4).queue(2).full(when_full::drop_oldest));
        for (int i = 0; i < 4; ++i) held.submit(i);
        CHECK(held.open() == batches{{2, 3}});
        CHECK(code_of(held.calls[0].failure) == error::dropped);
        CHECK(code_of(held.calls[1].failure) == error::dropped);
        CHECK(held.b.statistics().dropped == 2);
    }
    SECTION("drop_oldest, over all keys and sources") {
        held_batcher held(options().max_size(4).queue(3).full(when_full::drop_oldest), &of_nobody,
                          &tens);
        held.submit(20);
        held.submit(10);
        held.submit(21);
        held.submit(11);
        CHECK(code_of(held.calls[0].failure) == tidegate::error_code());
        CHECK(held.open() == batches{{21, 10, 11}});
        CHECK(code_of(held.calls[0].failure) == error::dropped);
    }
    SECTION("wait") {
        held_batcher held(options().max_size(2).queue(2).full(when_full::wait), &tens);
        for (int i = 0; i < 5; ++i) held.submit(10 + i);
        held.submit(20);
        CHECK(held.b.queued() == 2);
        CHECK(held.b.waiting() == 4);
        CHECK(held.open() == batches{{10, 11}, {12, 13}, {14}, {20}});
        for (call const& c : held.calls) CHECK_FALSE(c.failure);
    }
    SECTION("one who waits for room may leave, and one in the queue lets the next in") {
        held_batcher held(options().max_size(2).queue(1), &tens);
        for (int i = 1; i < 5; ++i) held.submit(10 * i);
        held.calls[1].signal.emit(asio::cancellation_type::total);
        held.calls[0].signal.emit(asio::cancellation_type::total);
        CHECK(held.b.waiting() == 1);
        CHECK(held.b.queued() == 1);
        CHECK(held.open() == batches{{30}, {40}});
        CHECK(held.b.statistics().cancelled == 2);
    }
}

TEST_CASE("single items may fail, with a code or an exception") {
    asio::io_context io;
    worker_pool pool(io, pool_options().threads(1));
    auto run = [](std::span<int> items) {
        std::vector<tidegate::outcome<int>> results(items.size());
        for (std::size_t i = 0; i < items.size(); ++i) {
            if (items[i] == 1) results[i].fail(tidegate::error_code(asio::error::timed_out));
            else if (items[i] == 2)
                results[i].fail(
                    tidegate::failure(std::make_exception_ptr(std::domain_error("poison"))));
            else results[i].succeed(items[i]);
        }
        return results;
    };
    batcher<int, int> b(pool, options().max_size(4), run);
    std::deque<call> calls(4);
    for (int i = 0; i < 4; ++i) calls[static_cast<std::size_t>(i)].start(b, i);
    io.run();
    CHECK_FALSE(calls[0].failure);
    CHECK(code_of(calls[1].failure) == asio::error::timed_out);
    CHECK_THROWS_AS(std::rethrow_exception(calls[2].failure), std::domain_error);
    CHECK(calls[3].result == 3);
}

TEST_CASE("what key or source throw fails the submission, and nothing else") {
    asio::io_context io;
    worker_pool pool(io, pool_options().threads(1));
    auto run = [](std::span<int> items) { return test::doubled(items); };
    auto picky = [](int item) {
        if (item == 7) throw std::invalid_argument("seven");
        return item;
    };
    batcher<int, int> by_key(pool, options(), run, picky);
    batcher<int, int> by_source(pool, options(), run, std::monostate(), picky);
    for (auto* const b : {&by_key, &by_source}) {
        call bad, good;
        bad.start(*b, 7);
        CHECK(bad.completions == 0); // not inside the call
        good.start(*b, 8);
        io.restart();
        io.run();
        CHECK_THROWS_AS(std::rethrow_exception(bad.failure), std::invalid_argument);
        CHECK(good.result == 16);
        CHECK(b->queued() == 0);
    }
}

TEST_CASE("a slow batch delays no other when several may run") {
    asio::io_context io;
    std::latch slow_runs(1);
    std::promise<void> go_on;
    worker_pool pool(io, pool_options().threads(2));
    auto run = [&](std::span<int> items) {
        if (items[0] == 0) {
            slow_runs.count_down();
            go_on.get_future().wait();
        }
        return test::doubled(items);
    };
    batcher<int, int> b(pool, options().max_size(4).max_in_flight(2), run);
    call slow;
    slow.start(b, 0);
    slow_runs.wait();
    std::deque<call> quick(50);
    int done = 0;
    for (int i = 1; i <= 50; ++i) quick[static_cast<std::size_t>(i - 1)].start(b, i);
    while (done < 50) {
        if (io.run_one() == 0) io.restart();
        done = 0;
        for (call const& c : quick) done += c.completions;
    }
    CHECK(slow.completions == 0);
    go_on.set_value();
    io.restart();
    io.run();
    CHECK(slow.completions == 1);
}

TEST_CASE("saturated with slow batches, they are nearly as large as they may be") {
    asio::io_context io;
    worker_pool pool(io, pool_options().threads(1));
    std::optional<batcher<int, int>> b;
    std::atomic<bool> ending{false};
    auto run = [&](std::span<int> items) {
        while (!ending && b->queued() < 8) std::this_thread::yield(); // slower than the callers
        return test::doubled(items);
    };
    b.emplace(pool, options().max_size(8), run);
    std::deque<call> calls(64);
    int submitted = 0;
    // Whoever gets an answer asks again: 64 are always there.
    for (call& c : calls) c.start(*b, submitted++);
    while (submitted < 4000) {
        if (io.run_one() == 0) io.restart();
        for (call& c : calls) {
            if (std::exchange(c.completions, 0) > 0) c.start(*b, submitted++);
        }
    }
    ending = true;
    io.restart();
    io.run();
    CHECK(b->statistics().mean_size() >= 0.9 * 8);
}

TEST_CASE("bad queues are refused by name") {
    CHECK_THROWS_WITH(options().queue(0), ContainsSubstring("batcher queue is 0"));
    CHECK_THROWS_WITH(options().full(when_full::caller_runs),
                      ContainsSubstring("batcher full is caller_runs, allowed is wait, reject"));
}
