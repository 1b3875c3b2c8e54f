// SPDX-License-Identifier: BSL-1.0
// What observers hear of a worker pool, on whichever thread.
#include "support.hpp"

#include "worker_pool/support.hpp"

#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <optional>
#include <thread>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::told;
using tidegate::error;
using tidegate::trace_event;
using tidegate::when_full;
using tidegate::worker_pool_options;

namespace {

struct observed {
    explicit observed(worker_pool_options const& settings) {
        pool.emplace(io, settings);
        pool->observe(ear, "work");
    }

    std::shared_ptr<test::recorder> ear = std::make_shared<test::recorder>();
    asio::io_context io;
    std::optional<tidegate::worker_pool> pool;
};

worker_pool_options one_thread(when_full policy = when_full::reject) {
    return worker_pool_options().threads(1).queue(1).full(policy).measure_every(0);
}

} // namespace

TEST_CASE("a job is told when it starts and ends, on its thread, before who awaits it hears") {
    observed o(one_thread());
    std::thread::id told_on;
    o.ear->also = [&](tidegate::trace_record const&) { told_on = std::this_thread::get_id(); };
    std::thread::id ran_on;
    std::size_t heard_by_then = 0;
    o.pool->async_submit([&] { ran_on = std::this_thread::get_id(); },
                         [&](std::exception_ptr) { heard_by_then = o.ear->all().size(); });
    o.io.run();
    CHECK(heard_by_then == 2);
    CHECK(ran_on == told_on);
    CHECK(o.ear->take() == told{"job_started 1", "job_finished 1"});
    auto const all = o.ear->all();
    CHECK(all[0].primitive == "worker_pool");
    CHECK(all[0].name == "work");
    CHECK(all[0].duration > 0ns); // the way to the other thread
    CHECK(all[1].duration > 0ns);
    CHECK(o.pool->statistics().wait.measured == 0); // no sample of the statistics
}

TEST_CASE("a full pool tells whom it refuses") {
    observed o(one_thread());
    test::held_thread gate(*o.pool);
    o.pool->async_submit([] {}, [](std::exception_ptr) {});
    CHECK(o.ear->count(trace_event::job_started) == 1);
    o.ear->take();
    CHECK_FALSE(o.pool->post([] {}));
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::queue_full);
    o.pool->async_submit([] {}, [](std::exception_ptr) {});
    CHECK(o.ear->take() == told{"rejected 1"});
    gate.open();
    o.io.run();
    CHECK(o.ear->count(trace_event::job_started) == 2);
    o.pool->close();
    CHECK_FALSE(o.pool->post([] {}));
    CHECK(o.ear->last().error == error::closed);
}

TEST_CASE("a job that makes room is told once, whether somebody awaits it or not") {
    observed o(one_thread(when_full::drop_oldest));
    test::held_thread gate(*o.pool);
    int dropped = 0;
    o.pool->async_submit(
        [] {}, [&](std::exception_ptr e) { dropped += test::code_of(e) == error::dropped; });
    o.ear->take();
    CHECK(o.pool->post([] {}));
    CHECK(o.ear->take() == told{"dropped 1"});
    CHECK(o.ear->last().error == error::dropped);
    CHECK(o.pool->post([] {}));
    CHECK(o.ear->take() == told{"dropped 1"});
    gate.open();
    o.pool.reset();
    o.io.run();
    CHECK(dropped == 1);
    CHECK(o.ear->count(trace_event::job_started) == o.ear->count(trace_event::job_finished));
}

TEST_CASE("a job that the caller runs is told as any other") {
    observed o(one_thread(when_full::caller_runs));
    test::held_thread gate(*o.pool);
    CHECK(o.pool->post([] {}));
    o.ear->take();
    CHECK(o.pool->post([&] { CHECK(o.ear->take() == told{"job_started 1"}); }));
    CHECK(o.ear->take() == told{"job_finished 1"});
    gate.open();
}

TEST_CASE("jobs that are cancelled, or closed upon, are told once and never start") {
    observed o(one_thread(when_full::wait));
    test::held_thread gate(*o.pool);
    asio::cancellation_signal signal;
    int completions = 0;
    auto const count = [&](std::exception_ptr) { ++completions; };
    o.pool->async_submit([] {}, asio::bind_cancellation_slot(signal.slot(), count));
    o.pool->async_submit([] {}, count);
    o.ear->take();
    signal.emit(asio::cancellation_type::total);
    signal.emit(asio::cancellation_type::total);
    CHECK(o.ear->take() == told{"cancelled 1"});
    CHECK(o.ear->last().duration > 0ns);
    o.pool->close();
    CHECK(o.ear->take() == told{"rejected 1"});
    CHECK(o.ear->last().error == error::closed);
    gate.open();
    o.io.run();
    CHECK(completions == 2);
    CHECK(o.ear->count(trace_event::job_started) == 1); // the gate's
}

TEST_CASE("an observer of a pool may ask it for statistics on the threads that run jobs") {
    observed o(worker_pool_options().threads(2));
    std::atomic<std::size_t> asked = 0;
    o.ear->also = [&](tidegate::trace_record const&) {
        static_cast<void>(o.pool->statistics());
        ++asked;
    };
    int done = 0;
    for (int i = 0; i < 100; ++i) o.pool->async_submit([] {}, [&](std::exception_ptr) { ++done; });
    o.io.run();
    CHECK(done == 100);
    CHECK(asked == 200);
}
