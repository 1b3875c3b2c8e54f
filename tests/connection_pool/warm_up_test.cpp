// SPDX-License-Identifier: BSL-1.0
// Connections that are opened before anybody needs them.
#include <tidegate/call.hpp>
#include <tidegate/connection_pool.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <stdexcept>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using tidegate::connection_pool_options;
using namespace std::chrono_literals;
using tidegate::error;

namespace {

struct warm_tag;
using test_clock = tidegate::testing::basic_manual_clock<warm_tag>;
using pool = tidegate::basic_connection_pool<int, test_clock>;

struct warming {
    bool done = false;
    std::exception_ptr failed;
};

struct fixture {
    asio::io_context io;
    tidegate::semaphore answers{io, 100}; // a permit for each connection that may be opened
    int opened = 0;
    bool refuses = false;
    pool connections;
    std::vector<pool::connection> held;

    explicit fixture(connection_pool_options const& options)
        : connections(
              io, options, [this] { return open(); },
              [](int&) -> asio::awaitable<bool> { co_return true; }) {}

    asio::awaitable<int> open() {
        auto const answered = co_await answers.acquire();
        if (refuses) throw std::domain_error("refused");
        co_return ++opened;
    }
    void warm_up(warming& to) {
        asio::co_spawn(io, connections.warm_up(), [&to](std::exception_ptr e) {
            to.done = true;
            to.failed = std::move(e);
        });
        run();
    }
    void hold() {
        asio::co_spawn(io, connections.acquire(), [this](std::exception_ptr, pool::connection c) {
            held.push_back(std::move(c));
        });
        run();
    }
    void run() {
        io.restart();
        io.poll();
    }
};

} // namespace

TEST_CASE("a pool all of whose connections are in use is warm") {
    warming w;
    fixture f(connection_pool_options{}.max_size(2).min_size(2));
    f.hold();
    f.hold();
    REQUIRE(f.connections.statistics().open == 2);
    f.warm_up(w);
    CHECK(w.done);
    CHECK_FALSE(w.failed);
    CHECK(f.opened == 2);
}

TEST_CASE("what is missing is opened, whoever has the others") {
    warming w;
    fixture f(connection_pool_options{}.max_size(5).min_size(3));
    f.hold();
    f.hold();
    f.held.pop_back();
    f.warm_up(w);
    CHECK(w.done);
    CHECK_FALSE(w.failed);
    CHECK(f.opened == 3);
    CHECK(f.connections.statistics().open == 3);
    CHECK(f.connections.statistics().idle == 2);
    CHECK(f.connections.held_longer_than(-1ns).size() == 1);
}

TEST_CASE("a pool may be warmed up by two at once") {
    warming a, b;
    fixture f(connection_pool_options{}.max_size(2).min_size(2));
    {
        auto const silence = f.answers.try_acquire(100);
        REQUIRE(silence);
        f.warm_up(a);
        f.warm_up(b);
        CHECK_FALSE(a.done);
        CHECK_FALSE(b.done);
    }
    f.run();
    CHECK(a.done);
    CHECK_FALSE(a.failed);
    CHECK(b.done);
    CHECK_FALSE(b.failed);
    CHECK(f.connections.statistics().open == 2);
    CHECK(f.connections.statistics().idle == 2);
}

TEST_CASE("a connection that cannot be opened ends the warming up, and those before it stay") {
    warming w;
    fixture f(connection_pool_options{}.max_size(3).min_size(3));
    f.hold();
    f.held.clear();
    f.refuses = true;
    f.warm_up(w);
    REQUIRE(w.failed);
    CHECK_THROWS_AS(std::rethrow_exception(w.failed), std::domain_error);
    CHECK(f.connections.statistics().open == 1);
    CHECK(f.connections.statistics().idle == 1);
}

TEST_CASE("a closed pool cannot be warmed up") {
    warming w;
    fixture f(connection_pool_options{}.max_size(2).min_size(1));
    f.connections.close();
    f.warm_up(w);
    REQUIRE(w.failed);
    CHECK(tidegate::failure(w.failed).code() == error::closed);
}
