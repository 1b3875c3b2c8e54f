// SPDX-License-Identifier: BSL-1.0
// A job that could run does not wait for a thread that sleeps.
#include <tidegate/worker_pool.hpp>

#include "support.hpp"
#include "support/stress.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#if defined(__linux__)
#include "support/sanitized.hpp"

#include <fstream>
#include <string>

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::when_full;
using tidegate::worker_pool;
using options = tidegate::worker_pool_options;

TEST_CASE("jobs that need each other all get a thread, however short the queue") {
    for (std::size_t const threads : {2u, 3u, 5u}) {
        for (std::size_t const queue : {1u, 2u, 8u}) {
            for (auto const spin : {0us, 10us}) {
                INFO(threads << " threads, queue of " << queue << ", spin " << spin.count());
                asio::io_context io;
                worker_pool pool(io, options{}.threads(threads).queue(queue).spin(spin));
                bool all_met = true;
                for (int round = 0; round < 20 && all_met; ++round) {
                    std::atomic<std::size_t> inside{0};
                    std::promise<void> everybody;
                    auto const met = everybody.get_future().share();
                    std::atomic<std::size_t> missed{0};
                    auto meet = [&] {
                        if (++inside == threads) everybody.set_value();
                        if (met.wait_for(20s) != std::future_status::ready) ++missed;
                    };
                    for (std::size_t i = 0; i < threads; ++i) {
                        pool.async_submit(meet, asio::detached);
                    }
                    io.restart();
                    io.run();
                    all_met = missed == 0;
                }
                REQUIRE(all_met);
            }
        }
    }
}

TEST_CASE("a job that moves up after a cancelled one gets a thread") {
    asio::io_context io;
    worker_pool pool(io, options{}.threads(2).queue(1).spin(0ns));
    test::held_thread busy(pool), also_busy(pool);
    asio::cancellation_signal leave;
    pool.async_submit([] {}, asio::bind_cancellation_slot(leave.slot(), [](std::exception_ptr) {}));
    std::promise<void> ran;
    pool.async_submit([&] { ran.set_value(); }, asio::detached);
    CHECK(pool.waiting() == 1);
    leave.emit(asio::cancellation_type::total);
    CHECK(pool.waiting() == 0);
    CHECK(pool.queued() == 1);
    busy.open();
    CHECK(test::comes(ran));
    also_busy.open();
    io.run();
}

#if defined(__linux__)
namespace {

/// A thread of a pool, to be watched and halted from outside.
struct watched_thread {
    pthread_t handle;
    pid_t number;

    static watched_thread this_one() {
        return {pthread_self(), static_cast<pid_t>(syscall(SYS_gettid))};
    }
    void wait_until_asleep() const {
        auto const path = "/proc/self/task/" + std::to_string(number) + "/stat";
        for (std::string stat; stat.find(") S ") == std::string::npos; std::this_thread::yield()) {
            std::getline(std::ifstream(path), stat);
        }
    }
};

/// A thread that does not run, as if there were no processor for it, until it is let go. It has to
/// be asleep: else it might hold a lock.
class halted_thread {
public:
    explicit halted_thread(watched_thread const& thread) {
        REQUIRE(pipe(inside_) == 0);
        REQUIRE(pipe(go_on_) == 0);
        struct sigaction halt{};
        halt.sa_handler = [](int) {
            char word = 0;
            bool const told = write(inside_[1], &word, 1) == 1 && read(go_on_[0], &word, 1) == 1 &&
                              write(inside_[1], &word, 1) == 1;
            if (!told) abort();
        };
        REQUIRE(sigaction(SIGUSR1, &halt, &before_) == 0);
        thread.wait_until_asleep();
        REQUIRE(pthread_kill(thread.handle, SIGUSR1) == 0);
        hear();
    }
    void go_on() {
        REQUIRE(write(go_on_[1], "", 1) == 1);
        hear(); // the handler needs the pipes no more
    }
    ~halted_thread() {
        sigaction(SIGUSR1, &before_, nullptr);
        for (int const end : {inside_[0], inside_[1], go_on_[0], go_on_[1]}) close(end);
    }

private:
    static inline int inside_[2], go_on_[2]; // for the handler, which takes no argument
    struct sigaction before_{};

    static void hear() {
        char word = 0;
        REQUIRE(read(inside_[0], &word, 1) == 1);
    }
};

/// A pool of two threads that sleep when there is nothing to do.
struct two_threads {
    asio::io_context io;
    std::array<std::promise<watched_thread>, 2> started;
    worker_pool pool{io, options{}.threads(2).spin(0ns).on_thread_start([this](std::size_t i) {
                         started[i].set_value(watched_thread::this_one());
                     })};
    std::array<watched_thread, 2> threads{started[0].get_future().get(),
                                          started[1].get_future().get()};

    /// Returns which thread ran it, once it has.
    std::size_t run_a_job() {
        auto const ran = std::make_shared<std::promise<pthread_t>>(); // the job's, too
        auto one = ran->get_future();
        REQUIRE(pool.post([ran] { ran->set_value(pthread_self()); }));
        REQUIRE(one.wait_for(20s) == std::future_status::ready);
        return pthread_equal(one.get(), threads[0].handle) ? 0 : 1;
    }
};

} // namespace

// Threads of a busy machine are called and get no processor for a while. glibc's condition variable
// (before 2.41) makes a later notification wait for them.
TEST_CASE("to post a job never waits for a thread that was called and does not run") {
    if (test::sanitized) SKIP("ThreadSanitizer puts signals off while a thread sleeps");
    two_threads two;
    for (int round = 0; round < 20; ++round) {
        for (auto const& thread : two.threads) thread.wait_until_asleep();
        // Who ran last fell asleep last, and is called next.
        std::size_t const next = two.run_a_job();
        halted_thread halted(two.threads[next]);
        auto const late = std::make_shared<std::promise<void>>();
        REQUIRE(two.pool.post([late] { late->set_value(); })); // calls him
        for (int i = 0; i < 10; ++i) {
            std::atomic<int> ran{0};
            auto job = [&] { ++ran, ran.notify_all(); };
            REQUIRE(two.pool.post(std::ref(job)));
            REQUIRE(two.pool.post(std::ref(job)));
            for (int seen = ran; seen < 2; seen = ran) ran.wait(seen);
            two.threads[1 - next].wait_until_asleep();
        }
        halted.go_on();
        REQUIRE(test::comes(*late));
    }
}

TEST_CASE(
    "a job does not wait for a thread that was called before and does not run, if another sleeps") {
    if (test::sanitized) SKIP("ThreadSanitizer puts signals off while a thread sleeps");
    std::promise<void> first, second;
    two_threads two;
    for (auto const& thread : two.threads) thread.wait_until_asleep();
    std::size_t const next = two.run_a_job();
    halted_thread halted(two.threads[next]);
    REQUIRE(two.pool.post([&] { first.set_value(); }));
    REQUIRE(two.pool.post([&] { second.set_value(); })); // calls the other, who does both
    CHECK(test::comes(first));
    CHECK(test::comes(second));
    two.threads[1 - next].wait_until_asleep();
    CHECK(two.run_a_job() == 1 - next);
    halted.go_on();
}
#endif

TEST_CASE("bursts of jobs from several threads are all run", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 1000);
        for (std::size_t round = 0; round < rounds; ++round) {
            asio::io_context io;
            worker_pool pool(io, options{}
                                     .threads(1 + test::below(random, 3))
                                     .queue(1 + test::below(random, 3))
                                     .spin(test::below(random, 2) ? 0ns : 20000ns));
            std::atomic<int> ran{0};
            std::array<std::size_t, 3> const bursts{
                test::below(random, 60), test::below(random, 60), test::below(random, 60)};
            std::vector<std::jthread> submitters;
            for (std::size_t const burst : bursts) {
                submitters.emplace_back([&, burst] {
                    for (std::size_t i = 0; i < burst; ++i) {
                        pool.async_submit([&] { ++ran; }, asio::detached);
                    }
                });
            }
            submitters.clear();
            io.run();
            REQUIRE(ran == static_cast<int>(bursts[0] + bursts[1] + bursts[2]));
            // A job is inactive soon after its result is there.
            while (pool.active() > 0) std::this_thread::yield();
            REQUIRE(pool.queued() + pool.waiting() == 0);
        }
    }
}
