// SPDX-License-Identifier: BSL-1.0
// Policies on an io_context that several threads run, with real time: for the sanitizers.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/single_flight.hpp>
#include <tidegate/timeout.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

TEST_CASE("deadlines race results on several threads, and each call completes once") {
    asio::io_context io;
    tidegate::semaphore room(io, 8);
    tidegate::rate_limiter rate(io, tidegate::rate_limiter_options().rate(100'000, 1s));
    tidegate::circuit_breaker fuse(
        tidegate::circuit_breaker_options().consecutive_failures(50).open_duration(1ms));
    auto const budget = std::make_shared<tidegate::retry_budget>(0.5, 100, 1000);
    tidegate::policy const guarded{
        tidegate::timeout{2ms},
        tidegate::retry{
            tidegate::retry_options().max_attempts(2).base(100us).idempotent(true).budget(budget)},
        fuse,
        rate,
        tidegate::hedge{tidegate::hedge_options().delay(300us).idempotent(true).budget(budget)},
        room};

    constexpr int calls = 2000;
    std::atomic<int> completions{0}, succeeded{0}, running{0};
    std::atomic<unsigned> number{0};
    auto op = [&]() -> asio::awaitable<int> {
        struct counted {
            std::atomic<int>& n;
            explicit counted(std::atomic<int>& of) : n(of) { ++n; }
            ~counted() { --n; }
        } const here(running);
        unsigned const n = number++;
        asio::steady_timer timer(co_await asio::this_coro::executor, (n % 32) * 100us);
        co_await timer.async_wait(asio::deferred);
        if (n % 11 == 0) throw boost::system::system_error(asio::error::connection_refused);
        co_return 1;
    };
    for (int i = 0; i < calls; ++i) {
        auto const strand = asio::make_strand(io);
        auto const signal = std::make_shared<asio::cancellation_signal>();
        auto done = [&, signal](std::exception_ptr thrown, int) {
            ++completions;
            if (!thrown) ++succeeded;
        };
        // Half of them where anything may run anywhere, half on a strand.
        asio::any_io_executor const where =
            i % 2 ? asio::any_io_executor(strand) : asio::any_io_executor(io.get_executor());
        if (i % 2) {
            asio::co_spawn(where, guarded(op), asio::bind_cancellation_slot(signal->slot(), done));
            if (i % 7 == 0) {
                asio::post(strand, [signal] { signal->emit(asio::cancellation_type::terminal); });
            }
        } else {
            asio::co_spawn(where, guarded(op), done);
        }
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) threads.emplace_back([&] { io.run(); });
    for (auto& thread : threads) thread.join();
    CHECK(completions == calls);
    CHECK(succeeded > 0);
    CHECK(running == 0);
    CHECK(room.available() == 8);
    CHECK(room.waiting() == 0);
}

TEST_CASE("a timeout without anything else needs no strand of its caller's") {
    asio::io_context io;
    tidegate::policy const guarded{tidegate::timeout{200us}};
    constexpr int calls = 2000;
    std::atomic<int> completions{0}, late{0};
    std::atomic<unsigned> waits{0}, number{0};
    // The alarm rings while the operation begins, waits, goes on and ends. One in eight waits for
    // it.
    auto with_token = [&](auto token) {
        auto wait = [&](auto handler) {
            unsigned const n = waits++ % 8;
            auto timer = std::make_shared<asio::steady_timer>(io, n == 7 ? 1h : n * 50us);
            auto slot = asio::get_associated_cancellation_slot(handler);
            auto done = [timer, h = std::move(handler)](tidegate::error_code ec) mutable {
                std::move(h)(ec);
            };
            timer->async_wait(asio::bind_cancellation_slot(slot, std::move(done)));
        };
        return asio::async_initiate<decltype(token), void(tidegate::error_code)>(wait, token);
    };
    auto several = [&]() -> asio::awaitable<void> {
        asio::steady_timer timer(co_await asio::this_coro::executor);
        for (unsigned n = 0; n < 4; ++n) {
            timer.expires_after((number++ % 8) * 20us);
            co_await timer.async_wait(asio::deferred);
        }
    };
    auto done = [&](std::exception_ptr thrown) {
        ++completions;
        late += thrown != nullptr;
    };
    for (int i = 0; i < calls; ++i) {
        if (i % 2) asio::co_spawn(io, guarded(several), done);
        else asio::co_spawn(io, guarded(with_token), done);
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) threads.emplace_back([&] { io.run(); });
    for (auto& thread : threads) thread.join();
    CHECK(completions == calls);
    CHECK(late >= calls / 2 / 8);
}

TEST_CASE("a timeout in a load rings where the load runs") {
    asio::io_context io;
    tidegate::policy const guarded{tidegate::timeout{200us}};
    tidegate::single_flight<int, int> flights(io);
    constexpr int loads = 2000;
    std::atomic<int> completions{0}, late{0};
    // The alarm rings while the operation begins, waits, goes on and ends. One in eight waits for
    // it.
    auto load = [&](int const& key) -> asio::awaitable<int> {
        auto several = [&]() -> asio::awaitable<int> {
            asio::steady_timer timer(co_await asio::this_coro::executor);
            for (int n = 0; n < 4; ++n) {
                bool const waits = key % 8 == 7 && n == 3;
                timer.expires_after(waits ? 1h : (key + n) % 8 * 20us);
                co_await timer.async_wait(asio::deferred);
            }
            co_return key;
        };
        co_return co_await guarded(several);
    };
    for (int key = 0; key < loads; ++key) {
        flights.async_run(key, load, [&](std::exception_ptr thrown, auto const&) {
            ++completions;
            late += thrown != nullptr;
        });
    }
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
    }
    CHECK(completions == loads);
    CHECK(late >= loads / 8);
}

TEST_CASE("a strand that is held up holds up nobody's deadlines, also on a thread pool") {
    asio::thread_pool pool(2);
    auto const strand = asio::make_strand(pool);
    tidegate::policy const guarded{tidegate::timeout{1ms}};
    auto at_once = []() -> asio::awaitable<void> { co_return; };
    auto never = []() -> asio::awaitable<void> {
        asio::steady_timer timer(co_await asio::this_coro::executor,
                                 asio::steady_timer::time_point::max());
        co_await timer.async_wait(asio::deferred);
    };
    // The pool's first deadline. Begun on the strand: ThreadSanitizer does not know the fences with
    // which Asio counts the references of a strand that is passed between threads.
    std::latch first(1);
    asio::post(strand, [&] {
        asio::co_spawn(strand, guarded(at_once), [&](std::exception_ptr) { first.count_down(); });
    });
    first.wait();
    std::latch held(1);
    asio::post(strand, [&] { held.wait(); });
    auto late = asio::co_spawn(pool, guarded(never), asio::use_future);
    CHECK(late.wait_for(10s) == std::future_status::ready);
    held.count_down();
    CHECK_THROWS_AS(late.get(), boost::system::system_error);
    pool.join();
}
