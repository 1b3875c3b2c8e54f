// SPDX-License-Identifier: BSL-1.0
// The pool's threads: how many, what they are told, and what is measured on them.
#include "support/stress.hpp"
#include "worker_pool/support.hpp"

#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <latch>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using options = tidegate::worker_pool_options;
using tidegate::worker_pool;

namespace {

/// Returns when `pool` has that many threads, which it is on its way to.
void wait_for_threads(worker_pool& pool, std::size_t n) {
    while (pool.statistics().threads != n) std::this_thread::yield();
}

} // namespace

TEST_CASE("a pool grows at once, and shrinks after the jobs that run") {
    asio::io_context io;
    std::latch all_run(8), three_run(3);
    worker_pool pool(io, options{}.threads(1));
    pool.resize(8);
    CHECK(pool.size() == 8);
    CHECK(pool.statistics().threads == 8);
    // Eight jobs that need each other: all threads take one.
    for (int i = 0; i < 8; ++i) REQUIRE(pool.post([&] { all_run.arrive_and_wait(); }));
    all_run.wait();
    pool.resize(2);
    CHECK(pool.size() == 2);
    wait_for_threads(pool, 2);
    pool.resize(3);
    CHECK(pool.statistics().threads == 3);
    for (int i = 0; i < 3; ++i) REQUIRE(pool.post([&] { three_run.arrive_and_wait(); }));
    three_run.wait();
    CHECK_THROWS_WITH(pool.resize(0), ContainsSubstring("worker_pool threads is 0, allowed is 1"));
}

TEST_CASE("resizing under load loses no job", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 2000);
        for (std::size_t round = 0; round < rounds; ++round) {
            asio::io_context io;
            worker_pool pool(io, options{}.threads(1).queue(1 << 16));
            std::atomic<int> ran{0};
            std::thread other([&] {
                for (int i = 0; i < 2000; ++i) {
                    if (!pool.post([&] { ++ran; })) std::abort();
                }
            });
            for (int i = 0; i < 50; ++i) pool.resize(1 + test::below(random, 6));
            other.join();
            pool.drain();
            pool.join();
            REQUIRE(ran == 2000);
            REQUIRE(pool.statistics().threads == 0);
        }
    }
}

TEST_CASE("a pool can be resized by its own jobs and hooks, and not once closed") {
    asio::io_context io;
    std::latch done(1);
    worker_pool pool(io, options{}.threads(2));
    REQUIRE(pool.post([&] {
        pool.resize(4);
        pool.resize(1);
        done.count_down();
    }));
    done.wait();
    CHECK(pool.size() == 1);
    wait_for_threads(pool, 1);
    pool.close();
    pool.resize(5);
    CHECK(pool.size() == 1);
    pool.join();
    CHECK(pool.statistics().threads == 0);
}

TEST_CASE("hooks run on each thread, before its first job and after its last") {
    asio::io_context io;
    std::mutex mutex;
    std::set<std::thread::id> started, stopped;
    std::set<std::size_t> numbers;
    {
        worker_pool pool(io, options{}
                                 .threads(3)
                                 .on_thread_start([&](std::size_t i) {
                                     std::lock_guard lock(mutex);
                                     started.insert(std::this_thread::get_id());
                                     numbers.insert(i);
                                 })
                                 .on_thread_stop([&](std::size_t) {
                                     std::lock_guard lock(mutex);
                                     stopped.insert(std::this_thread::get_id());
                                 }));
        std::atomic<bool> before{true};
        for (int i = 0; i < 50; ++i) {
            REQUIRE(pool.post([&] {
                std::lock_guard lock(mutex);
                if (!started.contains(std::this_thread::get_id())) before = false;
            }));
        }
        pool.drain();
        pool.join();
        CHECK(before);
    }
    CHECK(started.size() == 3);
    CHECK(stopped == started);
    CHECK(numbers == std::set<std::size_t>{0, 1, 2});
}

TEST_CASE("what a hook throws goes to the handler, and the thread works on") {
    asio::io_context io;
    std::atomic<int> thrown{0};
    std::atomic<bool> ran{false};
    {
        worker_pool pool(io, options{}
                                 .threads(1)
                                 .on_thread_start([](std::size_t) { throw std::runtime_error(""); })
                                 .on_thread_stop([](std::size_t) { throw 1; })
                                 .on_exception([&](std::exception_ptr) { ++thrown; }));
        REQUIRE(pool.post([&] { ran = true; }));
        pool.drain();
        pool.join();
    }
    CHECK(ran);
    CHECK(thrown == 2);
}

#if defined(__linux__)
TEST_CASE("threads stay on the processors they were bound to") {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    REQUIRE(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
    unsigned last = 0;
    for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
        if (CPU_ISSET(i, &allowed)) last = i;
    }
    asio::io_context io;
    worker_pool pool(io, options{}.threads(2).affinity({last}));
    std::atomic<int> elsewhere{0};
    for (int i = 0; i < 20; ++i) {
        REQUIRE(pool.post([&] { elsewhere += sched_getcpu() != static_cast<int>(last); }));
    }
    pool.drain();
    pool.join();
    CHECK(elsewhere == 0);
    CHECK_THROWS_WITH(options{}.affinity({last, 100000}),
                      ContainsSubstring("affinity names processor 100000"));
}
#endif

TEST_CASE("statistics count jobs and measure one in so many") {
    asio::io_context io;
    std::latch all_queued(1);
    worker_pool pool(io, options{}.threads(1).queue(100).measure_every(10));
    auto const took = 2ms;
    for (int i = 0; i < 40; ++i) {
        REQUIRE(pool.post([i, took, &all_queued] {
            if (i % 10) return;
            all_queued.wait();
            auto const end = std::chrono::steady_clock::now() + took;
            while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
        }));
    }
    all_queued.count_down();
    pool.drain();
    pool.join();
    auto const s = pool.statistics();
    CHECK(s.started == 40);
    CHECK(s.run.measured == 4);
    CHECK(s.wait.measured == 4);
    CHECK(s.run.p50 >= took * 0.99);
    CHECK(s.wait.max >= took * 0.99); // the second one measured waits for the first
    CHECK(s.run.max >= s.run.p99);
    CHECK(s.run.mean >= took * 0.99);
    CHECK_FALSE(pool.post([] {}));
    CHECK(s.queued + s.active + s.waiting == 0);
}

TEST_CASE("measuring can be switched off") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(1).measure_every(0));
    for (int i = 0; i < 5; ++i) REQUIRE(pool.post([] {}));
    pool.drain();
    pool.join();
    CHECK(pool.statistics().run.measured == 0);
    CHECK(pool.statistics().started == 5);
}
