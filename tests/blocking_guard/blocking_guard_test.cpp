// SPDX-License-Identifier: BSL-1.0
// Calls that block inside handlers, all of them real.
#include <tidegate/testing/blocking_guard.hpp>
#include <tidegate/watched_executor.hpp>
#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <cstdlib>
#include <netdb.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::testing::allow_blocking;
using tidegate::testing::blocking_guard;

namespace {

/// The functions that were found while `work` ran as a handler.
std::vector<std::string> found_in(std::function<void()> work) {
    blocking_guard const guard;
    asio::io_context io{1};
    asio::post(tidegate::watched(io.get_executor()), [&] { work(); });
    io.run();
    std::vector<std::string> names;
    for (auto const& call : guard.calls()) names.push_back(call.function);
    return names;
}
using names = std::vector<std::string>;

void block_shortly() {
    ::timespec const length{0, 1000};
    ::nanosleep(&length, nullptr);
}

asio::awaitable<void> talk(tidegate::worker_pool& pool) {
    auto const executor = co_await asio::this_coro::executor;
    tcp::acceptor acceptor(executor, {asio::ip::address_v4::loopback(), 0});
    tcp::socket client(executor);
    auto connecting = client.async_connect(acceptor.local_endpoint(), asio::deferred);
    co_await std::move(connecting);
    auto accepting = acceptor.async_accept(asio::deferred);
    tcp::socket server = co_await std::move(accepting);
    std::string const sent(10'000, 'x');
    std::string got(sent.size(), ' ');
    auto writing = asio::async_write(client, asio::buffer(sent), asio::deferred);
    co_await std::move(writing);
    auto reading = asio::async_read(server, asio::buffer(got), asio::deferred);
    co_await std::move(reading);
    CHECK(got == sent);
    // On the pool it may block.
    auto submitting = pool.async_submit(block_shortly, asio::deferred);
    co_await std::move(submitting);
}

} // namespace

TEST_CASE("calls that block are found where they are made") {
    CHECK(found_in(block_shortly) == names{"nanosleep"});
    CHECK(found_in([] {
              ::timespec const length{0, 1000};
              ::clock_nanosleep(CLOCK_MONOTONIC, 0, &length, nullptr);
          }) == names{"clock_nanosleep"});
    CHECK(found_in([] { ::poll(nullptr, 0, 1); }) == names{"poll"});
    CHECK(found_in([] { CHECK(std::system("true") == 0); }) == names{"system"});
    CHECK(found_in([] {
              ::addrinfo* all = nullptr;
              if (::getaddrinfo("127.0.0.1", nullptr, nullptr, &all) == 0) ::freeaddrinfo(all);
          }).front() == "getaddrinfo");
    auto const in_file = found_in([] {
        std::ifstream in("/proc/self/status");
        std::string line;
        std::getline(in, line);
    });
    CHECK_FALSE(in_file.empty());
    CHECK(in_file.front() == "read");
}

TEST_CASE("waiting for other threads is found") {
    CHECK(found_in([] {
              std::thread other([] {});
              other.join();
          }) == names{"pthread_join"});
    std::promise<void> promise;
    std::jthread keeper([&] {
        block_shortly();
        promise.set_value();
    });
    auto const in_future = found_in([&] { promise.get_future().wait_for(10s); });
    CHECK((in_future.empty() || in_future.front() == "syscall")); // it may be ready already
    CHECK(found_in([] {
              std::mutex mutex;
              std::condition_variable changed;
              std::unique_lock lock(mutex);
              changed.wait_for(lock, 1ms);
          }) == names{"pthread_cond_clockwait"});
    CHECK(found_in([] {
              allow_blocking const joining("the thread is the test's own");
              std::atomic<int> value{0};
              std::jthread other([&] {
                  value = 1;
                  value.notify_all();
              });
              value.wait(0);
          }).empty());
    CHECK(found_in([] {
              ::sem_t semaphore;
              ::sem_init(&semaphore, 0, 1);
              ::sem_wait(&semaphore);
          }) == names{"sem_wait"});
}

TEST_CASE("a mutex is found when somebody else has it, and only then") {
    std::mutex mutex;
    CHECK(found_in([&] { std::lock_guard lock(mutex); }).empty());
    std::atomic<int> step{0};
    std::jthread other([&] {
        std::lock_guard lock(mutex);
        step = 1;
        step.notify_all();
        step.wait(1);
    });
    step.wait(0);
    blocking_guard const guard([&](tidegate::testing::blocking_call const&) {
        step = 2; // let go once it is found
        step.notify_all();
    });
    asio::io_context io{1};
    asio::post(tidegate::watched(io.get_executor()), [&] { std::lock_guard lock(mutex); });
    io.run();
    REQUIRE(guard.calls().size() == 1);
    CHECK(guard.calls()[0].function == "pthread_mutex_lock");
}

TEST_CASE("what Asio does by itself is not found") {
    blocking_guard const guard;
    asio::io_context io{1};
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    asio::co_spawn(tidegate::watched(io.get_executor()), talk(pool), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
    for (auto const& call : guard.calls()) UNSCOPED_INFO(to_string(call));
    CHECK(guard.calls().empty());
}

TEST_CASE("nothing is found outside of handlers, without a guard, or where it is allowed") {
    {
        blocking_guard const guard;
        block_shortly();
        CHECK(guard.calls().empty());
        CHECK_THROWS_AS(blocking_guard(), std::logic_error);
    }
    CHECK(found_in([] {
              allow_blocking const outer("start-up");
              {
                  allow_blocking const inner("nested");
              }
              block_shortly();
          }).empty());
    asio::io_context io{1};
    asio::post(tidegate::watched(io.get_executor()), block_shortly);
    io.run();
}

TEST_CASE("a call comes with its stack") {
    blocking_guard const guard;
    asio::io_context io{1};
    asio::post(tidegate::watched(io.get_executor()), block_shortly);
    io.run();
    REQUIRE(guard.calls().size() == 1);
    CHECK(guard.calls()[0].stack.size() > 3);
    CHECK_THAT(to_string(guard.calls()[0]), ContainsSubstring("nanosleep inside a handler\n    "));
}

TEST_CASE("the child of a fork() has the guard, too, and the parent hears nothing of it") {
    blocking_guard const guard;
    ::pid_t const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(30); // should it hang
        asio::io_context io{1};
        asio::post(tidegate::watched(io.get_executor()), block_shortly);
        io.run();
        auto const calls = guard.calls();
        ::_exit(calls.size() == 1 && calls[0].function == "nanosleep" ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child); // not in a handler
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(guard.calls().empty());
}
