// SPDX-License-Identifier: BSL-1.0
// However many a permit lets in, the lock is held for a few of them at a time.
#include <tidegate/semaphore.hpp>
#include <tidegate/trace.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <utility>

namespace asio = boost::asio;
using tidegate::error_code;

namespace {

constexpr std::size_t waiters = 10'000;

std::size_t let_in = 0; // so far, and told of

/// A mutex for one thread that notes the most who were let in between two times that it is taken:
/// those that the hold before had chosen.
struct watched_mutex {
    static inline std::size_t before = 0;
    static inline std::size_t most = 0;
    static inline bool taken = false;

    static void begin() { let_in = before = most = 0; }

    void lock() {
        if (std::exchange(taken, true)) throw std::logic_error("taken twice");
        most = std::max(most, let_in - before);
        before = let_in;
    }
    bool try_lock() {
        if (!taken) lock();
        return taken;
    }
    void unlock() { taken = false; }
};

struct counter : tidegate::trace_observer {
    void on_event(tidegate::trace_record const& what) noexcept override {
        if (what.event == tidegate::trace_event::acquired) ++let_in;
    }
};

using semaphore =
    tidegate::basic_semaphore<std::chrono::steady_clock, asio::any_io_executor, watched_mutex>;

void wait_for_one(semaphore& s, std::size_t& woken) {
    s.async_acquire([&woken](error_code ec, semaphore::permit p) { woken += !ec && p; });
}

} // namespace

TEST_CASE("waking 10,000 waiters holds the lock for 64 of them at a time") {
    asio::io_context io;
    semaphore s(io, waiters);
    s.observe(std::make_shared<counter>(), "watched");
    std::size_t woken = 0;
    asio::cancellation_signal leave;

    SECTION("by giving permits back") {
        auto all = s.try_acquire(waiters);
        for (std::size_t i = 0; i < waiters; ++i) wait_for_one(s, woken);
        watched_mutex::begin();
        all.release();
    }
    SECTION("by raising the capacity") {
        s.resize(1);
        auto one = s.try_acquire();
        for (std::size_t i = 0; i < waiters; ++i) wait_for_one(s, woken);
        watched_mutex::begin();
        s.resize(waiters + 1);
        CHECK(s.waiting() == 0);
    }
    SECTION("as a large request ahead of them leaves") {
        s.resize(waiters + 1);
        auto one = s.try_acquire();
        auto never = [](error_code, semaphore::permit) {};
        s.async_acquire(waiters + 1, asio::bind_cancellation_slot(leave.slot(), never));
        for (std::size_t i = 0; i < waiters; ++i) wait_for_one(s, woken);
        watched_mutex::begin();
        leave.emit(asio::cancellation_type::total);
        CHECK(s.waiting() == 0);
    }
    CHECK(let_in == waiters);
    watched_mutex().lock(); // after the last of them
    watched_mutex().unlock();
    CHECK(watched_mutex::most == 64);
    io.run();
    CHECK(woken == waiters);
}
