// SPDX-License-Identifier: BSL-1.0
// Callers on many threads leave runs that others join, and that end meanwhile.
#include "support/stress.hpp"

#include <tidegate/single_flight.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;

namespace {

using flights = tidegate::single_flight<int, int>;

constexpr int keys = 3;

// Asks again and again, and emits its signal where its handlers run, as Asio wants it.
class caller {
public:
    caller(asio::io_context& io, flights& all, std::uint64_t seed, int rounds)
        : strand_(asio::make_strand(io)), all_(all), random_(seed), rounds_(rounds) {}

    void begin() {
        asio::post(strand_, [this] { next_round(); });
    }

    int aborted = 0;
    int got = 0;
    int wrong = 0;

private:
    void next_round() {
        if (rounds_-- == 0) return;
        int const key = static_cast<int>(test::below(random_, keys));
        bool* const done = done_.emplace_back(new bool(false)).get();
        auto handler = [this, key, done](std::exception_ptr e, std::optional<int> value) {
            if (std::exchange(*done, true)) ++wrong;
            if (!e) ++(value == key ? got : wrong);
            else ++(is_abort(e) ? aborted : wrong);
            next_round();
        };
        auto run = [hops = test::below(random_, 4)](int k) { return run_with(k, hops); };
        all_.async_run(key, run,
                       asio::bind_cancellation_slot(
                           signal_.slot(), asio::bind_executor(strand_, std::move(handler))));
        if (test::below(random_, 3) > 0) leave_after(test::below(random_, 6), done);
    }

    // A run that nobody wants any more goes on: its end meets those who leave.
    static asio::awaitable<int> run_with(int key, std::size_t hops) {
        co_await asio::this_coro::throw_if_cancelled(false);
        auto const here = co_await asio::this_coro::executor;
        for (; hops > 0; --hops) co_await asio::post(here, asio::deferred);
        co_return key;
    }

    void leave_after(std::size_t hops, bool const* done) {
        if (*done) return;
        if (hops == 0) return signal_.emit(asio::cancellation_type::all);
        asio::post(strand_, [this, hops, done] { leave_after(hops - 1, done); });
    }

    static bool is_abort(std::exception_ptr const& e) {
        try {
            std::rethrow_exception(e);
        } catch (boost::system::system_error const& why) {
            return why.code() == asio::error::operation_aborted;
        } catch (...) {
            return false;
        }
    }

    asio::strand<asio::io_context::executor_type> strand_;
    flights& all_;
    test::random random_;
    int rounds_;
    asio::cancellation_signal signal_;
    std::vector<std::unique_ptr<bool>> done_; // of each round
};

} // namespace

TEST_CASE("each caller completes once, however runs end and others join while it leaves",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        int const rounds = static_cast<int>(test::schedules(8'000));
        asio::io_context io;
        std::vector<std::unique_ptr<caller>> callers; // whose strands go before it
        flights all(io);
        for (std::uint64_t i = 0; i < 8; ++i) {
            callers.push_back(std::make_unique<caller>(io, all, seed + i, rounds));
            callers.back()->begin();
        }
        {
            std::vector<std::jthread> threads;
            for (int i = 0; i < 4; ++i) threads.emplace_back([&] { io.run(); });
        }
        int aborted = 0;
        int got = 0;
        for (auto const& one : callers) {
            CHECK(one->wrong == 0);
            CHECK(one->aborted + one->got == rounds);
            aborted += one->aborted;
            got += one->got;
        }
        CHECK(aborted > 0);
        CHECK(got > 0);
        CHECK(all.running() == 0);
        CHECK(all.waiting() == 0);
    }
}
