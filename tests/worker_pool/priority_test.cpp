// SPDX-License-Identifier: BSL-1.0
// Who starts first, who is let go, and who runs the job.
#include "worker_pool/support.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using options = tidegate::worker_pool_options;
using tidegate::error;
using tidegate::error_code;
using tidegate::job_priority;
using tidegate::when_full;
using tidegate::worker_pool;

namespace {

/// Jobs that note their number, on a pool of one thread that is busy until `open`.
class order_of_starts {
public:
    explicit order_of_starts(worker_pool& pool) : pool_(pool), gate_(pool) {}

    void post(job_priority p, int number) {
        REQUIRE(pool_.post(p, [this, number] { starts_.push_back(number); }));
    }
    std::vector<int> const& after_all() {
        gate_.open();
        pool_.drain();
        pool_.join();
        return starts_;
    }

private:
    worker_pool& pool_;
    test::held_thread gate_;
    std::vector<int> starts_;
};

} // namespace

TEST_CASE("a priority that is none is refused") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    auto const none = static_cast<job_priority>(3);
    auto job = [] {};
    CHECK_THROWS_AS(pool.post(none, job), std::invalid_argument);
    CHECK_THROWS_AS(pool.async_submit(none, job, asio::detached), std::invalid_argument);
    CHECK_THROWS_AS(pool.async_try_submit(none, job, asio::detached), std::invalid_argument);
}

TEST_CASE("more urgent jobs start first, and each priority in its order") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    order_of_starts order(pool);
    for (int i = 0; i < 3; ++i) {
        order.post(job_priority::background, 20 + i);
        order.post(job_priority::normal, 10 + i);
        order.post(job_priority::urgent, i);
    }
    CHECK(order.after_all() == std::vector{0, 1, 2, 10, 11, 12, 20, 21, 22});
}

TEST_CASE("less urgent jobs start in time under a flood of urgent ones") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).patience(4));
    order_of_starts order(pool);
    order.post(job_priority::background, 200);
    order.post(job_priority::normal, 100);
    for (int i = 0; i < 20; ++i) order.post(job_priority::urgent, i);
    auto const starts = order.after_all();
    CHECK(std::vector(starts.begin(), starts.begin() + 7) == std::vector{0, 1, 2, 3, 200, 100, 4});
    CHECK(starts.size() == 22);
}

TEST_CASE("an urgent job overtakes those that wait for room") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1));
    test::held_thread gate(pool);
    std::vector<int> starts;
    auto const submit = [&](job_priority p, int number) {
        auto job = [&starts, number] { starts.push_back(number); };
        pool.async_submit(p, job, asio::detached);
    };
    submit(job_priority::normal, 0);
    for (int i = 1; i < 4; ++i) submit(job_priority::background, i);
    submit(job_priority::urgent, 9);
    CHECK(pool.waiting() == 4);
    gate.open();
    io.run();
    CHECK(starts == std::vector{0, 9, 1, 2, 3});
}

TEST_CASE("drop_oldest lets the oldest of the least urgent go, even a new one") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(2).full(when_full::drop_oldest));
    test::held_thread gate(pool);
    std::vector<error_code> ends(4);
    auto const submit = [&](job_priority p, std::size_t i) {
        auto job = [] {};
        pool.async_submit(p, job, [&ends, i](std::exception_ptr e) { ends[i] = test::code_of(e); });
    };
    submit(job_priority::normal, 0);
    submit(job_priority::background, 1);
    submit(job_priority::urgent, 2);
    submit(job_priority::background, 3);
    gate.open();
    io.run();
    CHECK_FALSE(ends[0]);
    CHECK(ends[1] == error::dropped);
    CHECK_FALSE(ends[2]);
    CHECK(ends[3] == error::dropped);
    CHECK(pool.statistics().dropped == 2);
}

TEST_CASE("caller_runs: a full queue makes the submitting thread do the work") {
    asio::io_context io;
    std::vector<std::exception_ptr> thrown;
    worker_pool pool(io, options{}
                             .threads(1)
                             .queue(1)
                             .full(when_full::caller_runs)
                             .on_exception([&](std::exception_ptr e) { thrown.push_back(e); }));
    test::held_thread gate(pool);
    REQUIRE(pool.post([] {}));
    auto const here = std::this_thread::get_id();
    std::thread::id ran_on;
    bool done = false;
    auto job = [&] { return ran_on = std::this_thread::get_id(); };
    pool.async_submit(job, [&](std::exception_ptr e, std::thread::id) { done = !e; });
    CHECK(ran_on == here);
    CHECK_FALSE(done); // the handler is not called inside the call
    io.poll();
    CHECK(done);
    auto fail = [] { throw std::runtime_error("by the caller"); };
    CHECK(pool.post(fail));
    CHECK(thrown.size() == 1);
    CHECK(pool.statistics().caller_ran == 2);
    gate.open();
}

TEST_CASE("caller_runs refuses once closed") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1).full(when_full::caller_runs));
    pool.close();
    bool ran = false;
    auto job = [&] { ran = true; };
    error_code end;
    pool.async_submit(job, [&](std::exception_ptr e) { end = test::code_of(e); });
    CHECK_FALSE(pool.post(job));
    io.run();
    CHECK(end == error::closed);
    CHECK_FALSE(ran);
}

TEST_CASE("try_submit never waits for room") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).queue(1));
    test::held_thread gate(pool);
    std::vector<int> got;
    auto job = [] { return 7; };
    auto submit = [&]() -> asio::awaitable<void> {
        try {
            got.push_back(co_await pool.try_submit(job));
        } catch (boost::system::system_error const& e) {
            got.push_back(e.code() == error::queue_full ? -1 : -2);
        }
    };
    asio::co_spawn(io, submit(), asio::detached);
    asio::co_spawn(io, submit(), asio::detached);
    io.poll();
    CHECK(got == std::vector{-1});
    CHECK(pool.waiting() == 0);
    gate.open();
    io.run();
    CHECK(got == std::vector{-1, 7});
    CHECK(pool.statistics().rejected == 1);
    CHECK(test::code_of([&] {
              std::exception_ptr failure;
              pool.close();
              pool.async_try_submit(job_priority::urgent, job,
                                    [&](std::exception_ptr e, int) { failure = e; });
              io.restart();
              io.run();
              return failure;
          }()) == error::closed);
}

TEST_CASE("results without a default state come back, with any priority") {
    struct answer {
        explicit answer(int v) : value(v) {}
        int value;
    };
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    int got = 0;
    auto job = [] { return answer(3); };
    auto stoppable = [](std::stop_token) { return answer(4); };
    auto ask = [&]() -> asio::awaitable<void> {
        got += (co_await pool.submit(job_priority::background, job)).value;
        got += (co_await pool.try_submit(job_priority::urgent, job)).value;
        got += (co_await pool.submit(stoppable)).value;
    };
    asio::co_spawn(io, ask(), asio::detached);
    io.run();
    CHECK(got == 10);
}
