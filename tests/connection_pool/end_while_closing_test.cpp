// SPDX-License-Identifier: BSL-1.0
// A pool that ends while one of its connections does.
#include <tidegate/connection_pool.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

struct end_tag;
using test_clock = tidegate::testing::basic_manual_clock<end_tag>;

struct session {
    explicit session(std::function<void()> f) : at_end(std::move(f)) {}
    session(session const&) = delete;
    session& operator=(session const&) = delete;
    ~session() { at_end(); }
    std::function<void()> at_end;
};
using pool = tidegate::basic_connection_pool<session, test_clock>;

struct counter : tidegate::trace_observer {
    std::atomic<int> destroyed{0};
    void on_event(tidegate::trace_record const& what) noexcept override {
        if (what.event == tidegate::trace_event::destroyed) ++destroyed;
    }
};

// A pool with one connection, which it closes when nobody used it for 20 s.
struct fixture {
    std::function<void()> at_end;
    std::shared_ptr<counter> events = std::make_shared<counter>();
    bool is_heard_at_end = false; // once the pool has gone, but the connection has not
    asio::io_context io;
    std::optional<pool> connections;

    fixture() {
        auto open = [this]() -> asio::awaitable<std::unique_ptr<session>> {
            auto ends = [this] {
                at_end();
                is_heard_at_end = events.use_count() > 1;
            };
            co_return std::make_unique<session>(ends);
        };
        auto is_good = [](session&) -> asio::awaitable<bool> { co_return true; };
        connections.emplace(io, tidegate::connection_pool_options{}.max_idle_time(20s), open,
                            is_good);
        connections->observe(events, "sessions");
        auto use = [this]() -> asio::awaitable<void> {
            auto getting = connections->acquire();
            auto const used = co_await std::move(getting);
        };
        asio::co_spawn(io, use(), [](std::exception_ptr e) { CHECK_FALSE(e); });
        run();
    }

    void run() {
        io.restart();
        io.poll();
    }
};

} // namespace

TEST_CASE("a pool may end on one thread while another closes what has been idle in it") {
    std::latch closing(1), gone(1);
    fixture f;
    f.at_end = [&] {
        closing.count_down();
        gone.wait();
    };
    test_clock::advance(20s);
    std::thread other([&] { f.run(); });
    closing.wait();
    f.connections.reset();
    gone.count_down();
    other.join();
    CHECK(f.is_heard_at_end);
    CHECK(f.events->destroyed == 1);
    CHECK(f.events.use_count() == 1);
}

TEST_CASE("a connection that is closed for having been idle may end its pool") {
    fixture f;
    f.at_end = [&] { f.connections.reset(); };
    test_clock::advance(20s);
    f.run();
    CHECK(f.is_heard_at_end);
    CHECK(f.events->destroyed == 1);
    CHECK(f.events.use_count() == 1);
}

TEST_CASE("a connection that goes with its pool may end that") {
    fixture f;
    f.at_end = [&] { f.connections.reset(); };
    f.connections->close();
    CHECK(f.is_heard_at_end);
    CHECK(f.events->destroyed == 1);
    f.run(); // the timer goes
    CHECK(f.events.use_count() == 1);
}
