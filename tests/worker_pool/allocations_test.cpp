// SPDX-License-Identifier: BSL-1.0
// What detached jobs allocate: nothing, once the pool has held as many.
#include <tidegate/worker_pool.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <new>
#include <thread>

using tidegate::when_full;
using tidegate::worker_pool;
using tidegate::worker_pool_options;

namespace {

std::atomic<std::size_t> ran; // not in a test: the last job may look at it after that

/// As large as a job may be that costs no allocation.
struct large_job {
    std::array<char, 64> content{1};

    void operator()() const {
        ran += static_cast<std::size_t>(content[0]);
        ran.notify_all();
    }
};
static_assert(sizeof(large_job) == 64);

/// The histograms of measured times grow when a time is longer than all before.
worker_pool_options unmeasured() { return worker_pool_options().threads(1).measure_every(0); }

/// Posts `jobs` behind one that keeps the only thread busy, and waits until all that stay have run.
/// Returns what the posting allocated.
std::size_t fill_and_empty(worker_pool& pool, std::size_t jobs, std::size_t stay) {
    std::atomic<bool> inside = false, open = false;
    ran = 0;
    auto const before = test::allocated();
    std::size_t refused = 0;
    refused += !pool.post([&] {
        inside = true;
        inside.notify_one();
        open.wait(false);
    });
    inside.wait(false);
    for (std::size_t i = 0; i < jobs; ++i) refused += !pool.post(large_job());
    auto const allocated = test::allocated() - before;
    open = true;
    open.notify_one();
    for (auto seen = ran.load(); seen < stay; seen = ran.load()) ran.wait(seen);
    CHECK(refused == 0);
    return allocated;
}

} // namespace

TEST_CASE("a queue that is no longer than before allocates nothing for detached jobs") {
    boost::asio::io_context io;
    worker_pool pool(io, unmeasured().queue(1024));
    // By the block: the first time, too, it is a few allocations for many jobs.
    CHECK(fill_and_empty(pool, 1024, 1024) <= 1024 / 32);
    // The last job of a round may not be back yet when the next begins.
    static_cast<void>(fill_and_empty(pool, 1024, 1024));
    for (int i = 0; i < 20; ++i) CHECK(fill_and_empty(pool, 1024, 1024) == 0);
}

TEST_CASE("detached jobs that are dropped are used again") {
    boost::asio::io_context io;
    worker_pool pool(io, unmeasured().queue(100).full(when_full::drop_oldest));
    static_cast<void>(fill_and_empty(pool, 1000, 100));
    static_cast<void>(fill_and_empty(pool, 1000, 100));
    CHECK(fill_and_empty(pool, 1000, 100) == 0);
    CHECK(pool.statistics().dropped == 3 * 900);
}

TEST_CASE("a pool that finds no memory for its threads ends those that it has") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        boost::asio::io_context io;
        std::atomic<int> started = 0, stopped = 0;
        auto const options = unmeasured()
                                 .threads(3)
                                 .name("longer than a string is without memory")
                                 .on_thread_start([&](std::size_t) { ++started; })
                                 .on_thread_stop([&](std::size_t) { ++stopped; });
        test::fail_allocation(n);
        failed = false;
        try {
            worker_pool const pool(io, options);
            failed = test::until_failure() == 0; // elsewhere than in here, but then it is there
            test::fail_allocation(0);
        } catch (std::bad_alloc const&) {
            test::fail_allocation(0);
            failed = true;
        }
        CHECK(started == stopped);
        CHECK(started <= 3);
        if (!failed) CHECK(started == 3);
    }
}

TEST_CASE("a pool that finds no memory for another thread goes on with those that it has") {
    boost::asio::io_context io;
    std::atomic<int> started = 0;
    worker_pool pool(io, unmeasured().on_thread_start([&](std::size_t) { ++started; }));
    test::fail_allocation(1);
    bool thrown = false;
    try {
        pool.resize(2);
    } catch (std::bad_alloc const&) {
        thrown = true;
    }
    test::fail_allocation(0);
    CHECK(thrown);
    ran = 0;
    CHECK(pool.post(large_job()));
    for (auto seen = ran.load(); seen < 1; seen = ran.load()) ran.wait(seen);
    CHECK(started == 1);
    pool.resize(2);
    while (started < 2) std::this_thread::yield();
}

TEST_CASE("a measured time that finds no memory is lost, and the next one counts") {
    boost::asio::io_context io;
    worker_pool pool(io, worker_pool_options().threads(1).measure_every(1));
    CHECK(pool.post([] {
        test::fail_allocation(1);
        auto const now = std::chrono::steady_clock::now();
        while (std::chrono::steady_clock::now() == now) continue; // 0 needs no memory
    }));
    while (pool.statistics().started < 1 || pool.active() > 0) std::this_thread::yield();
    CHECK(test::until_failure() == 0);
    test::fail_allocation(0);
    CHECK(pool.statistics().wait.measured == 1);
    CHECK(pool.statistics().run.measured == 0);
    CHECK(pool.post([] {}));
    pool.drain();
    pool.join();
    CHECK(pool.statistics().wait.measured == 2);
    CHECK(pool.statistics().run.measured == 1);
}
