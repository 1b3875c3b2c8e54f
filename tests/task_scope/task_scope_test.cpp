// SPDX-License-Identifier: BSL-1.0
// Nothing outlives a scope, and everything is cleaned up.
#include <tidegate/sleep.hpp>
#include <tidegate/task_scope.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/refusing_executor.hpp"
#include "support/runs_here.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::on_task_failure;
using tidegate::task_scope;
using tidegate::with_scope;

namespace {

struct scope_clock {};
using clock_type = tidegate::testing::basic_manual_clock<scope_clock>;

asio::awaitable<void> pause(std::chrono::milliseconds time) {
    return tidegate::sleep_for<clock_type>(time);
}

std::string text_of(std::exception_ptr e) {
    try {
        if (e) std::rethrow_exception(e);
        return "";
    } catch (boost::system::system_error const& s) {
        return s.code() == asio::error::operation_aborted ? "cancelled" : s.what();
    } catch (std::exception const& s) {
        return s.what();
    }
}

/// An event loop whose clock moves whenever nothing else is left to do.
class loop {
public:
    asio::io_context io{1};

    void turn() {
        io.restart();
        io.poll();
    }
    template <class Done>
    void until(Done done) {
        for (turn(); !done(); turn()) {
            auto const next = clock_type::next_expiry();
            REQUIRE(next);
            clock_type::advance(*next - clock_type::now());
        }
    }
    /// Runs `work` to its end; what it threw.
    template <class T>
    std::string run(asio::awaitable<T> work) {
        std::optional<std::string> ended;
        asio::co_spawn(
            io, std::move(work),
            asio::bind_cancellation_slot(
                signal.slot(), [&](std::exception_ptr e, auto...) { ended = text_of(e); }));
        until([&] { return ended.has_value(); });
        return *ended;
    }

    asio::cancellation_signal signal;
};

} // namespace

TEST_CASE("a join waits for all tasks, and for those that they spawned") {
    loop l;
    task_scope scope(l.io);
    int ended = 0;
    auto inner = [&]() -> asio::awaitable<void> {
        co_await pause(20ms);
        ++ended;
    };
    auto outer = [&]() -> asio::awaitable<void> {
        co_await pause(10ms);
        CHECK(scope.spawn(inner));
        ++ended;
    };
    CHECK(scope.spawn(outer));
    CHECK(scope.spawn(outer));
    CHECK(scope.size() == 2);
    CHECK(l.run(scope.join()).empty());
    CHECK(ended == 4);
    CHECK(scope.has_ended());
    CHECK_FALSE(scope.spawn(outer));
    CHECK_FALSE(scope.on_exit(outer));
    CHECK(l.run(scope.join()).empty()); // again, at once
}

TEST_CASE("a failure cancels the others, and is what the join reports") {
    loop l;
    task_scope scope(l.io);
    int cancelled = 0;
    auto fail = []() -> asio::awaitable<void> {
        co_await pause(5ms);
        throw std::runtime_error("first");
    };
    auto wait = [&]() -> asio::awaitable<void> {
        try {
            co_await pause(1h);
        } catch (...) {
            ++cancelled;
        }
        throw std::runtime_error("later");
    };
    auto plain_wait = []() -> asio::awaitable<void> { co_await pause(1h); };
    scope.spawn(wait);
    scope.spawn(fail);
    scope.spawn(plain_wait);
    CHECK(l.run(scope.join()) == "first");
    CHECK(cancelled == 1);
    CHECK(clock_type::pending() == 0);
    CHECK(l.run(scope.join()) == "first");
}

TEST_CASE("by option, the others go on") {
    loop l;
    task_scope scope(l.io, on_task_failure::keep_going);
    int ended = 0;
    auto fail = []() -> asio::awaitable<void> {
        throw std::runtime_error("first");
        co_return;
    };
    auto work = [&]() -> asio::awaitable<void> {
        co_await pause(5ms);
        ++ended;
    };
    scope.spawn(fail);
    scope.spawn(work);
    CHECK(l.run(scope.join()) == "first");
    CHECK(ended == 1);
}

TEST_CASE("clean-ups run after the last task, the last one first, and are not cancelled") {
    loop l;
    std::vector<std::string> order;
    auto note = [&](std::string text, std::chrono::milliseconds time) {
        return [&order, text, time, box = std::make_unique<int>(1)]() -> asio::awaitable<void> {
            co_await pause(time);
            order.push_back(text);
        };
    };
    auto failing = [&]() -> asio::awaitable<void> {
        co_await pause(1ms);
        throw std::runtime_error("clean-up");
    };
    SECTION("all ended well") {
        task_scope scope(l.io);
        scope.on_exit(note("a", 5ms));
        scope.spawn(note("task", 50ms));
        scope.on_exit(note("b", 10ms));
        CHECK(l.run(scope.join()).empty());
        CHECK(order == std::vector<std::string>{"task", "b", "a"});
    }
    SECTION("cancelled, with a clean-up that fails") {
        task_scope scope(l.io);
        scope.on_exit(note("a", 5ms));
        scope.on_exit(failing);
        scope.spawn(note("task", 50ms));
        l.turn();
        scope.cancel();
        CHECK_FALSE(scope.spawn(failing));
        CHECK(scope.on_exit(note("b", 1ms)));
        CHECK(l.run(scope.join()) == "clean-up");
        CHECK(order == std::vector<std::string>{"b", "a"});
    }
    SECTION("destroyed without a join") {
        {
            task_scope scope(l.io);
            scope.on_exit(note("a", 5ms));
            scope.spawn(note("task", 50ms));
            l.turn();
        }
        l.until([&] { return !order.empty(); });
        CHECK(order == std::vector<std::string>{"a"});
        CHECK(clock_type::pending() == 0);
    }
    SECTION("destroyed with nothing running") {
        {
            task_scope(l.io).on_exit(note("a", 0ms));
        }
        l.until([&] { return !order.empty(); });
        CHECK(order == std::vector<std::string>{"a"});
    }
}

TEST_CASE("cancelling a join ends the join alone") {
    loop l;
    task_scope scope(l.io);
    bool ended = false;
    auto work = [&]() -> asio::awaitable<void> {
        co_await pause(10ms);
        ended = true;
    };
    scope.spawn(work);
    asio::cancellation_signal signal;
    std::string first;
    scope.async_join(asio::bind_cancellation_slot(
        signal.slot(), [&](std::exception_ptr e) { first = text_of(e); }));
    signal.emit(asio::cancellation_type::total);
    l.turn();
    CHECK(first == "cancelled");
    CHECK(scope.size() == 1);
    CHECK(l.run(scope.join()).empty());
    CHECK(ended);
}

TEST_CASE("close takes no more tasks and lets those that run end") {
    loop l;
    task_scope scope(l.io);
    bool ended = false;
    auto work = [&]() -> asio::awaitable<void> {
        co_await pause(10ms);
        ended = true;
    };
    scope.spawn(work);
    scope.close();
    CHECK_FALSE(scope.spawn(work));
    CHECK(l.run(scope.join()).empty());
    CHECK(ended);
}

TEST_CASE("a callable that throws before there is a coroutine is a task that failed") {
    loop l;
    task_scope scope(l.io);
    auto broken = []() -> asio::awaitable<void> { throw std::runtime_error("at once"); };
    CHECK(scope.spawn(broken));
    CHECK(l.run(scope.join()) == "at once");
}

TEST_CASE("with_scope returns what its body returned, after all has ended") {
    loop l;
    int ended = 0, result = 0;
    auto body = [&](task_scope& scope) -> asio::awaitable<int> {
        auto work = [&]() -> asio::awaitable<void> {
            co_await pause(10ms);
            ++ended;
        };
        scope.spawn(work);
        scope.spawn(work);
        co_return 7;
    };
    auto call = [&]() -> asio::awaitable<void> { result = co_await with_scope(body); };
    CHECK(l.run(call()).empty());
    CHECK(result == 7);
    CHECK(ended == 2);
}

TEST_CASE("with_scope waits for its tasks also where its body returns nothing") {
    loop l;
    int ended = 0;
    bool after = false;
    auto body = [&](task_scope& scope) -> asio::awaitable<void> {
        scope.spawn([&]() -> asio::awaitable<void> {
            co_await pause(10ms);
            ++ended;
        });
        co_return;
    };
    auto call = [&]() -> asio::awaitable<void> {
        co_await with_scope(body);
        after = ended == 1;
    };
    CHECK(l.run(call()).empty());
    CHECK(after);
}

TEST_CASE("with_scope: the body's failure cancels the tasks, a task's failure the body") {
    for (bool const body_fails : {true, false}) {
        loop l;
        std::vector<std::string> log;
        auto body = [&](task_scope& scope) -> asio::awaitable<void> {
            auto clean = [&]() -> asio::awaitable<void> {
                co_await pause(1ms);
                log.push_back("closed");
            };
            scope.on_exit(clean);
            auto task = [&]() -> asio::awaitable<void> {
                co_await pause(body_fails ? 1h : 5ms);
                throw std::runtime_error("task");
            };
            scope.spawn(task);
            co_await pause(body_fails ? 5ms : 1h);
            throw std::runtime_error("body");
        };
        CHECK(l.run(with_scope(body)) == (body_fails ? "body" : "task"));
        CHECK(log == std::vector<std::string>{"closed"});
        CHECK(clock_type::pending() == 0);
    }
}

TEST_CASE("with_scope: cancelling the caller cancels everything and waits for it") {
    loop l;
    std::vector<std::string> log;
    auto body = [&](task_scope& scope) -> asio::awaitable<void> {
        auto clean = [&]() -> asio::awaitable<void> {
            co_await pause(3ms);
            log.push_back("closed");
        };
        scope.on_exit(clean);
        auto task = [&]() -> asio::awaitable<void> {
            try {
                co_await pause(1h);
            } catch (...) {
                log.push_back("cancelled");
                throw;
            }
        };
        scope.spawn(task);
        co_await pause(1h);
    };
    std::optional<std::string> ended;
    asio::co_spawn(l.io, with_scope(body),
                   asio::bind_cancellation_slot(l.signal.slot(),
                                                [&](std::exception_ptr e) { ended = text_of(e); }));
    l.turn();
    l.signal.emit(asio::cancellation_type::terminal);
    l.turn();
    CHECK_FALSE(ended);
    CHECK(log == std::vector<std::string>{"cancelled"});
    l.until([&] { return ended.has_value(); });
    CHECK(*ended == "cancelled");
    CHECK(log == std::vector<std::string>{"cancelled", "closed"});
}

TEST_CASE("with_scope: a cancellation beside the end does not replace what came of it") {
    for (int const turns : {0, 1, 2}) {
        for (bool const fails : {true, false}) {
            bool too_late = false;
            for (int steps = 0; !too_late; ++steps) {
                asio::io_context io{1};
                asio::cancellation_signal signal;
                bool decided = false;
                auto body = [&](task_scope&) -> asio::awaitable<int> {
                    for (int i = 0; i < turns; ++i) co_await asio::post(asio::deferred);
                    decided = true;
                    if (fails) throw std::runtime_error("body");
                    co_return 7;
                };
                std::optional<std::string> ended;
                int result = 0;
                auto note = [&](std::exception_ptr e, int value) {
                    ended = text_of(e);
                    result = value;
                };
                asio::co_spawn(io, with_scope(body),
                               asio::bind_cancellation_slot(signal.slot(), note));
                for (int i = 0; i < steps; ++i) io.poll_one();
                too_late = ended.has_value();
                signal.emit(asio::cancellation_type::terminal);
                io.run();
                INFO(turns << " turns, cancelled after " << steps << " steps");
                REQUIRE(ended);
                CHECK(*ended == (!decided ? "cancelled" : fails ? "body" : ""));
                CHECK(result == (decided && !fails ? 7 : 0));
            }
        }
    }
}

TEST_CASE("a context that goes takes the scope's tasks with it, whichever is destroyed first") {
    auto const alive = std::make_shared<int>(1);
    auto work = [alive]() -> asio::awaitable<void> { co_await pause(1h); };
    for (bool const scope_first : {true, false}) {
        auto io = std::make_unique<asio::io_context>(); // tasks have strands
        std::optional<task_scope> scope(std::in_place, *io);
        scope->spawn(work);
        scope->on_exit(work);
        scope->async_join([alive](std::exception_ptr) { FAIL("nobody may be called"); });
        io->poll();
        if (scope_first) scope.reset();
        io.reset();
        if (scope) {
            CHECK_FALSE(scope->spawn(work));
            scope->cancel();
        }
        scope.reset();
        CHECK(alive.use_count() == 2);
        CHECK(clock_type::pending() == 0);
    }
}

TEST_CASE("a task that its executor does not take is not in the scope") {
    asio::io_context io{1};
    test::refusing_executor const executor(io);
    task_scope scope{asio::any_io_executor(executor)};
    int ran = 0;
    auto work = [&]() -> asio::awaitable<void> {
        ++ran;
        co_return;
    };
    executor.refuse_all();
    CHECK_THROWS_AS(scope.spawn(work), std::bad_alloc);
    executor.refuse_none();
    CHECK(scope.spawn(work));
    std::optional<std::string> joined;
    scope.async_join([&](std::exception_ptr e) { joined = text_of(e); });
    io.poll();
    CHECK(ran == 1);
    CHECK(joined == "");
}

TEST_CASE("who joins a scope while its context goes is not called") {
    auto io = std::make_unique<asio::io_context>();
    task_scope scope(*io);
    CHECK(scope.get_executor() == asio::any_io_executor(io->get_executor()));
    scope.spawn([]() -> asio::awaitable<void> { co_await pause(1h); });
    int gone = 0;
    bool called = false;
    struct joins_again {
        task_scope* scope;
        int* gone;
        bool* called;
        joins_again(task_scope& s, int& g, bool& c) : scope(&s), gone(&g), called(&c) {}
        joins_again(joins_again&& other) noexcept
            : scope(std::exchange(other.scope, nullptr)), gone(other.gone), called(other.called) {}
        ~joins_again() {
            if (!scope) return;
            ++*gone;
            scope->async_join([c = called](std::exception_ptr) { *c = true; });
        }
        void operator()(std::exception_ptr) { *called = true; }
    };
    scope.async_join(joins_again(scope, gone, called));
    io->poll();
    io.reset();
    CHECK(gone == 1);
    CHECK_FALSE(called);
}

TEST_CASE("random schedules: all end, once, and the first failure is reported", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            loop l;
            bool const keep_going = test::below(random, 2) == 0;
            task_scope scope(l.io, keep_going ? on_task_failure::keep_going
                                              : on_task_failure::cancel_others);
            int started = 0, over = 0, cleaned = 0, at_home = 0;
            std::string first;
            auto const home = l.io.get_executor();
            auto task = [&](std::size_t time, bool fails) -> asio::awaitable<void> {
                struct count {
                    int& n;
                    int& there;
                    asio::io_context::executor_type const& here;
                    ~count() {
                        ++n;
                        there += here.running_in_this_thread();
                    }
                } const guard{over, at_home, home};
                ++started;
                co_await pause(std::chrono::milliseconds(static_cast<int>(time)));
                if (!fails) co_return;
                if (first.empty()) first = "task " + std::to_string(started);
                throw std::runtime_error(first);
            };
            auto clean = [&]() -> asio::awaitable<void> {
                CHECK(over == started);
                CHECK(home.running_in_this_thread());
                ++cleaned;
                co_return;
            };
            int spawned = 0, cleanups = 0;
            bool cancelled = false;
            for (std::size_t step = 0; step < 8; ++step) {
                switch (test::below(random, 5)) {
                case 0:
                case 1: {
                    std::size_t const time = test::below(random, 5);
                    bool const fails = test::below(random, 4) == 0;
                    spawned += scope.spawn([&, time, fails] { return task(time, fails); });
                    break;
                }
                case 2: cleanups += scope.on_exit(clean); break;
                case 3:
                    clock_type::advance(1ms);
                    l.turn();
                    break;
                case 4:
                    if (test::below(random, 4) > 0) break;
                    scope.cancel();
                    cancelled = true;
                    break;
                }
            }
            std::string const failure = l.run(scope.join());
            REQUIRE(over == started);
            REQUIRE(at_home == over);
            REQUIRE((started == spawned || cancelled || !first.empty()));
            REQUIRE(cleaned == cleanups);
            REQUIRE(failure == first);
        }
    }
}

TEST_CASE("tasks of a scope on many threads", "[stress]") {
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 200);
    asio::io_context io;
    auto work = asio::make_work_guard(io);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
    for (std::size_t round = 0; round < rounds; ++round) {
        std::atomic<int> running{0}, ended{0};
        std::atomic<bool> elsewhere{false};
        auto body = [&](task_scope& scope) -> asio::awaitable<int> {
            for (int i = 0; i < 10; ++i) {
                auto task = [&, i]() -> asio::awaitable<void> {
                    auto const here = co_await asio::this_coro::executor;
                    ++running;
                    struct leave {
                        std::atomic<int>& n;
                        std::atomic<int>& all;
                        std::atomic<bool>& away;
                        asio::any_io_executor const& executor;
                        ~leave() {
                            if (!test::runs_here(executor)) away = true;
                            --n;
                            ++all;
                        }
                    } const guard{running, ended, elsewhere, here};
                    for (int n = 0; n < i; ++n) co_await asio::post(asio::deferred);
                    if (i == 7 && round % 2) throw std::runtime_error("seven");
                    while (i == 8 && round % 2) co_await asio::post(asio::deferred);
                };
                scope.spawn(task);
            }
            co_return 1;
        };
        auto caller = [&]() -> asio::awaitable<int> {
            auto const here = co_await asio::this_coro::executor;
            struct on_exit {
                std::atomic<bool>& away;
                asio::any_io_executor const& executor;
                ~on_exit() {
                    if (!test::runs_here(executor)) away = true;
                }
            } const guard{elsewhere, here};
            co_return co_await with_scope(body);
        };
        auto const strand = asio::make_strand(io);
        auto done =
            asio::co_spawn(round % 4 < 2 ? asio::any_io_executor(strand) : io.get_executor(),
                           caller, asio::use_future);
        if (round % 2) REQUIRE_THROWS_AS(done.get(), std::runtime_error);
        else REQUIRE(done.get() == 1);
        REQUIRE(running == 0);
        REQUIRE_FALSE(elsewhere);
    }
    work.reset();
    for (auto& thread : threads) thread.join();
}
