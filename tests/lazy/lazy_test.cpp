// SPDX-License-Identifier: BSL-1.0
// One load, whoever asks and however they leave.
#include "support/stress.hpp"

#include <tidegate/lazy.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/manual_timer.hpp>
#include <tidegate/worker_pool.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <atomic>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace asio = boost::asio;
using tidegate::error;
using tidegate::error_code;
using tidegate::lazy;
using tidegate::worker_pool;
using namespace std::chrono_literals;

namespace {

tidegate::worker_pool_options threads(std::size_t n) {
    return tidegate::worker_pool_options{}.threads(n);
}

error_code code_of(std::exception_ptr e) {
    if (!e) return {};
    try {
        std::rethrow_exception(e);
    } catch (boost::system::system_error const& s) {
        return s.code();
    } catch (...) {
        return asio::error::fault;
    }
}

} // namespace

TEST_CASE("ten thousand callers on several threads cause one load") {
    asio::io_context io;
    worker_pool pool(io, threads(2));
    std::atomic<int> loads{0}, right{0};
    lazy<std::string> value(pool, [&] {
        ++loads;
        return std::string("loaded");
    });
    CHECK_FALSE(value.get_if_ready());
    auto ask = [&]() -> asio::awaitable<void> {
        auto const got = co_await value.get();
        if (*got == "loaded") ++right;
    };
    for (int i = 0; i < 10000; ++i) asio::co_spawn(io, ask(), asio::detached);
    std::vector<std::jthread> loops;
    for (int i = 0; i < 3; ++i) loops.emplace_back([&] { io.run(); });
    io.run();
    loops.clear();
    CHECK(loads == 1);
    CHECK(right == 10000);
    CHECK(*value.get_if_ready() == "loaded");
}

TEST_CASE("a load that throws fails its callers and is not remembered") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    int loads = 0;
    lazy<int> value(pool, [&]() -> int {
        if (++loads == 1) throw std::domain_error("first time");
        return loads;
    });
    std::exception_ptr first;
    value.async_get([&](std::exception_ptr e, std::shared_ptr<int>) { first = e; });
    io.run();
    CHECK_THROWS_AS(std::rethrow_exception(first), std::domain_error);
    int got = 0;
    value.async_get([&](std::exception_ptr, std::shared_ptr<int> v) { got = *v; });
    io.restart();
    io.run();
    CHECK(got == 2);
}

TEST_CASE("a caller that is cancelled leaves alone") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    std::promise<void> go;
    lazy<int> value(pool, [&] {
        go.get_future().wait();
        return 5;
    });
    asio::cancellation_signal signal;
    std::exception_ptr left;
    int got = 0;
    value.async_get(asio::bind_cancellation_slot(
        signal.slot(), [&](std::exception_ptr e, std::shared_ptr<int>) { left = e; }));
    value.async_get([&](std::exception_ptr, std::shared_ptr<int> v) { got = *v; });
    signal.emit(asio::cancellation_type::total);
    io.poll();
    CHECK(code_of(left) == asio::error::operation_aborted);
    go.set_value();
    io.restart();
    io.run();
    CHECK(got == 5);
}

TEST_CASE("a loader may return a shared pointer, but not a null one") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    auto const made = std::make_shared<int>(3);
    lazy<int> shares(pool, [made] { return made; });
    lazy<int> null(pool, [] { return std::shared_ptr<int>(); });
    std::shared_ptr<int> got;
    std::exception_ptr failure;
    shares.async_get([&](std::exception_ptr, std::shared_ptr<int> v) { got = v; });
    null.async_get([&](std::exception_ptr e, std::shared_ptr<int>) { failure = e; });
    io.run();
    CHECK(got == made);
    CHECK_THROWS_AS(std::rethrow_exception(failure), std::logic_error);
}

TEST_CASE("closing the pool, or destroying the value, ends those who wait") {
    for (bool const close_pool : {true, false}) {
        std::promise<void> go; // before the pool, whose thread uses it
        std::latch busy(1);
        asio::io_context io;
        worker_pool pool(io, threads(1));
        REQUIRE(pool.post([&] {
            busy.count_down();
            go.get_future().wait();
        }));
        busy.wait();
        auto value = std::make_unique<lazy<int>>(pool, [] { return 1; });
        std::exception_ptr failure;
        value->async_get([&](std::exception_ptr e, std::shared_ptr<int>) { failure = e; });
        if (close_pool) pool.close();
        else value.reset();
        go.set_value();
        io.run();
        CHECK(code_of(failure) == error::closed);
    }
}

namespace {

using clock_type = tidegate::testing::manual_clock;
using timed_lazy = tidegate::basic_lazy<int, clock_type>;

// What one call came to.
struct answer {
    bool done = false;
    int value = 0;
    error_code why;
};

template <class Lazy>
std::shared_ptr<answer> ask(Lazy& value) {
    auto const a = std::make_shared<answer>();
    value.async_get([a](std::exception_ptr e, std::shared_ptr<int> v) {
        a->done = true;
        a->why = code_of(e);
        if (v) a->value = *v;
    });
    return a;
}

void poll(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("a value that was forgotten is loaded again") {
    asio::io_context io;
    int loads = 0;
    auto load = [&loads]() -> asio::awaitable<int> { co_return ++loads; };
    lazy<int> value(io, load);
    for (int expected = 1; expected <= 3; ++expected) {
        auto const asked = ask(value);
        poll(io);
        CHECK(asked->value == expected);
        CHECK(*value.get_if_ready() == expected);
        value.reset();
        CHECK_FALSE(value.get_if_ready());
    }
}

TEST_CASE("a value that its caller forgets goes at once, though the caller has not returned") {
    asio::io_context io;
    auto load = []() -> asio::awaitable<int> { co_return 1; };
    lazy<int> value(io, load);
    bool gone = false;
    auto work = [&]() -> asio::awaitable<void> {
        auto got = co_await value.get();
        std::weak_ptr<int> const seen = got;
        got.reset();
        value.reset();
        gone = seen.expired();
    };
    SECTION("a handler") {
        value.async_get([&](std::exception_ptr, std::shared_ptr<int> got) {
            std::weak_ptr<int> const seen = got;
            got.reset();
            value.reset();
            gone = seen.expired();
        });
    }
    SECTION("a coroutine") { asio::co_spawn(io, work(), asio::detached); }
    poll(io);
    CHECK(gone);
}

TEST_CASE("an earlier load that does not listen holds no later value") {
    asio::io_context io;
    tidegate::semaphore gate(io, 1);
    auto closed = gate.try_acquire();
    int loads = 0;
    auto load = [&]() -> asio::awaitable<int> {
        int const mine = ++loads;
        if (mine > 1) co_return mine;
        co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
        auto const permit = co_await gate.acquire();
        co_return mine;
    };
    timed_lazy value(io, load, tidegate::lazy_options().load_timeout(1s));
    auto const late = ask(value);
    poll(io);
    clock_type::advance(1s);
    poll(io);
    CHECK(late->why == error::deadline_exceeded);
    auto const again = ask(value);
    poll(io);
    CHECK(again->value == 2);
    std::weak_ptr<int> const seen = value.get_if_ready();
    CHECK_FALSE(seen.expired());
    value.reset();
    CHECK(seen.expired());
    closed.release();
    poll(io);
    CHECK_FALSE(value.get_if_ready());
}

TEST_CASE("a value that is served while it is loaded again is always there", "[stress]") {
    asio::io_context io;
    int loads = 0;
    auto load = [&]() -> asio::awaitable<int> { co_return ++loads; };
    lazy<int> value(io, load, tidegate::lazy_options().serve_old_while_reloading(true));
    ask(value);
    poll(io);
    std::atomic<bool> over{false};
    std::atomic<std::size_t> looks{0}, misses{0};
    std::thread looking([&] {
        while (!over) {
            if (!value.get_if_ready()) ++misses;
            ++looks;
        }
    });
    std::size_t const count = std::min<std::size_t>(test::schedules(2'000), 50'000);
    for (std::size_t i = 0; i < count || looks < count; ++i) {
        value.async_reload([](std::exception_ptr, std::shared_ptr<int>) {});
        poll(io);
    }
    over = true;
    looking.join();
    CHECK(misses == 0);
}

namespace {

// Says when it is copied, and when a copy goes.
struct telling_executor : asio::io_context::executor_type {
    struct events {
        std::function<void()> copied, gone;
    };
    telling_executor(asio::io_context::executor_type const& e, events& t)
        : asio::io_context::executor_type(e), tell(&t) {}
    telling_executor(telling_executor const& other) noexcept
        : asio::io_context::executor_type(other), tell(other.tell) {
        if (auto const say = std::exchange(tell->copied, nullptr)) say();
    }
    telling_executor(telling_executor&& other) noexcept
        : asio::io_context::executor_type(other), tell(other.tell) {}
    telling_executor& operator=(telling_executor const&) = default;
    ~telling_executor() {
        if (tell->gone) tell->gone();
    }
    events* tell;
};

} // namespace

TEST_CASE("two who ask at once for the first time may look at the value as they clean up") {
    asio::io_context io;
    telling_executor::events events;
    int looks = 0;
    auto load = []() -> asio::awaitable<int> { co_return 7; };
    lazy<int> value(io, load,
                    tidegate::lazy_options().load_on(telling_executor(io.get_executor(), events)));
    std::shared_ptr<answer> first;
    events.copied = [&] { // half-way through what the second one makes
        first = ask(value);
        events.gone = [&] {
            ++looks;
            value.get_if_ready();
        };
    };
    auto const second = ask(value);
    events.gone = nullptr;
    poll(io);
    CHECK(looks > 0);
    CHECK(first->value == 7);
    CHECK(second->value == 7);
}

#if defined(__GLIBC__)
TEST_CASE("what a load needs is freed after it") {
    if (test::sanitized) SKIP("sanitizers have a heap of their own");
    asio::io_context io;
    auto load = []() -> asio::awaitable<int> { co_return 1; };
    constexpr std::size_t count = 1000;
    std::vector<std::unique_ptr<lazy<int>>> values(count);
    ask(*std::make_unique<lazy<int>>(io, load)); // Asio's own memory is there from now on
    poll(io);
    std::size_t const before = ::mallinfo2().uordblks;
    for (auto& one : values) {
        one = std::make_unique<lazy<int>>(io, load);
        ask(*one);
        poll(io);
    }
    CHECK((::mallinfo2().uordblks - before) / count <= 400); // with the value itself
}

TEST_CASE("what a load needs is freed after one that nobody wants any more, too") {
    if (test::sanitized) SKIP("sanitizers have a heap of their own");
    asio::io_context io;
    tidegate::semaphore gate(io, 1);
    auto const closed = gate.try_acquire();
    auto load = [&]() -> asio::awaitable<int> {
        auto const permit = co_await gate.acquire();
        co_return 1;
    };
    enum class ends { by_its_caller, by_cancel, in_time };
    auto const how = GENERATE(ends::by_its_caller, ends::by_cancel, ends::in_time);
    auto const load_in_vain = [&](timed_lazy& value) {
        asio::cancellation_signal signal;
        value.async_get(asio::bind_cancellation_slot(
            signal.slot(), [](std::exception_ptr, std::shared_ptr<int>) {}));
        poll(io);
        if (how == ends::by_its_caller) signal.emit(asio::cancellation_type::all);
        else if (how == ends::by_cancel) value.cancel();
        else clock_type::advance(1s);
        poll(io);
    };
    auto const options = tidegate::lazy_options().load_timeout(1s);
    constexpr std::size_t count = 1000;
    std::vector<std::unique_ptr<timed_lazy>> values(count);
    for (auto& one : values) one = std::make_unique<timed_lazy>(io, load, options);
    load_in_vain(*std::make_unique<timed_lazy>(io, load, options));
    std::size_t const before = ::mallinfo2().uordblks;
    for (auto const& one : values) load_in_vain(*one);
    CHECK(::mallinfo2().uordblks <= before + count * 50);
}
#endif

TEST_CASE("a failure is remembered for its time, and no longer") {
    asio::io_context io;
    int loads = 0;
    auto load = [&loads]() -> asio::awaitable<int> {
        if (++loads == 1) throw boost::system::system_error(asio::error::fault);
        co_return loads;
    };
    timed_lazy value(io, load, tidegate::lazy_options().keep_failure(1s));
    for (int i = 0; i < 3; ++i) {
        auto const failed = ask(value);
        poll(io);
        CHECK(failed->why == asio::error::fault);
    }
    CHECK(loads == 1);
    clock_type::advance(1s);
    auto const again = ask(value);
    poll(io);
    CHECK(again->value == 2);
}

TEST_CASE("who forgets a value while it is loaded has it loaded anew, for those who ask then") {
    asio::io_context io;
    tidegate::semaphore gate(io, 1);
    auto closed = gate.try_acquire();
    int loads = 0;
    auto load = [&]() -> asio::awaitable<int> {
        int const mine = ++loads;
        auto const permit = co_await gate.acquire();
        co_return mine;
    };
    lazy<int> value(io, load);
    auto const before = ask(value);
    poll(io);
    value.reset();
    auto const after = ask(value);
    poll(io);
    closed.release();
    poll(io);
    CHECK(before->value == 1);
    CHECK(after->value == 2);
    CHECK(*value.get_if_ready() == 2);
}

TEST_CASE("a lazy value that was closed with no load going on keeps its value and loads no more") {
    asio::io_context io;
    auto load = []() -> asio::awaitable<int> { co_return 7; };
    lazy<int> loaded(io, load), fresh(io, load);
    ask(loaded);
    poll(io);
    loaded.close();
    fresh.close();
    CHECK(*loaded.get_if_ready() == 7);
    auto const refused = ask(fresh);
    poll(io);
    CHECK(refused->why == error::closed);
}

TEST_CASE("threads that load, forget and look get a value each, and one load at a time",
          "[stress]") {
    for (auto const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        std::size_t const count = std::min<std::size_t>(test::schedules(500), 50'000);
        for (std::size_t i = 0; i < count; ++i) {
            asio::io_context io;
            std::atomic<int> loading{0}, together{0}, loads{0};
            auto load = [&]() -> asio::awaitable<int> {
                if (++loading > 1) ++together;
                co_await asio::post(asio::deferred);
                --loading;
                co_return ++loads;
            };
            lazy<int> value(io, load);
            bool const forgets = random() % 2; // then a new load may overtake an old one
            auto act = [&](asio::io_context& mine, std::uint64_t start, int& right) {
                test::random choose(start);
                for (int n = 0; n < 10; ++n) {
                    if (forgets && choose() % 4 == 0) value.reset();
                    if (choose() % 4 == 0) value.get_if_ready();
                    value.async_get(
                        asio::bind_executor(mine.get_executor(),
                                            [&right](std::exception_ptr e, std::shared_ptr<int> v) {
                                                right += !e && *v > 0;
                                            }));
                    mine.poll();
                    mine.restart();
                }
            };
            asio::io_context a, b;
            int right_a = 0, right_b = 0;
            auto work = asio::make_work_guard(io);
            std::thread loop([&] { io.run(); });
            std::thread other([&, s = random()] {
                act(b, s, right_b);
                b.run();
            });
            act(a, random(), right_a);
            a.run();
            other.join();
            work.reset();
            loop.join();
            if (right_a + right_b != 20 || (!forgets && (loads != 1 || together != 0)))
                FAIL("schedule " << i << ": " << right_a << " " << right_b << " " << loads);
        }
    }
}
