// SPDX-License-Identifier: BSL-1.0
// Results that throw when they are moved or default constructed, as a deque does in some libraries.
#include "worker_pool/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <deque>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace asio = boost::asio;
using tidegate::worker_pool;
using tidegate::worker_pool_options;

namespace {

struct movable_once {
    int moves = 0;

    movable_once() = default;
    movable_once(movable_once&& other) : moves(other.moves + 1) {
        if (moves > 1) throw std::runtime_error("moved");
    }
    movable_once& operator=(movable_once&&) = delete;
};

struct no_default {
    no_default() { throw std::runtime_error("default"); }
    explicit no_default(int n) : value(n) {}
    no_default(no_default&&) = default;
    no_default& operator=(no_default&&) = default;
    int value = 0;
};

/// Awaits `job` on a pool. Returns what was thrown, and counts that it came.
template <class Job>
std::exception_ptr thrown_by(Job job, int& ends) {
    asio::io_context io;
    worker_pool pool(io, worker_pool_options().threads(1));
    std::exception_ptr thrown;
    auto const caller = [&]() -> asio::awaitable<void> {
        auto submitting = pool.submit(job);
        static_cast<void>(co_await std::move(submitting));
    };
    asio::co_spawn(io, caller(), [&](std::exception_ptr e) {
        ++ends;
        thrown = e;
    });
    CHECK_NOTHROW(io.run());
    return thrown;
}

} // namespace

TEST_CASE("what moving a result throws reaches the coroutine that awaits it, once") {
    int ends = 0;
    auto const thrown = thrown_by([] { return movable_once(); }, ends);
    CHECK(ends == 1);
    REQUIRE(thrown);
    CHECK_THROWS_AS(std::rethrow_exception(thrown), std::runtime_error);
}

TEST_CASE("a job that throws needs no default result") {
    int ends = 0;
    auto const thrown = thrown_by([]() -> no_default { throw 7; }, ends);
    CHECK(ends == 1);
    REQUIRE(thrown);
    CHECK_THROWS_AS(std::rethrow_exception(thrown), int);
    CHECK_FALSE(thrown_by([] { return no_default(1); }, ends));
}

TEST_CASE("a result that may throw when it is moved arrives whole") {
    asio::io_context io;
    worker_pool pool(io, worker_pool_options().threads(1));
    std::deque<int> result;
    auto const job = [] { return std::deque<int>{1, 2, 3}; };
    auto const caller = [&]() -> asio::awaitable<void> {
        auto submitting = pool.submit(job);
        result = co_await std::move(submitting);
    };
    asio::co_spawn(io, caller(), [](std::exception_ptr e) { CHECK_FALSE(e); });
    io.run();
    CHECK(result == std::deque<int>{1, 2, 3});
}
