// SPDX-License-Identifier: BSL-1.0
// Objects that coroutines make and recycle, with a time limit for each and one for waiting.
#include <tidegate/object_pool.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/refusing_executor.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;

namespace {

struct later_tag;
using test_clock = tidegate::testing::basic_manual_clock<later_tag>;

struct session {
    session(int n, int& a) : number(n), alive(a) { ++alive; }
    session(session const&) = delete;
    session& operator=(session const&) = delete;
    ~session() { --alive; }
    int number;
    int& alive;
};

using pool = tidegate::basic_object_pool<session, test_clock>;
using options = tidegate::object_pool_options<session>;

// What a caller got.
struct asking {
    asio::cancellation_signal signal;
    bool done = false;
    error_code failure;
    pool::lease held;

    void ask(pool& from) {
        from.async_acquire(
            asio::bind_cancellation_slot(signal.slot(), [this](error_code ec, pool::lease l) {
                done = true;
                failure = ec;
                held = std::move(l);
            }));
    }
};

// Makes and resets sessions, when it is let.
struct server {
    asio::io_context io;
    int alive = 0;
    int made = 0;
    int resets = 0;
    bool refuses = false;
    bool resets_well = true;
    bool reset_throws = false;
    std::vector<error_code> reported;
    tidegate::semaphore making{io, 100};
    tidegate::semaphore resetting{io, 100};

    asio::awaitable<std::unique_ptr<session>> make() {
        auto const answered = co_await making.acquire();
        if (refuses) throw boost::system::system_error(asio::error::connection_refused);
        co_return std::make_unique<session>(++made, alive);
    }
    asio::awaitable<bool> reset() {
        ++resets;
        auto const answered = co_await resetting.acquire();
        if (reset_throws) throw std::domain_error("reset");
        co_return resets_well;
    }

    pool make_pool(options settings) {
        settings.on_exception([this](std::exception_ptr e) {
            reported.push_back(tidegate::failure(std::move(e)).code());
        });
        return pool(io, std::move(settings), [this] { return make(); });
    }
    options with_reset() {
        return options{}.max_size(2).recycle([this](session&) { return reset(); });
    }
    void run() {
        io.restart();
        io.poll();
    }
};

} // namespace

TEST_CASE("whoever waits has the object that is there first, made for him or not") {
    server s;
    auto p = s.make_pool(options{}.max_size(3));
    asking first, second;
    CHECK_FALSE(p.try_acquire()); // nothing is there at once
    first.ask(p);
    CHECK(s.made == 0); // not inside the call
    s.run();
    REQUIRE(first.held);
    CHECK(first.held->number == 1);
    auto silence = s.making.try_acquire(100);
    second.ask(p);
    s.run();
    CHECK_FALSE(second.done);
    CHECK(p.size() == 2);
    first.held.release();
    s.run();
    REQUIRE(second.held);
    CHECK(second.held->number == 1);
    silence.release();
    s.run();
    CHECK(p.idle() == 1); // what had been begun for the second
    CHECK(s.made == 2);
    CHECK(p.try_acquire()->number == 2);
}

TEST_CASE("no more objects are begun than there are who wait, nor than the bound") {
    server s;
    auto p = s.make_pool(options{}.max_size(3));
    auto silence = s.making.try_acquire(100);
    std::vector<asking> callers(5);
    for (int i = 0; i < 2; ++i) callers[static_cast<std::size_t>(i)].ask(p);
    s.run();
    CHECK(p.size() == 2);
    CHECK(s.making.waiting() == 2);
    for (std::size_t i = 2; i < 5; ++i) callers[i].ask(p);
    s.run();
    CHECK(p.size() == 3);
    CHECK(p.waiting() == 5);
    silence.release();
    s.run();
    CHECK(p.waiting() == 2);
    for (std::size_t i = 0; i < 5; ++i) {
        REQUIRE(callers[i].held);
        CHECK(callers[i].held->number == static_cast<int>(i % 3) + 1);
        callers[i].held.release();
        s.run();
    }
    CHECK(s.made == 3);
}

TEST_CASE("what cannot be made fails the first in line, and the next one has another attempt") {
    server s;
    auto p = s.make_pool(options{}.max_size(1));
    asking a, b;
    auto silence = s.making.try_acquire(100);
    a.ask(p);
    b.ask(p);
    s.refuses = true;
    s.run();
    silence.release();
    s.run();
    CHECK(a.failure == asio::error::connection_refused);
    CHECK(b.failure == asio::error::connection_refused);
    CHECK(p.size() == 0);
    CHECK(s.reported.size() == 2);
    s.refuses = false;
    asking c;
    c.ask(p);
    s.run();
    CHECK(c.held);
}

TEST_CASE("thousands who wait for a factory that fails at once do not grow the stack") {
    server s;
    s.refuses = true;
    auto p = s.make_pool(options{}.max_size(2));
    int failed = 0;
    for (int i = 0; i < 20'000; ++i)
        p.async_acquire(
            [&](error_code ec, pool::lease) { failed += ec == asio::error::connection_refused; });
    s.run();
    CHECK(failed == 20'000);
    CHECK(p.size() == 0);
}

TEST_CASE("waiting, making and recycling have time limits of their own") {
    server s;
    asking a, b;

    SECTION("waiting") {
        auto p = s.make_pool(options{}.max_size(1).wait_timeout(3s).create_timeout(60s));
        auto silence = s.making.try_acquire(100);
        a.ask(p);
        s.run();
        test_clock::advance(3s);
        s.run();
        CHECK(a.failure == error::deadline_exceeded);
        CHECK(p.size() == 1); // goes on
        silence.release();
        s.run();
        CHECK(p.idle() == 1);
        a.ask(p);
        s.run();
        REQUIRE(a.held);
        p.async_acquire_for(5s, [&](error_code ec, pool::lease) { b.failure = ec; });
        test_clock::advance(4s); // the call's own limit holds, not the usual one
        s.run();
        CHECK_FALSE(b.failure);
        test_clock::advance(1s);
        s.run();
        CHECK(b.failure == error::deadline_exceeded);
    }
    SECTION("making") {
        auto p = s.make_pool(options{}.max_size(1).create_timeout(2s));
        auto silence = s.making.try_acquire(100);
        a.ask(p);
        s.run();
        test_clock::advance(2s);
        s.run();
        CHECK(a.failure == error::deadline_exceeded);
        CHECK(p.size() == 0);
        CHECK(s.making.waiting() == 0); // it was cancelled
    }
    SECTION("recycling") {
        auto p = s.make_pool(s.with_reset().recycle_timeout(2s));
        auto silence = s.resetting.try_acquire(100);
        a.ask(p);
        s.run();
        a.held.release();
        s.run();
        CHECK(p.idle() == 0);
        CHECK(p.size() == 1);
        CHECK(s.alive == 1);
        test_clock::advance(2s);
        s.run();
        CHECK(s.alive == 0);
        CHECK(p.size() == 0);
        CHECK(s.reported == std::vector<error_code>{error::deadline_exceeded});
    }
    s.run();
    CHECK(s.io.stopped());
}

TEST_CASE("an object is recycled before the next one has it, or destroyed and replaced") {
    server s;
    auto p = s.make_pool(s.with_reset().max_size(1));
    asking a, b, c;
    a.ask(p);
    b.ask(p);
    c.ask(p);
    s.run();
    auto silence = s.resetting.try_acquire(100);
    a.held.release();
    s.run();
    CHECK(s.resets == 1);
    CHECK_FALSE(b.done);
    silence.release();
    s.run();
    REQUIRE(b.held);
    CHECK(b.held->number == 1);
    s.reset_throws = true;
    b.held.release();
    s.run();
    REQUIRE(c.held);
    CHECK(c.held->number == 2);
    s.reset_throws = false;
    s.resets_well = false;
    c.held.release();
    s.run();
    CHECK(s.alive == 0);
    CHECK(p.size() == 0);
    CHECK(s.reported.size() == 1); // what was thrown
}

TEST_CASE("recycling may be a coroutine where making is none") {
    server s;
    pool p(s.io, s.with_reset(), [&] { return std::make_unique<session>(++s.made, s.alive); });
    auto a = p.try_acquire();
    REQUIRE(a);
    a.release();
    s.run();
    CHECK(s.resets == 1);
    CHECK(p.idle() == 1);
    s.resets_well = false;
    p.try_acquire().release();
    s.run();
    CHECK(s.alive == 0);
}

TEST_CASE("an object whose making no executor takes fails the first in line") {
    asio::io_context io;
    test::refusing_executor const executor(io);
    int alive = 0;
    auto make = [&]() -> asio::awaitable<std::unique_ptr<session>> {
        co_return std::make_unique<session>(1, alive);
    };
    pool p(asio::any_io_executor(executor), options{}.max_size(1), make);
    asking first, second;
    executor.refuse_one_after(0);
    first.ask(p);
    second.ask(p);
    io.poll();
    CHECK_FALSE(executor.is_to_refuse());
    REQUIRE(first.done);
    CHECK(first.failure == error::exception_thrown);
    CHECK(second.held);
    CHECK(p.size() == 1);
}

TEST_CASE("an object whose recycling no executor takes is replaced") {
    int alive = 0, made = 0; // of what the context may keep
    asio::io_context io;
    test::refusing_executor const executor(io);
    auto make = [&] { return std::make_unique<session>(++made, alive); };
    auto reset = [](session&) -> asio::awaitable<bool> { co_return true; };
    pool p(asio::any_io_executor(executor), options{}.max_size(1).recycle(reset), make);
    auto held = p.try_acquire();
    asking next;
    next.ask(p);
    executor.refuse_one_after(0);
    held.release();
    CHECK_FALSE(executor.is_to_refuse());
    io.restart();
    io.poll();
    REQUIRE(next.held);
    CHECK(next.held->number == 2);
    CHECK(p.size() == 1); // a strand may keep what it could not run, as long as there is a context
}

TEST_CASE("the least number is begun at the start") {
    server s;
    auto p = s.make_pool(options{}.max_size(4).min_size(2));
    CHECK(p.size() == 2);
    CHECK(s.made == 0);
    s.run();
    CHECK(p.idle() == 2);
    CHECK(s.made == 2);
}

TEST_CASE("closing cancels what is made and recycled") {
    server s;
    asking a, b;
    auto p = s.make_pool(s.with_reset());
    a.ask(p);
    s.run();
    auto no_reset = s.resetting.try_acquire(100);
    auto silence = s.making.try_acquire(100);
    a.held.release();
    b.ask(p);
    s.run();
    p.close();
    s.run();
    CHECK(b.failure == error::closed);
    CHECK(s.making.waiting() == 0);
    CHECK(s.resetting.waiting() == 0);
    CHECK(s.alive == 0);
    CHECK(p.size() == 0);
    CHECK(s.reported.empty());
}

TEST_CASE("what is begun while the pool closes is cancelled too") {
    asio::io_context io;
    int cancelled = 0;
    auto never = [&]() -> asio::awaitable<std::unique_ptr<session>> {
        asio::steady_timer timer(io, asio::steady_timer::time_point::max());
        tidegate::error_code ec;
        co_await timer.async_wait(asio::redirect_error(asio::deferred, ec));
        ++cancelled;
        throw boost::system::system_error(ec);
    };
    tidegate::detail::side_crew crew(io.get_executor());
    crew.cancel_all();
    bool ended = false;
    crew.start(never(),
               [&](std::exception_ptr e, std::unique_ptr<session>) { ended = e != nullptr; });
    io.run();
    CHECK(cancelled == 1);
    CHECK(ended);
}

TEST_CASE("a recycle that throws before it returns its awaitable is told of, too") {
    asio::io_context io;
    int alive = 0;
    int told = 0;
    auto const settings =
        options()
            .max_size(1)
            .recycle([](session&) -> asio::awaitable<bool> { throw std::domain_error("recycle"); })
            .on_exception([&](std::exception_ptr) { ++told; });
    pool sessions(io, settings, [&] { return std::make_unique<session>(1, alive); });
    sessions.try_acquire().release();
    io.poll();
    CHECK(told == 1);
    CHECK(alive == 0);
    CHECK(sessions.size() == 0);
}

TEST_CASE("the context may go while objects are made and recycled, and the pool after it") {
    int alive = 0;
    std::optional<pool> p;
    {
        auto io = std::make_unique<asio::io_context>();
        tidegate::semaphore nobody(*io, 1);
        auto const all = nobody.try_acquire();
        auto make = [&]() -> asio::awaitable<std::unique_ptr<session>> {
            if (alive > 0) auto const mine = co_await nobody.acquire();
            co_return std::make_unique<session>(1, alive);
        };
        auto settings = options{}.max_size(2).recycle([&](session&) -> asio::awaitable<bool> {
            auto const mine = co_await nobody.acquire();
            co_return true;
        });
        p.emplace(*io, settings, make);
        asking a, b;
        a.ask(*p);
        io->poll();
        a.held.release();
        b.ask(*p);
        io->restart();
        io->poll();
        CHECK_FALSE(b.done);
        io.reset();
    }
    p.reset();
    CHECK(alive == 0);
}

TEST_CASE("limits for what is no coroutine are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    server s;
    CHECK_THROWS_WITH(pool(s.io, options{}.max_size(1).create_timeout(1s),
                           [&] { return std::make_unique<session>(1, s.alive); }),
                      ContainsSubstring("object_pool create_timeout needs a factory that"));
    CHECK_THROWS_WITH(s.make_pool(options{}.max_size(1).recycle_timeout(1s)),
                      ContainsSubstring("object_pool recycle_timeout needs a recycle that"));
    CHECK_THROWS_WITH(options{}.wait_timeout(0s), ContainsSubstring("object_pool wait_timeout"));
    CHECK_THROWS_WITH(options{}.create_timeout(-1s), ContainsSubstring("object_pool create_time"));
}

TEST_CASE("random failures, cancels and deadlines lose no place and no caller", "[stress]") {
    std::uint64_t const seed = GENERATE(from_range(test::seeds()));
    INFO("seed " << seed);
    test::random random(seed);
    server s;
    {
        auto p = s.make_pool(s.with_reset().max_size(3).create_timeout(5s).recycle_timeout(2s));
        std::vector<std::unique_ptr<asking>> callers;
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            switch (random() % 8) {
            case 0:
            case 1:
                if (callers.size() < 12) {
                    callers.push_back(std::make_unique<asking>());
                    callers.back()->ask(p);
                }
                break;
            case 2:
            case 3:
                if (!callers.empty()) callers[random() % callers.size()]->held.release();
                break;
            case 4:
                if (!callers.empty())
                    callers[random() % callers.size()]->signal.emit(asio::cancellation_type::all);
                break;
            case 5:
                s.refuses = random() % 4 == 0;
                s.resets_well = random() % 4 != 0;
                s.reset_throws = random() % 8 == 0;
                break;
            case 6: test_clock::advance(std::chrono::milliseconds(random() % 800)); break;
            default: s.run();
            }
            if (p.size() > 3 || s.alive > 3) FAIL("more objects than the bound");
            std::erase_if(callers, [](auto const& c) { return c->done && !c->held; });
        }
        s.refuses = s.reset_throws = false;
        s.resets_well = true;
        while (!callers.empty()) {
            std::size_t const before = callers.size();
            s.run();
            std::erase_if(callers, [](auto const& c) {
                c->held.release();
                return c->done;
            });
            s.run();
            REQUIRE(callers.size() < before);
        }
        s.run(); // what came back last is recycled
        CHECK(p.waiting() == 0);
        CHECK(p.size() == p.idle());
    }
    s.run();
    CHECK(s.alive == 0);
    CHECK(s.io.stopped());
}

TEST_CASE("threads share objects that coroutines make and recycle", "[stress]") {
    asio::io_context io;
    std::atomic<int> alive{0}, turns{0}, served{0}, wrong{0};
    struct shared {
        explicit shared(std::atomic<int>& a) : alive(a) { ++alive; }
        ~shared() { --alive; }
        std::atomic<int>& alive;
        std::atomic<int> users{0};
    };
    auto reset = [&](shared&) -> asio::awaitable<bool> { co_return ++turns % 5 != 0; };
    auto make = [&]() -> asio::awaitable<std::unique_ptr<shared>> {
        if (++turns % 7 == 0) throw std::domain_error("factory");
        co_return std::make_unique<shared>(alive);
    };
    {
        tidegate::object_pool<shared> p(
            io, tidegate::object_pool_options<shared>{}.max_size(3).recycle(reset), make);
        auto use = [&]() -> asio::awaitable<void> {
            for (int i = 0; i < 300; ++i) {
                try {
                    auto const held = co_await p.acquire();
                    if (++held->users != 1 || alive > 3) ++wrong;
                    --held->users;
                } catch (boost::system::system_error const& e) {
                    if (e.code() != error::exception_thrown) ++wrong;
                }
                ++served;
            }
        };
        for (int i = 0; i < 6; ++i) asio::co_spawn(asio::make_strand(io), use(), asio::detached);
        std::vector<std::jthread> threads;
        for (int i = 0; i < 3; ++i) threads.emplace_back([&] { io.run(); });
        threads.clear();
        CHECK(p.size() == p.idle());
    }
    CHECK(served == 6 * 300);
    CHECK(wrong == 0);
    CHECK(alive == 0);
}
