// SPDX-License-Identifier: BSL-1.0
// What observers hear of tasks: those of a scope, those of a registry, and jobs that fail.
#include "support.hpp"

#include "worker_pool/support.hpp"

#include <tidegate/background_tasks.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/task_scope.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <memory>
#include <stdexcept>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::task_context;
using tidegate::task_scope;
using tidegate::trace_event;

namespace {

struct tasks_clock;
using clock_type = tidegate::testing::basic_manual_clock<tasks_clock>;
using registry = tidegate::basic_background_tasks<int, clock_type>;

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

auto const ignore = [](auto&&...) {};

auto job(std::chrono::seconds time, bool fails = false) {
    return [=](task_context&) -> asio::awaitable<int> {
        co_await tidegate::sleep_for<clock_type>(time);
        if (fails) throw boost::system::system_error(error::queue_full);
        co_return 1;
    };
}

} // namespace

TEST_CASE("a scope tells when its tasks start and end, and with what") {
    asio::io_context io;
    task_scope scope(io, tidegate::on_task_failure::keep_going);
    auto const heard = std::make_shared<test::recorder>();
    heard->also = [&](tidegate::trace_record const&) { static_cast<void>(scope.size()); };
    scope.observe(heard, "workers");
    auto const good = []() -> asio::awaitable<void> { co_return; };
    auto const bad = []() -> asio::awaitable<void> {
        throw std::runtime_error("bad");
        co_return;
    };
    CHECK(scope.spawn(good));
    CHECK(heard->take() == told{}); // it runs when the context does
    run(io);
    CHECK(heard->take() == told{"job_started 1", "job_finished 1"});
    CHECK(heard->last().primitive == "task_scope");
    CHECK(heard->last().name == "workers");
    CHECK(heard->all()[0].duration > 0ns);
    CHECK_FALSE(heard->last().error);
    CHECK(scope.spawn(bad));
    run(io);
    CHECK(heard->take() == told{"job_started 1", "job_finished 1"});
    CHECK(heard->last().error == error::exception_thrown);

    auto const lasting = []() -> asio::awaitable<void> {
        co_await tidegate::sleep_for<clock_type>(1h);
    };
    CHECK(scope.spawn(lasting));
    run(io);
    asio::cancellation_signal signal;
    scope.async_join(asio::bind_cancellation_slot(signal.slot(), ignore));
    signal.emit(asio::cancellation_type::total);
    CHECK(heard->take() == told{"job_started 1", "cancelled 1"}); // the join
    scope.cancel();
    CHECK_FALSE(scope.spawn(good));
    CHECK(heard->take() == told{"rejected 1"});
    CHECK(heard->last().error == error::closed);
    bool joined = false;
    std::size_t heard_by_then = 0;
    scope.async_join([&](std::exception_ptr) {
        joined = true;
        heard_by_then = heard->all().size();
    });
    run(io);
    CHECK(joined);
    CHECK(heard->take() == told{"job_finished 1"});
    CHECK(heard->last().error == asio::error::operation_aborted);
    CHECK(heard_by_then == heard->all().size());
}

TEST_CASE("a registry tells once how each task ended, also of one that never began") {
    asio::io_context io;
    registry tasks(io, tidegate::background_tasks_options().max_running(1));
    auto const heard = std::make_shared<test::recorder>();
    heard->also = [&](tidegate::trace_record const&) { static_cast<void>(tasks.list()); };
    tasks.observe(heard, "reports");
    auto const first = tasks.spawn("first", job(2s));
    CHECK(heard->take() == told{"job_started 1"});
    auto const second = tasks.spawn("second", job(3s, true));
    auto const third = tasks.spawn("third", job(4s));
    auto const fourth = tasks.spawn("fourth", job(5s));
    run(io);
    CHECK(heard->take() == told{});
    clock_type::advance(1s);
    CHECK(tasks.cancel(third));
    CHECK(heard->take() == told{"job_finished 1"}); // it was queued
    CHECK(heard->last().error == asio::error::operation_aborted);
    CHECK(heard->last().duration == 0s);
    std::size_t heard_by_then = 0;
    tasks.async_wait(first, [&](std::exception_ptr, auto const&) {
        heard_by_then = heard->count(trace_event::job_finished);
    });
    clock_type::advance(1s);
    run(io);
    CHECK(heard_by_then == 2);
    CHECK(heard->take() == told{"job_finished 1", "job_started 1"});
    auto const all = heard->all();
    CHECK(all[all.size() - 2].duration == 2s); // ran
    CHECK_FALSE(all[all.size() - 2].error);
    CHECK(all.back().duration == 2s); // waited
    CHECK(all.back().primitive == "background_tasks");
    CHECK(all.back().name == "reports");
    clock_type::advance(3s);
    run(io);
    CHECK(heard->take() == told{"job_finished 1", "job_started 1"});
    CHECK(heard->all()[heard->all().size() - 2].error == error::queue_full);
    CHECK(tasks.cancel(fourth));
    run(io);
    CHECK(heard->take() == told{"job_finished 1"});
    CHECK(heard->last().error == asio::error::operation_aborted);
    tasks.close();
    CHECK_THROWS_AS(tasks.spawn("late", job(1s)), boost::system::system_error);
    CHECK(heard->take() == told{"rejected 1"});
    CHECK(heard->last().error == error::closed);
    CHECK(tasks.status(second)->state == tidegate::task_state::failed);
}

TEST_CASE("what tasks of a scope and a registry are told on several threads adds up") {
    auto const heard = std::make_shared<test::recorder>();
    constexpr std::size_t each = 500;
    {
        asio::thread_pool threads(2);
        task_scope scope(threads.get_executor());
        tidegate::background_tasks<void> tasks(threads.get_executor(),
                                               tidegate::background_tasks_options().max_running(2));
        scope.observe(heard, "scope");
        tasks.observe(heard, "tasks");
        auto const empty = []() -> asio::awaitable<void> { co_return; };
        auto const quick = [](task_context&) -> asio::awaitable<void> { co_return; };
        for (std::size_t i = 0; i < each; ++i) {
            CHECK(scope.spawn(empty));
            auto const id = tasks.spawn("t", quick);
            if (i % 8 == 0) tasks.cancel(id);
        }
        scope.async_join(ignore);
        tasks.async_wait_all(ignore);
        threads.join();
    }
    CHECK(heard->count(trace_event::job_finished) == 2 * each);
    std::size_t aborted = 0;
    for (auto const& one : heard->all()) aborted += one.error ? 1 : 0;
    CHECK(heard->count(trace_event::job_started) <= 2 * each);
    CHECK(heard->count(trace_event::job_started) >= 2 * each - aborted);
}

TEST_CASE("a job that fails is told with its code, awaited or not, on its thread or the caller's") {
    asio::io_context io;
    int reported = 0;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1).queue(1).on_exception(
                                       [&](std::exception_ptr) { ++reported; }));
    auto const heard = std::make_shared<test::recorder>();
    pool.observe(heard, "work");
    pool.async_submit([]() -> int { throw boost::system::system_error(error::overloaded); },
                      [&](std::exception_ptr e, int) { CHECK(e); });
    io.run();
    CHECK(heard->last().event == trace_event::job_finished);
    CHECK(heard->last().error == error::overloaded);
    CHECK(reported == 0);
    CHECK(pool.post([] { throw std::runtime_error("bad"); }));
    pool.async_submit([] {}, ignore); // ends after it
    io.restart();
    io.run();
    CHECK(reported == 1);
    REQUIRE(heard->count(trace_event::job_finished) == 3);
    CHECK(heard->all()[3].event == trace_event::job_finished);
    CHECK(heard->all()[3].error == error::exception_thrown);
    CHECK_FALSE(heard->last().error);
}

TEST_CASE("a job that fails where it was submitted is told with its code, too") {
    asio::io_context io;
    int reported = 0;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options()
                                       .threads(1)
                                       .queue(1)
                                       .full(tidegate::when_full::caller_runs)
                                       .on_exception([&](std::exception_ptr) { ++reported; }));
    test::held_thread gate(pool);
    CHECK(pool.post([] {}));
    auto const heard = std::make_shared<test::recorder>();
    pool.observe(heard, "work");
    CHECK(pool.post([] { throw boost::system::system_error(error::overloaded); }));
    CHECK(reported == 1);
    CHECK(heard->take() == told{"job_started 1", "job_finished 1"});
    CHECK(heard->last().error == error::overloaded);
    pool.async_submit([] { throw std::runtime_error("bad"); },
                      [&](std::exception_ptr e) { CHECK(e); });
    CHECK(heard->take() == told{"job_started 1", "job_finished 1"});
    CHECK(heard->last().error == error::exception_thrown);
    gate.open();
    io.run();
    CHECK(reported == 1);
}
