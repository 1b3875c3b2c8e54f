// SPDX-License-Identifier: BSL-1.0
// Every promised completion token, on an operation that is ready and on one that waits.
#include <tidegate/semaphore.hpp>
#include <tidegate/testing/tracking_executor.hpp>

#include "support/initiating.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/append.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/bind_immediate_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/consign.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/promise.hpp>
#include <boost/asio/experimental/use_promise.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#if BOOST_VERSION >= 108600
#include <boost/asio/cancel_after.hpp>
#endif
#if BOOST_VERSION >= 108800 || defined(__clang__)
#include <boost/asio/experimental/coro.hpp>
#define TIDEGATE_TEST_CORO 1
#endif

namespace asio = boost::asio;
using tidegate::error_code;
using tidegate::semaphore;
using permit = semaphore::permit;
using namespace std::chrono_literals;

namespace {

// Runs `use(semaphore)` with a permit there, and with one that is given back only after the
// operation has begun to wait. `use` starts an acquisition; `got` says if it has its permit.
template <class Use, class Got>
void check(Use use, Got got) {
    for (bool const must_wait : {false, true}) {
        INFO((must_wait ? "waiting" : "ready"));
        asio::io_context io;
        semaphore s(io, 1);
        permit held = must_wait ? s.try_acquire() : permit();
        use(io, s);
        io.poll();
        if (must_wait) {
            CHECK(s.waiting() == 1);
            CHECK_FALSE(got());
            held.release();
            io.restart();
            io.poll();
        }
        CHECK(got());
        CHECK(io.stopped());
    }
}

// The same for coroutines: `body` awaits one permit and returns it.
template <class Body>
void check_coroutine(Body body) {
    bool done = false;
    check(
        [&](asio::io_context& io, semaphore& s) {
            done = false;
            asio::co_spawn(io, body(s), [&](std::exception_ptr e, bool got) {
                CHECK_FALSE(e);
                done = got;
            });
        },
        [&] { return done; });
}

} // namespace

TEST_CASE("a callback gets the permit") {
    permit got;
    check(
        [&](asio::io_context&, semaphore& s) {
            got = {};
            s.async_acquire([&](error_code ec, permit p) {
                CHECK_FALSE(ec);
                got = std::move(p);
            });
        },
        [&] { return got.count() == 1; });
    got.release();
}

TEST_CASE("use_future gets the permit") {
    std::future<permit> future;
    bool taken = false;
    check(
        [&](asio::io_context&, semaphore& s) {
            taken = false;
            future = s.async_acquire(asio::use_future);
        },
        [&] {
            if (!taken && future.wait_for(0s) == std::future_status::ready) {
                taken = future.get().count() == 1;
            }
            return taken;
        });
}

TEST_CASE("deferred, use_awaitable, as_tuple and redirect_error work in coroutines") {
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto p = co_await s.async_acquire();
        co_return p.count() == 1;
    });
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto p = co_await s.async_acquire(asio::use_awaitable);
        co_return p.count() == 1;
    });
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto result = co_await s.async_acquire(asio::as_tuple(asio::deferred));
        co_return !std::get<0>(result) && std::get<1>(result).count() == 1;
    });
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        error_code ec = asio::error::eof;
        auto p = co_await s.async_acquire(asio::redirect_error(asio::deferred, ec));
        co_return !ec && p.count() == 1;
    });
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto p = co_await s.acquire();
        co_return p.count() == 1;
    });
}

TEST_CASE("append and consign pass through") {
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto result = co_await s.async_acquire(asio::append(asio::as_tuple(asio::deferred), 7));
        co_return std::get<1>(result).count() == 1 && std::get<2>(result) == 7;
    });
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto const kept = std::make_shared<int>(1);
        auto p = co_await s.async_acquire(asio::consign(asio::deferred, kept));
        co_return p.count() == 1;
    });
}

TEST_CASE("use_promise gets the permit") {
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        auto promise = s.async_acquire(asio::experimental::use_promise);
        auto p = co_await std::move(promise)(asio::deferred);
        co_return p.count() == 1;
    });
}

TEST_CASE("awaitable operators combine an acquisition with others") {
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        using namespace asio::experimental::awaitable_operators;
        asio::steady_timer timer(co_await asio::this_coro::executor, 1h);
        auto result = co_await (s.async_acquire(asio::use_awaitable) ||
                                timer.async_wait(asio::use_awaitable));
        co_return result.index() == 0;
    });
    check_coroutine([](semaphore& s) -> asio::awaitable<bool> {
        using namespace asio::experimental::awaitable_operators;
        auto executor = co_await asio::this_coro::executor;
        auto p = co_await (s.async_acquire(asio::use_awaitable) &&
                           asio::post(executor, asio::use_awaitable));
        co_return p.count() == 1;
    });
}

TEST_CASE("the loser of an awaitable operator leaves the line") {
    asio::io_context io;
    semaphore s(io, 1);
    auto held = s.try_acquire();
    auto race = [&]() -> asio::awaitable<std::size_t> {
        using namespace asio::experimental::awaitable_operators;
        asio::steady_timer timer(co_await asio::this_coro::executor, 0s);
        auto result = co_await (s.async_acquire(asio::use_awaitable) ||
                                timer.async_wait(asio::use_awaitable));
        co_return result.index();
    };
    std::size_t winner = 0;
    asio::co_spawn(io, race(), [&](std::exception_ptr, std::size_t i) { winner = i; });
    io.run();
    CHECK(winner == 1);
    CHECK(s.waiting() == 0);
}

TEST_CASE("any_completion_handler and bound handlers get the permit") {
    permit got;
    auto const store = [&](error_code ec, permit p) {
        CHECK_FALSE(ec);
        got = std::move(p);
    };
    check(
        [&](asio::io_context&, semaphore& s) {
            got = {};
            s.async_acquire(asio::any_completion_handler<void(error_code, permit)>(store));
        },
        [&] { return got.count() == 1; });
    asio::cancellation_signal signal;
    check(
        [&](asio::io_context& io, semaphore& s) {
            got = {};
            s.async_acquire(asio::bind_cancellation_slot(
                signal.slot(),
                asio::bind_executor(io.get_executor(),
                                    asio::bind_allocator(std::allocator<void>(), store))));
        },
        [&] { return got.count() == 1; });
    got.release();
}

TEST_CASE("an immediate executor is not used: a handler may go on with the same semaphore") {
    using tracking = tidegate::testing::tracking_executor<asio::io_context::executor_type>;
    for (bool const must_wait : {false, true}) {
        INFO((must_wait ? "waiting" : "ready"));
        asio::io_context io;
        tracking const home(io.get_executor(), 1);
        tidegate::basic_semaphore<std::chrono::steady_clock, tracking> s(home, 1);
        using track_permit = decltype(s)::permit;
        track_permit held = must_wait ? s.try_acquire() : track_permit();
        int first = 0, second = 0;
        auto const handler = [&](int& times, auto go_on) {
            // Runs what is dispatched to it at once, inside the call.
            return asio::bind_immediate_executor(asio::system_executor(),
                                                 [&times, go_on](error_code ec, track_permit p) {
                                                     CHECK_FALSE(test::initiating());
                                                     CHECK(tracking::current() == 1);
                                                     CHECK_FALSE(ec);
                                                     CHECK(p.count() == 1);
                                                     ++times;
                                                     p.release();
                                                     go_on();
                                                 });
        };
        auto const acquire_again = [&] {
            test::initiate([&] { s.async_acquire(handler(second, [] {})); });
            CHECK(second == 0);
            CHECK(s.available() == 0); // granted already: no lock is held here
        };
        test::initiate([&] { s.async_acquire(handler(first, acquire_again)); });
        CHECK(first == 0);
        held.release();
        CHECK(first == 0);
        io.run();
        CHECK(first == 1);
        CHECK(second == 1);
        CHECK(s.available() == 1);
    }
}

TEST_CASE("detached drops the permit, which comes back") {
    asio::io_context io;
    semaphore s(io, 1);
    s.async_acquire(asio::detached);
    CHECK(s.available() == 0);
    io.run();
    CHECK(s.available() == 1);
}

#if BOOST_VERSION >= 108600
TEST_CASE("cancel_after cancels the wait and reports it") {
    asio::io_context io;
    semaphore s(io, 1);
    auto held = s.try_acquire();
    error_code result;
    s.async_acquire(asio::cancel_after(1ns, [&](error_code ec, permit) { result = ec; }));
    io.run();
    CHECK(result == asio::error::operation_aborted);
    CHECK(s.waiting() == 0);
}
#endif

#if defined(TIDEGATE_TEST_CORO)
namespace {

// A pointer: clang 19 finds the promise's constructor ambiguous with the reference.
asio::experimental::coro<void, bool> acquire_in_coro(asio::any_io_executor, semaphore* s) {
    auto p = co_await s->async_acquire(asio::deferred);
    co_return p.count() == 1;
}

} // namespace

TEST_CASE("experimental::coro gets the permit") {
    for (bool const must_wait : {false, true}) {
        asio::io_context io;
        semaphore s(io, 1);
        permit held = must_wait ? s.try_acquire() : permit();
        bool got = false;
        auto coro = acquire_in_coro(io.get_executor(), &s);
        coro.async_resume([&](std::exception_ptr e, bool value) {
            CHECK_FALSE(e);
            got = value;
        });
        io.poll();
        CHECK(got == !must_wait);
        held.release();
        io.restart();
        io.poll();
        CHECK(got);
    }
}
#endif
