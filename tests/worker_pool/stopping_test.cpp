// SPDX-License-Identifier: BSL-1.0
// Jobs that are asked to stop while they run.
#include "support/stress.hpp"
#include "worker_pool/support.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <array>
#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace asio = boost::asio;
using options = tidegate::worker_pool_options;
using tidegate::error;
using tidegate::error_code;
using tidegate::worker_pool;

namespace {

/// Runs until it is asked to stop.
std::string until_stopped(std::stop_token const& token, std::latch& running) {
    running.count_down();
    while (!token.stop_requested()) std::this_thread::yield();
    return "stopped";
}

} // namespace

TEST_CASE("cancelling a job that runs asks it to stop, and its result is delivered") {
    asio::io_context io;
    asio::cancellation_signal signal;
    std::latch running(1);
    worker_pool pool(io, options{}.threads(1));
    std::string result;
    auto job = [&](std::stop_token token) { return until_stopped(token, running); };
    pool.async_submit(
        job, asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e, std::string r) {
            CHECK_FALSE(e);
            result = std::move(r);
        }));
    running.wait();
    signal.emit(asio::cancellation_type::total);
    signal.emit(asio::cancellation_type::terminal);
    io.run();
    CHECK(result == "stopped");
}

TEST_CASE("cancelling a job that waits takes it out, stop token or not") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1));
    test::held_thread gate(pool);
    asio::cancellation_signal signal;
    error_code end;
    bool ran = false;
    auto job = [&](std::stop_token) { ran = true; };
    pool.async_submit(job, asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                          end = test::code_of(e);
                      }));
    signal.emit(asio::cancellation_type::total);
    gate.open();
    io.run();
    CHECK(end == asio::error::operation_aborted);
    CHECK_FALSE(ran);
}

TEST_CASE("stop asks all that run, detached or awaited, small or large") {
    asio::io_context io;
    std::latch running(3);
    worker_pool pool(io, options{}.threads(3));
    std::atomic<int> ended{0};
    bool delivered = false;
    auto small = [&](std::stop_token token) {
        until_stopped(token, running);
        ++ended;
    };
    auto large = [&, ballast = std::array<char, 200>{}](std::stop_token token) {
        static_cast<void>(ballast);
        until_stopped(token, running);
        ++ended;
    };
    REQUIRE(pool.post(small));
    REQUIRE(pool.post(large));
    pool.async_submit(small, [&](std::exception_ptr e) { delivered = !e; });
    running.wait();
    pool.stop();
    pool.join();
    io.run();
    CHECK(ended == 3);
    CHECK(delivered);
}

TEST_CASE("the end of the pool, or of its context, asks what runs to stop") {
    for (bool const context_first : {false, true}) {
        auto io = std::make_unique<asio::io_context>();
        std::optional<worker_pool> pool(std::in_place, *io, options{}.threads(2));
        std::latch running(2);
        std::atomic<int> ended{0};
        for (int i = 0; i < 2; ++i) {
            REQUIRE(pool->post([&](std::stop_token token) {
                until_stopped(token, running);
                ++ended;
            }));
        }
        running.wait();
        if (context_first) io.reset();
        pool.reset();
        CHECK(ended == 2);
    }
}

TEST_CASE("close leaves what runs undisturbed") {
    asio::io_context io;
    std::latch running(1);
    worker_pool pool(io, options{}.threads(1));
    std::promise<void> go_on;
    std::atomic<bool> asked{true};
    REQUIRE(pool.post([&, wait = go_on.get_future().share()](std::stop_token token) {
        running.count_down();
        wait.wait();
        asked = token.stop_requested();
    }));
    running.wait();
    pool.close();
    go_on.set_value();
    pool.join();
    CHECK_FALSE(asked);
}

TEST_CASE("stop callbacks may use the pool") {
    asio::io_context io;
    std::latch running(1);
    worker_pool pool(io, options{}.threads(1));
    std::size_t queued_then = 99;
    REQUIRE(pool.post([&](std::stop_token token) {
        std::stop_callback const callback(token, [&] { queued_then = pool.queued(); });
        until_stopped(token, running);
    }));
    running.wait();
    pool.stop();
    pool.join();
    CHECK(queued_then == 0);
}

TEST_CASE("random cancels of jobs that can stop: each ends once, and none runs on", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 40);
        for (std::size_t round = 0; round < rounds; ++round) {
            struct submitted {
                std::atomic<int> runs{0};
                int completions = 0;
                error_code ec;
                asio::cancellation_signal signal;
            };
            std::vector<submitted> jobs(40);
            asio::io_context io;
            worker_pool pool(
                io,
                options{}.threads(1 + test::below(random, 2)).queue(1 + test::below(random, 4)));
            for (submitted& j : jobs) {
                asio::post(io, [&pool, &io, &j] {
                    auto job = [&j](std::stop_token token) {
                        ++j.runs;
                        while (!token.stop_requested()) std::this_thread::yield();
                    };
                    pool.async_submit(job, asio::bind_cancellation_slot(j.signal.slot(),
                                                                        [&j](std::exception_ptr e) {
                                                                            ++j.completions;
                                                                            j.ec = test::code_of(e);
                                                                        }));
                    asio::post(io, [&j] { j.signal.emit(asio::cancellation_type::total); });
                });
            }
            io.run();
            for (submitted& j : jobs) {
                REQUIRE(j.completions == 1);
                REQUIRE(j.runs == (j.ec ? 0 : 1));
            }
        }
    }
}
