// SPDX-License-Identifier: BSL-1.0
// Observers that come while other threads work, and hear from all of them.
#include "support.hpp"

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/semaphore.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <array>
#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::trace_event;
using namespace std::chrono_literals;

namespace {

constexpr int observers = 4;
constexpr int rounds = 2000;
constexpr std::size_t workers = 3;

struct counter final : tidegate::trace_observer {
    void on_event(tidegate::trace_record const& what) noexcept override {
        ++counts[static_cast<std::size_t>(what.event)];
    }
    std::size_t of(trace_event e) const { return counts[static_cast<std::size_t>(e)]; }
    std::array<std::atomic<std::size_t>, 64> counts{};
};

using observer_list = std::vector<std::shared_ptr<counter>>;

// Runs `work(i)` on some threads, and attaches observers meanwhile, which it returns.
template <class Primitive, class Work>
observer_list observe_while(Primitive& primitive, Work work) {
    observer_list late;
    std::latch ready(workers + 1);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < workers; ++t) {
        threads.emplace_back([&] {
            ready.arrive_and_wait();
            for (int i = 0; i < rounds; ++i) work(i);
        });
    }
    ready.arrive_and_wait();
    for (int i = 0; i < observers; ++i) {
        late.push_back(std::make_shared<counter>());
        primitive.observe(late.back(), "late");
    }
    for (auto& one : threads) one.join();
    work(0);
    return late;
}

// Once nothing is told any more: they came later.
void check_heard_no_more(observer_list const& late, counter const& from_the_start) {
    for (auto const& one : late) {
        for (std::size_t e = 0; e < one->counts.size(); ++e) {
            CHECK(one->counts[e] <= from_the_start.counts[e]);
        }
    }
}

} // namespace

TEST_CASE("each grant of a semaphore is told once, on several threads") {
    asio::io_context io;
    tidegate::semaphore s(io, 2);
    auto const all = std::make_shared<counter>();
    s.observe(all, "all");
    std::atomic<std::size_t> granted = 0;
    std::atomic<std::size_t> refused = 0;
    std::atomic<std::size_t> completed = 0;
    auto work = asio::make_work_guard(io);
    std::thread runner([&] { io.run(); });
    std::atomic<std::size_t> asked = 0;
    auto const late = observe_while(s, [&](int i) {
        if (i % 4 == 0) {
            ++asked;
            s.async_acquire([&](tidegate::error_code ec, tidegate::semaphore::permit) {
                if (!ec) ++granted;
                ++completed;
            });
            return;
        }
        if (i % 100 == 1) s.cancel();
        if (auto const mine = s.try_acquire()) ++granted;
        else ++refused;
    });
    work.reset();
    runner.join();
    check_heard_no_more(late, *all);
    CHECK(completed == asked);
    CHECK(all->of(trace_event::acquired) == granted);
    CHECK(all->of(trace_event::rejected) == refused);
    CHECK(all->of(trace_event::cancelled) == s.statistics().cancelled);
}

TEST_CASE("each decision of a rate limiter is told once, on several threads") {
    asio::io_context io;
    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(1'000'000, 1s));
    auto const all = std::make_shared<counter>();
    limiter.observe(all, "all");
    std::atomic<std::size_t> granted = 0;
    std::atomic<std::size_t> refused = 0;
    auto const late = observe_while(limiter, [&](int) {
        if (limiter.try_acquire(100'000)) ++granted;
        else ++refused;
    });
    check_heard_no_more(late, *all);
    CHECK(all->of(trace_event::acquired) == granted);
    CHECK(all->of(trace_event::rejected) == refused);
}

TEST_CASE("each state of a breaker is told once, on several threads") {
    tidegate::circuit_breaker b(tidegate::circuit_breaker_options().consecutive_failures(1));
    auto const all = std::make_shared<counter>();
    b.observe(all, "all");
    std::atomic<std::size_t> refused = 0;
    auto const late = observe_while(b, [&](int i) {
        if (auto mine = b.try_acquire()) mine.failure();
        else ++refused;
        if (i % 10 == 0) b.close();
    });
    b.close();
    check_heard_no_more(late, *all);
    CHECK(all->of(trace_event::rejected) == refused);
    CHECK(all->of(trace_event::opened) > 0);
    CHECK(all->of(trace_event::opened) == all->of(trace_event::closed));
}
