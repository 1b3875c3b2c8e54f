// SPDX-License-Identifier: BSL-1.0
// Coroutines on two threads that sleep and poll, whose time passes, and that are cancelled at
// random.
#include <tidegate/poll.hpp>
#include <tidegate/sleep.hpp>

#include "support/runs_here.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <string>
#include <thread>

namespace asio = boost::asio;
using tidegate::error;

namespace {

using test_clock = std::chrono::steady_clock;
using time_point = test_clock::time_point;

std::chrono::microseconds up_to(std::size_t most, test::random& random) {
    return std::chrono::microseconds(test::below(random, most + 1));
}

/// One coroutine that waits once, for a time or for what it polls. Most are on a strand of their
/// own, where some are cancelled; the others on the context's executor, which two threads run.
class waiting {
public:
    waiting(asio::io_context& io, std::uint64_t seed)
        : io_(io),
          random_(seed),
          on_strand_(test::below(random_, 4) > 0),
          polls_(test::below(random_, 2) == 0),
          cancelled_(on_strand_ && test::below(random_, 3) == 0),
          turns_(test::below(random_, 6)),
          here_(on_strand_ ? asio::any_io_executor(asio::make_strand(io)) : io.get_executor()) {
        if (!polls_) return;
        if (test::below(random_, 2)) limit_ = up_to(60, random_);
        // Without a limit it has to find something.
        wanted_ = limit_ >= no_limit || test::below(random_, 2) ? 1 + test::below(random_, 4) : 0;
    }

    void start() {
        auto ended = [this](std::exception_ptr e) {
            ++ends_;
            note_executor(here_);
            failure_ = e;
            at_end_ = test_clock::now();
        };
        asio::co_spawn(here_, wait(),
                       asio::bind_cancellation_slot(signal_.slot(),
                                                    asio::bind_executor(here_, std::move(ended))));
    }

    /// What is wrong with how it ended, once all has.
    std::string complaint() const {
        if (ends_ != 1) return "ended " + std::to_string(ends_) + " times";
        if (elsewhere_) return "resumed elsewhere";
        if (!failure_) {
            if (polls_) return checks_ == wanted_ ? "" : "found nothing";
            return at_end_ >= deadline_ ? "" : "woke early";
        }
        try {
            std::rethrow_exception(failure_);
        } catch (boost::system::system_error const& e) {
            if (e.code() == asio::error::operation_aborted && emitted_) return "";
            if (e.code() != error::deadline_exceeded) return e.what();
            if (!polls_ || limit_ >= no_limit) return "a deadline that it has not";
            return at_end_ >= deadline_ ? "" : "gave up early";
        } catch (...) {
            return "threw something else";
        }
    }
    bool timed_out() const { return failure_ && at_end_ >= deadline_ && !emitted_; }
    bool was_cancelled() const { return failure_ && emitted_; }
    bool succeeded() const { return !failure_; }

private:
    static constexpr std::chrono::microseconds no_limit = std::chrono::hours(1);

    asio::awaitable<void> wait() {
        if (cancelled_) emit_after(turns_);
        // Beside the coroutine's end: it goes on here after the waiting, too.
        struct on_exit {
            waiting& self;
            ~on_exit() { self.note_executor(self.here_); }
        } const guard{*this};
        if (polls_) {
            tidegate::poll_interval interval(std::chrono::microseconds(1) + up_to(9, random_));
            if (limit_ < no_limit) deadline_ = test_clock::now() + limit_;
            auto check = [this] { return look(); };
            auto polling = tidegate::poll_until(std::ref(check), interval, deadline_);
            co_await std::move(polling);
        } else {
            auto const time = up_to(40, random_);
            deadline_ = test_clock::now() + time;
            auto sleeping = tidegate::sleep_for(time);
            co_await std::move(sleeping);
        }
    }

    /// Finds something after so many times, with or without waiting for something itself.
    asio::awaitable<bool> look() {
        auto const executor = co_await asio::this_coro::executor;
        note_executor(executor);
        switch (test::below(random_, 3)) {
        case 0: co_await asio::post(asio::deferred); break;
        case 1: {
            auto nap = tidegate::sleep_for(up_to(5, random_));
            co_await std::move(nap);
            break;
        }
        default: break;
        }
        note_executor(executor);
        co_return ++checks_ == wanted_;
    }

    void emit_after(std::size_t turns) {
        if (turns == 0) {
            asio::post(here_, [this] {
                emitted_ = ends_ == 0;
                signal_.emit(asio::cancellation_type::terminal);
            });
        } else {
            asio::post(io_, [this, turns] { emit_after(turns - 1); });
        }
    }

    void note_executor(asio::any_io_executor const& executor) {
        if (!test::runs_here(executor)) elsewhere_ = true;
    }

    asio::io_context& io_;
    test::random random_;
    bool const on_strand_, polls_, cancelled_;
    std::size_t const turns_;
    asio::any_io_executor const here_;
    asio::cancellation_signal signal_;
    std::chrono::microseconds limit_ = no_limit;
    std::size_t wanted_ = 0, checks_ = 0;
    time_point deadline_ = time_point::max(), at_end_;
    bool emitted_ = false;
    std::atomic<bool> elsewhere_ = false;
    std::atomic<int> ends_ = 0;
    std::exception_ptr failure_;
};

} // namespace

TEST_CASE("sleepers and pollers on two threads end once, where they are, and as they may",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        constexpr std::size_t coroutines = 50;
        std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 200);
        std::ptrdiff_t cancelled = 0, timed_out = 0, succeeded = 0;
        for (std::size_t round = 0; round < rounds; ++round) {
            asio::io_context io;
            std::deque<waiting> all; // whose strands must not outlive their context
            for (std::size_t i = 0; i < coroutines; ++i) all.emplace_back(io, random()).start();
            std::thread other([&] { io.run(); });
            io.run();
            other.join();
            for (waiting const& one : all) REQUIRE(one.complaint() == "");
            cancelled += std::ranges::count_if(all, &waiting::was_cancelled);
            timed_out += std::ranges::count_if(all, &waiting::timed_out);
            succeeded += std::ranges::count_if(all, &waiting::succeeded);
        }
        if (rounds < 20) continue;
        CHECK(cancelled > 0);
        CHECK(timed_out > 0);
        CHECK(succeeded > 0);
    }
}
