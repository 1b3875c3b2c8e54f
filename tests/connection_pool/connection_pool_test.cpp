// SPDX-License-Identifier: BSL-1.0
// Connections: opened when needed, checked, replaced, bounded, and never lost.
#include <tidegate/connection_pool.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::connection_pool_options;
using tidegate::error;
using tidegate::error_code;

namespace {

struct pool_tag;
using test_clock = tidegate::testing::basic_manual_clock<pool_tag>;

struct session {
    session(int n, int& o) : number(n), open(o) { ++open; }
    session(session const&) = delete;
    session& operator=(session const&) = delete;
    ~session() { --open; }
    int number;
    int& open;
};

using pool = tidegate::basic_connection_pool<session, test_clock>;
using connection = pool::connection;

// What became of one caller.
struct asking {
    asio::cancellation_signal signal;
    bool done = false;
    error_code failure;
    connection held;
};

struct server {
    asio::io_context io;
    int open = 0;
    int opened = 0;
    int checked = 0;
    bool refuses = false;
    bool healthy = true;
    tidegate::semaphore slow{io, 1}; // held while the server does not answer
    tidegate::semaphore::permit silence;

    asio::awaitable<std::unique_ptr<session>> connect() {
        auto const answered = co_await slow.acquire();
        if (refuses) throw std::domain_error("refused");
        co_return std::make_unique<session>(++opened, open);
    }
    asio::awaitable<bool> check(session&) {
        ++checked;
        auto const answered = co_await slow.acquire();
        co_return healthy;
    }
    pool make_pool(connection_pool_options options) {
        return pool(
            io, options, [this] { return connect(); }, [this](session& s) { return check(s); });
    }

    void run() {
        io.restart();
        io.poll();
    }
    void ask(pool& from, asking& to) {
        auto get = [](pool& p) -> asio::awaitable<connection> { co_return co_await p.acquire(); };
        asio::co_spawn(io, get(from),
                       asio::bind_cancellation_slot(
                           to.signal.slot(), [&to](std::exception_ptr e, connection c) {
                               to.done = true;
                               to.held = std::move(c);
                               try {
                                   if (e) std::rethrow_exception(e);
                               } catch (boost::system::system_error const& s) {
                                   to.failure = s.code();
                               } catch (...) {
                                   to.failure = asio::error::fault;
                               }
                           }));
        run();
    }
    connection get(pool& from) {
        asking a;
        ask(from, a);
        REQUIRE(a.held);
        return std::move(a.held);
    }
};

} // namespace

TEST_CASE("connections are opened when needed and used again, the latest first") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(3));
    auto a = s.get(p), b = s.get(p);
    CHECK(a->number == 1);
    CHECK(b->number == 2);
    a.release();
    b.release();
    CHECK(s.get(p)->number == 2);
    CHECK(s.opened == 2);
    CHECK(p.statistics().open == 2);
    CHECK(p.statistics().connected == 2);
}

TEST_CASE("one that was not used for a while is checked, and replaced if it does not pass") {
    server s;
    auto p = s.make_pool(connection_pool_options{});
    s.get(p).release();
    test_clock::advance(499ms);
    s.get(p).release();
    CHECK(s.checked == 0);
    test_clock::advance(500ms);
    s.get(p).release();
    CHECK(s.checked == 1);
    CHECK(s.opened == 1);
    test_clock::advance(1s);
    s.healthy = false;
    CHECK(s.get(p)->number == 2);
    CHECK(s.open == 1);
    CHECK(p.statistics().validation_failures == 1);
}

TEST_CASE("a check that does not come to an end has failed") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.validate_timeout(200ms));
    s.get(p).release();
    test_clock::advance(1s);
    s.silence = s.slow.try_acquire();
    asking a;
    s.ask(p, a);
    CHECK_FALSE(a.done);
    test_clock::advance(200ms);
    s.run();
    s.silence.release();
    s.run();
    CHECK(a.held->number == 2);
}

TEST_CASE("a connection whose check was given up is closed: the answer may come to the next one") {
    server s;
    auto p = s.make_pool(connection_pool_options{});
    s.get(p).release();
    test_clock::advance(1s);
    s.silence = s.slow.try_acquire();
    asking a;
    s.ask(p, a);
    CHECK_FALSE(a.done);
    a.signal.emit(asio::cancellation_type::terminal);
    s.run();
    CHECK(a.failure == asio::error::operation_aborted);
    CHECK(s.open == 0);
    s.silence.release();
    CHECK(s.get(p)->number == 2);
}

TEST_CASE("a check that aborts itself has failed, and its caller gets another connection") {
    server s;
    bool aborts = false;
    pool p(
        s.io, connection_pool_options{}, [&] { return s.connect(); },
        [&](session&) -> asio::awaitable<bool> {
            if (aborts) throw boost::system::system_error(asio::error::operation_aborted);
            co_return true;
        });
    s.get(p).release();
    test_clock::advance(1s);
    aborts = true;
    CHECK(s.get(p)->number == 2);
    CHECK(p.statistics().validation_failures == 1);
}

TEST_CASE("places without a connection are not idle connections") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.min_size(2).max_size(3));
    CHECK(p.statistics().idle == 0);
    auto a = s.get(p);
    CHECK(p.statistics().open == 1);
    CHECK(p.statistics().idle == 0);
    a.release();
    CHECK(p.statistics().idle == 1);
    auto b = s.get(p);
    b.discard();
    CHECK(p.statistics().open == 0);
    CHECK(p.statistics().idle == 0);
}

TEST_CASE("opening has a time limit, and a failure frees the place for the next one") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(1).connect_timeout(2s));
    s.silence = s.slow.try_acquire();
    asking a, b;
    s.ask(p, a);
    s.ask(p, b);
    test_clock::advance(2s);
    s.run();
    CHECK(a.failure == error::deadline_exceeded);
    s.silence.release();
    s.run();
    CHECK(b.held);
    b.held.discard();
    s.refuses = true;
    asking c;
    s.ask(p, c);
    CHECK(c.failure == asio::error::fault);
    s.refuses = false;
    CHECK(s.get(p));
    CHECK(p.statistics().connect_failures == 2);
    CHECK(p.statistics().discarded == 1);
}

TEST_CASE("callers wait in line for so long, and may leave") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(1).wait_timeout(3s));
    auto held = s.get(p);
    asking a, b, c;
    s.ask(p, a);
    s.ask(p, b);
    s.ask(p, c);
    b.signal.emit(asio::cancellation_type::all);
    s.run();
    CHECK(b.failure == asio::error::operation_aborted);
    held.release();
    s.run();
    CHECK(a.held->number == 1);
    test_clock::advance(3s);
    s.run();
    CHECK(c.failure == error::deadline_exceeded);
}

TEST_CASE("a caller that is cancelled while its connection is opened leaks nothing") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(1));
    s.silence = s.slow.try_acquire();
    asking a;
    s.ask(p, a);
    a.signal.emit(asio::cancellation_type::all);
    s.run();
    CHECK(a.failure == asio::error::operation_aborted);
    s.silence.release();
    CHECK(s.get(p));
}

TEST_CASE("overflow is closed when it comes back and nobody waits") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(1).max_overflow(1));
    auto a = s.get(p), b = s.get(p);
    asking waits;
    s.ask(p, waits);
    CHECK_FALSE(waits.done);
    b.release();
    s.run();
    CHECK(waits.held->number == 2);
    waits.held.release();
    CHECK(s.open == 1);
    a.release();
    CHECK(s.open == 1);
}

TEST_CASE("old connections are replaced, idle ones closed but for the least number") {
    server s;
    auto p = s.make_pool(
        connection_pool_options{}.max_size(3).min_size(1).max_lifetime(100s).max_idle_time(20s));
    auto warm = [&]() -> asio::awaitable<void> { co_await p.warm_up(); };
    asio::co_spawn(s.io, warm(), asio::detached);
    s.run();
    CHECK(s.open == 1);
    {
        auto a = s.get(p), b = s.get(p), c = s.get(p);
    }
    CHECK(s.open == 3);
    test_clock::advance(20s);
    s.run();
    CHECK(s.open == 1);
    test_clock::advance(80s);
    CHECK(s.get(p)->number == 4);
    CHECK(p.statistics().too_old == 1);
}

TEST_CASE("who has had a connection for long is known by the place where he asked for it") {
    server s;
    auto p = s.make_pool(connection_pool_options{});
    connection held;
    auto get = [&]() -> asio::awaitable<void> { held = co_await p.acquire(); };
    asio::co_spawn(s.io, get(), asio::detached);
    s.run();
    test_clock::advance(10s);
    auto const briefly = s.get(p);
    auto const leaks = p.held_longer_than(5s);
    REQUIRE(leaks.size() == 1);
    CHECK(std::string(leaks[0].where.file_name()).ends_with("connection_pool_test.cpp"));
    CHECK(leaks[0].where.line() > 200);
    held.release();
    CHECK(p.held_longer_than(5s).empty());
}

TEST_CASE("who has had connections for long is known in whatever order they come back") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(4));
    std::vector<connection> held;
    std::vector<test_clock::time_point> since;
    for (int i = 0; i < 4; ++i) {
        since.push_back(test_clock::now());
        held.push_back(s.get(p));
        test_clock::advance(1s);
    }
    auto all = [&] {
        std::vector<test_clock::time_point> found;
        for (auto const& one : p.held_longer_than(0s)) found.push_back(one.since);
        std::ranges::sort(found);
        return found;
    };
    CHECK(all() == since);
    for (std::size_t const next : {1u, 2u, 0u}) { // from the middle, and from either end
        held[next].release();
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(next));
        since.erase(since.begin() + static_cast<std::ptrdiff_t>(next));
        CHECK(all() == since);
    }
    held[0].discard();
    CHECK(all().empty());
    held[0] = s.get(p);
    CHECK(p.held_longer_than(-1ns).size() == 1);
}

TEST_CASE("a connection that is there is had without suspending") {
    server s;
    auto p = s.make_pool(connection_pool_options{});
    s.get(p).release();
    bool had = false;
    auto get = [&]() -> asio::awaitable<void> {
        auto const one = co_await p.acquire();
        had = static_cast<bool>(one);
    };
    s.io.restart();
    asio::co_spawn(s.io, get(), asio::detached);
    s.io.run_one(); // begins
    CHECK(had);
}

TEST_CASE("nobody overtakes who waits") {
    server s;
    auto p = s.make_pool(connection_pool_options{}.max_size(1));
    auto held = s.get(p);
    asking first;
    s.ask(p, first);
    held.release(); // to the first, who does not know yet
    asking second;
    s.ask(p, second);
    CHECK(first.held);
    CHECK_FALSE(second.done);
    first.held.release();
    s.run();
    CHECK(second.held);
}

TEST_CASE("a closed pool has nothing for anybody, and who was cancelled gets nothing") {
    server s;
    auto p = s.make_pool(connection_pool_options{});
    s.get(p).release();
    asking a;
    auto get = [&]() -> asio::awaitable<connection> {
        a.signal.emit(asio::cancellation_type::terminal);
        co_return co_await p.acquire();
    };
    auto done = [&](std::exception_ptr thrown, connection) {
        a.failure = tidegate::failure(thrown).code();
    };
    asio::co_spawn(s.io, get(), asio::bind_cancellation_slot(a.signal.slot(), done));
    s.run();
    CHECK(a.failure == asio::error::operation_aborted);
    CHECK(p.statistics().idle == 1);
    p.close();
    asking b;
    s.ask(p, b);
    CHECK(b.failure == error::closed);
    CHECK(s.opened == 1);
}

TEST_CASE("closing fails who waits; a connection in use may outlive the pool") {
    server s;
    auto p = std::make_unique<pool>(s.make_pool(connection_pool_options{}.max_size(2)));
    auto held = s.get(*p);
    s.get(*p).release();
    asking waits;
    auto other = s.get(*p);
    s.ask(*p, waits);
    p.reset();
    s.run();
    CHECK(waits.failure == error::closed);
    CHECK(held->number == 1);
    other.release();
    held.release();
    CHECK(s.open == 0);
}

TEST_CASE("threads that use and break connections never have too many") {
    struct counted {
        explicit counted(std::atomic<int>& o) : open(&o) { ++o; }
        counted(counted&& other) noexcept : open(std::exchange(other.open, nullptr)) {}
        counted& operator=(counted&&) = delete;
        ~counted() {
            if (open) --*open;
        }
        std::atomic<int>* open;
    };
    std::atomic<int> open{0}, most{0}, served{0};
    std::atomic<unsigned> turn{0};
    asio::io_context io;
    {
        auto connect = [&]() -> asio::awaitable<counted> { co_return counted(open); };
        auto check = [](counted&) -> asio::awaitable<bool> { co_return true; };
        tidegate::connection_pool<counted> p(
            io, connection_pool_options{}.max_size(2).max_overflow(1).validate_after(1ns), connect,
            check);
        auto use = [&]() -> asio::awaitable<void> {
            for (int i = 0; i < 300; ++i) {
                auto held = co_await p.acquire();
                int const now = open;
                int seen = most;
                while (now > seen && !most.compare_exchange_weak(seen, now)) {
                }
                if (++turn % 5 == 0) held.discard();
                ++served;
            }
        };
        for (int i = 0; i < 8; ++i) asio::co_spawn(asio::make_strand(io), use(), asio::detached);
        {
            std::vector<std::jthread> threads;
            for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
        }
        CHECK(p.statistics().open == static_cast<std::size_t>(open));
        CHECK(open <= 2);
    }
    CHECK(served == 8 * 300);
    CHECK(most <= 3);
    CHECK(open == 0);
}

TEST_CASE("options out of range are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    server s;
    CHECK_THROWS_WITH(connection_pool_options{}.max_size(0),
                      ContainsSubstring("connection_pool max_size is 0"));
    CHECK_THROWS_WITH(connection_pool_options{}.wait_timeout(0s),
                      ContainsSubstring("connection_pool wait_timeout in ns is 0"));
    CHECK_THROWS_WITH(s.make_pool(connection_pool_options{}.max_size(1).min_size(2)),
                      ContainsSubstring("connection_pool min_size is 2, allowed is 0 to 1"));
}
