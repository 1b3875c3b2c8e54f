// SPDX-License-Identifier: BSL-1.0
// Items of several priorities: the urgent first, and everybody in time.
#include <tidegate/batcher.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "batcher/support.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/io_context.hpp>

#include <deque>
#include <mutex>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <variant>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::batch_reason;
using tidegate::error;
using tidegate::error_code;
using tidegate::job_priority;
using tidegate::when_full;
using options = tidegate::batcher_options;
using test::batches;
using test::call;
using test::code_of;
using test::held_batcher;

namespace {

constexpr std::monostate none;

// An item is 100 * priority + 10 * key or source + number.
job_priority hundreds(int item) {
    return item < 0 ? job_priority::normal : static_cast<job_priority>(item / 100);
}
int tens(int item) { return item / 10 % 10; }

} // namespace

TEST_CASE("a batch takes the more urgent items first, each priority in its order") {
    held_batcher held(options().max_size(3), none, none, &hundreds);
    for (int item : {200, 201, 100, 101, 0, 1}) held.submit(item);
    CHECK(held.open() == batches{{0, 1, 100}, {101, 200, 201}});
    for (call const& c : held.calls) CHECK(c.completions == 1);
    CHECK(held.calls[0].result == 2 * 200);
}

TEST_CASE("an item that was passed over often enough is taken before more urgent ones") {
    held_batcher held(options().max_size(4).patience(2), none, none, &hundreds);
    for (int item : {100, 101, 0, 1, 2, 3, 4}) held.submit(item);
    CHECK(held.open() == batches{{0, 1, 100, 2}, {3, 101, 4}});
}

TEST_CASE("sources take turns among the items that are equally urgent") {
    held_batcher held(options().max_size(4), none, &tens, &hundreds);
    for (int item : {110, 111, 112, 120, 20}) held.submit(item);
    CHECK(held.open() == batches{{20, 110, 120, 111}, {112}});
}

TEST_CASE("keys with more urgent items have their batch first, and no key starves") {
    SECTION("the urgent key first") {
        held_batcher held(options().max_size(2), &tens, none, &hundreds);
        for (int item : {110, 111, 120, 30}) held.submit(item);
        CHECK(held.open() == batches{{30}, {110, 111}, {120}});
    }
    SECTION("an urgent item brings others of its key along") {
        held_batcher held(options().max_size(2), &tens, none, &hundreds);
        for (int item : {110, 220, 221, 20}) held.submit(item);
        CHECK(held.open() == batches{{20, 220}, {110}, {221}});
    }
    SECTION("a key that was passed over often enough") {
        held_batcher held(options().patience(2), &tens, none, &hundreds);
        for (int item : {260, 10, 20, 30, 40, 50}) held.submit(item);
        CHECK(held.open() == batches{{10}, {20}, {260}, {30}, {40}, {50}});
    }
    SECTION("an urgent item that leaves costs its key no turn") {
        held_batcher held(options(), &tens, none, &hundreds);
        for (int item : {110, 120}) held.submit(item);
        held.submit(10).signal.emit(asio::cancellation_type::total);
        CHECK(held.open() == batches{{110}, {120}});
    }
}

TEST_CASE("a full queue drops the oldest of the least urgent, be it the new one") {
    held_batcher held(options().max_size(4).queue(3).full(when_full::drop_oldest), none, none,
                      &hundreds);
    for (int item : {200, 0, 100, 201, 1, 2, 202}) held.submit(item);
    CHECK(held.open() == batches{{0, 1, 2}});
    for (std::size_t const dropped : {0u, 2u, 3u, 6u}) {
        CHECK(code_of(held.calls[dropped].failure) == error::dropped);
    }
    CHECK(held.b.statistics().dropped == 4);
}

TEST_CASE("the only item of its key may be dropped as it comes") {
    held_batcher held(options().queue(1).full(when_full::drop_oldest), &tens, none, &hundreds);
    for (int item : {110, 220}) held.submit(item);
    CHECK(held.open() == batches{{110}});
    CHECK(code_of(held.calls[1].failure) == error::dropped);
}

TEST_CASE("the more urgent ones are let into a full queue first, with ageing") {
    held_batcher held(options().max_size(1).queue(1).patience(2), none, none, &hundreds);
    for (int item : {100, 200, 101, 102, 0, 1}) held.submit(item);
    CHECK(held.b.waiting() == 5);
    CHECK(held.open() == batches{{100}, {0}, {1}, {200}, {101}, {102}});
}

TEST_CASE("flush starts all that came before it, whatever passes it") {
    auto const settings = options().max_size(4).max_delay(1h);
    SECTION("by a more urgent item") {
        held_batcher held(settings, none, none, &hundreds);
        for (int item : {100, 101, 102}) held.submit(item);
        held.b.flush();
        for (int item : {0, 1, 2}) held.submit(item);
        CHECK(held.open() == batches{{0, 1, 2, 100}, {101, 102}});
        CHECK(held.b.statistics().closed_for(batch_reason::flush) == 2); // and the first
    }
    SECTION("by an item of another source") {
        held_batcher held(settings, none, &tens);
        for (int item : {10, 11, 12}) held.submit(item);
        held.b.flush();
        for (int item : {20, 21, 22}) held.submit(item);
        CHECK(held.open() == batches{{10, 20, 11, 21}, {12, 22}});
    }
    SECTION("those that wait for room, too") {
        held_batcher held(options().max_size(4).max_delay(1h).queue(4));
        for (int item = 0; item < 6; ++item) held.submit(item);
        held.b.flush();
        CHECK(held.open() == batches{{0, 1, 2, 3}, {4, 5}});
    }
}

TEST_CASE("an incomplete batch is due by its oldest item, however urgent the others are") {
    struct priority_clock {};
    using clock_type = tidegate::testing::basic_manual_clock<priority_clock>;
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    auto const step = std::make_shared<test::stepped>();
    step->first = false; // stops nowhere
    auto run = [step](std::span<int> items) { return (*step)(items); };
    tidegate::basic_batcher<int, int, clock_type> b(pool, options().max_size(8).max_delay(10ms),
                                                    run, none, none, &hundreds);
    call later, urgent;
    later.start(b, 200);
    clock_type::advance(9ms);
    urgent.start(b, 0);
    io.poll();
    CHECK(b.queued() == 2);
    clock_type::advance(1ms);
    io.restart();
    io.run();
    CHECK(step->batches == batches{{0, 200}});
    CHECK(b.statistics().closed_for(batch_reason::delay) == 1);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a key that waits with items of every priority becomes ready") {
    SECTION("as it is full") {
        held_batcher held(options().max_size(3).max_delay(1h), none, none, &hundreds);
        for (int item : {200, 100, 0}) held.submit(item);
        CHECK(held.open() == batches{{0, 100, 200}});
    }
    SECTION("as it is flushed") {
        held_batcher held(options().max_size(8).max_delay(1h), none, none, &hundreds);
        for (int item : {200, 100, 0}) held.submit(item);
        held.b.flush();
        CHECK(held.open() == batches{{0, 100, 200}});
    }
    SECTION("as it is due") {
        struct due_clock {};
        using clock_type = tidegate::testing::basic_manual_clock<due_clock>;
        asio::io_context io;
        tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
        tidegate::basic_batcher<int, int, clock_type> b(pool, options().max_size(8).max_delay(10ms),
                                                        &test::doubled, none, none, &hundreds);
        call c[3];
        for (int i = 0; i < 3; ++i) c[i].start(b, 200 - 100 * i);
        clock_type::advance(10ms);
        io.run();
        for (call const& each : c) CHECK(each.completions == 1);
        CHECK(b.statistics().batches == 1);
    }
}

TEST_CASE("a priority that is none fails the submission") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    tidegate::batcher<int, int> b(pool, options(), &test::doubled, none, none, &hundreds);
    call wrong, right;
    wrong.start(b, 500);
    right.start(b, 200);
    io.run();
    REQUIRE(wrong.failure);
    CHECK_THROWS_WITH(std::rethrow_exception(wrong.failure),
                      ContainsSubstring("job_priority is 5, allowed is 0 to 2"));
    CHECK(right.result == 400);
}

TEST_CASE("what the priority function throws fails the submission, and nothing else") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    auto picky = [](int item) {
        if (item == 7) throw std::invalid_argument("seven");
        return job_priority::urgent;
    };
    tidegate::batcher<int, int> b(pool, options(), &test::doubled, none, none, picky);
    call bad, good;
    bad.start(b, 7);
    CHECK(bad.completions == 0); // not inside the call
    good.start(b, 8);
    io.run();
    CHECK_THROWS_AS(std::rethrow_exception(bad.failure), std::invalid_argument);
    CHECK(good.result == 16);
}

TEST_CASE("priorities and patience of a batcher are checked") {
    using batcher = tidegate::batcher<int, int>;
    using run = decltype(&test::doubled);
    STATIC_CHECK(std::is_constructible_v<batcher, tidegate::worker_pool&, options, run,
                                         std::monostate, std::monostate, decltype(&hundreds)>);
    STATIC_CHECK_FALSE(std::is_constructible_v<batcher, tidegate::worker_pool&, options, run,
                                               std::monostate, std::monostate, decltype(&tens)>);
    CHECK_THROWS_WITH(options().patience(0), ContainsSubstring("batcher patience is 0"));
    CHECK(options().patience(3).patience() == 3);
}
