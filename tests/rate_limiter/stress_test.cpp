// SPDX-License-Identifier: BSL-1.0
// Random schedules of everything a rate limiter can do, on one thread and on several.
#include <tidegate/rate_limiter.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <atomic>
#include <deque>
#include <optional>
#include <thread>
#include <vector>

namespace asio = boost::asio;
namespace testing = tidegate::testing;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;

namespace {

struct tag;
using test_clock = testing::basic_manual_clock<tag>;
using limiter = tidegate::basic_rate_limiter<test_clock>;

struct operation {
    std::uint64_t n = 0;
    std::size_t number = 0;
    int completions = 0;
    error_code ec;
    asio::cancellation_signal signal;
};

// One limiter, operations in random order, and what must hold after each step.
class schedule {
public:
    schedule(test::random& r, std::uint64_t burst) : random_(r), burst_(burst) {
        limiter_.emplace(io_, tidegate::rate_limiter_options()
                                  .rate(1000, 1s)
                                  .burst(burst)
                                  .max_waiters(16)
                                  .start_empty(r() % 2 == 0));
    }

    void run(std::size_t steps) {
        for (std::size_t i = 0; i < steps; ++i) step();
        finish();
        for (auto const& op : operations_) REQUIRE(op.completions == 1);
        REQUIRE(granted_in_order_);
    }

private:
    void step() {
        switch (test::below(random_, 12)) {
        case 0:
        case 1:
        case 2: start(test_clock::time_point::max()); break;
        case 3: start(test_clock::now() + 1ms * test::below(random_, 8)); break;
        case 4:
        case 5: try_acquire(); break;
        case 6: emit(); break;
        case 7:
            limiter_->refund(1 + test::below(random_, 2));
            refunds_ = true;
            break;
        case 8:
            limiter_->set_rate(500 + test::below(random_, 1000), 1s);
            changed_ = true;
            break;
        case 9: test_clock::advance(100us * test::below(random_, 60)); break;
        case 10: test_clock::advance_to_next(); break;
        case 11:
            if (test::below(random_, 8) == 0) limiter_->cancel();
            break;
        }
        io_.restart();
        if (random_() % 2) io_.poll();
        else io_.poll_one();
    }

    void start(test_clock::time_point deadline) {
        auto& op = operations_.emplace_back();
        op.n = 1 + test::below(random_, burst_);
        op.number = operations_.size();
        limiter_->async_acquire_until(
            deadline, op.n,
            asio::bind_cancellation_slot(op.signal.slot(), [this, &op](error_code ec) {
                ++op.completions;
                op.ec = ec;
                if (ec) return;
                // Handlers of one executor run in the order in which they were granted.
                granted_in_order_ &= op.number > last_granted_;
                last_granted_ = op.number;
            }));
    }

    void try_acquire() {
        std::uint64_t const n = 1 + test::below(random_, burst_);
        bool const somebody_waits = limiter_->waiting() > 0;
        auto const decision = limiter_->try_acquire(n);
        if (somebody_waits) REQUIRE_FALSE(decision);
        if (!decision) {
            REQUIRE(decision.error() == error::rate_limited);
            REQUIRE((somebody_waits || decision.retry_after() > 0ns));
            return;
        }
        if (changed_ || refunds_) return;
        grants_.push_back({test_clock::now(), n});
        check_windows();
    }

    // Those of tries alone are a subset of all, which the bound covers all the more.
    void check_windows() {
        std::uint64_t sum = 0;
        for (std::size_t i = grants_.size(); i-- > 0;) {
            sum += grants_[i].n;
            auto const window = std::chrono::nanoseconds(grants_.back().at - grants_[i].at);
            REQUIRE(sum * 1'000'000 <=
                    burst_ * 1'000'000 + static_cast<std::uint64_t>(window.count()));
        }
    }

    void emit() {
        if (operations_.empty()) return;
        operations_[test::below(random_, operations_.size())].signal.emit(
            asio::cancellation_type::total);
    }

    void finish() {
        switch (test::below(random_, 3)) {
        case 0: limiter_->close(); break;
        case 1: limiter_.reset(); break;
        case 2:
            io_.restart();
            io_.poll();
            while (limiter_->waiting() > 0) {
                REQUIRE(test_clock::advance_to_next());
                io_.restart();
                io_.poll();
            }
            break;
        }
        io_.restart();
        io_.poll();
        REQUIRE((!limiter_ || test_clock::pending() == 0));
    }

    struct grant {
        test_clock::time_point at;
        std::uint64_t n;
    };

    test::random& random_;
    std::uint64_t const burst_;
    asio::io_context io_;
    std::optional<limiter> limiter_;
    std::deque<operation> operations_;
    std::vector<grant> grants_;
    bool changed_ = false;
    bool refunds_ = false;
    bool granted_in_order_ = true;
    std::size_t last_granted_ = 0;
};

} // namespace

TEST_CASE("random schedules lose nobody, keep the order and keep the rate", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        for (std::size_t i = 0; i < test::schedules(); ++i) {
            INFO("schedule " << i);
            schedule(random, 1 + test::below(random, 6)).run(25);
        }
    }
}

TEST_CASE("threads that take, refund, cancel and change the rate get no more than there is",
          "[stress]") {
    using real_limiter = tidegate::rate_limiter;
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 2000);
    for (std::size_t round = 0; round < rounds; ++round) {
        asio::io_context io;
        auto work = asio::make_work_guard(io);
        constexpr std::uint64_t burst = 1000;
        // So slow that nothing is earned during the test: what is granted must balance exactly.
        real_limiter l(io, tidegate::rate_limiter_options().rate(1, 1h).burst(burst));
        std::atomic<std::int64_t> out{0};
        std::atomic<int> completions{0};
        std::atomic<int> started{0};
        std::atomic<bool> too_many{false};
        auto took = [&](std::int64_t n) {
            if ((out += n) > static_cast<std::int64_t>(burst)) too_many = true;
        };
        std::vector<std::thread> threads;
        for (int t = 0; t < 2; ++t) threads.emplace_back([&] { io.run(); });
        for (int t = 0; t < 2; ++t) {
            threads.emplace_back([&, t] {
                test::random random(round * 10 + static_cast<std::size_t>(t));
                for (int i = 0; i < 2000; ++i) {
                    auto const n = static_cast<std::int64_t>(1 + test::below(random, 3));
                    auto const permits = static_cast<std::uint64_t>(n);
                    auto strand = asio::make_strand(io);
                    switch (test::below(random, 4)) {
                    case 0:
                    case 1:
                        if (l.try_acquire(permits)) {
                            took(n);
                            out -= n;
                            l.refund(permits);
                        }
                        break;
                    case 2: {
                        ++started;
                        auto signal = std::make_shared<asio::cancellation_signal>();
                        auto handler = [&, n, permits, signal](error_code ec) {
                            ++completions;
                            if (ec) return;
                            took(n);
                            out -= n;
                            l.refund(permits);
                        };
                        asio::post(strand, [&, signal, permits, handler, strand] {
                            l.async_acquire(
                                permits, asio::bind_executor(strand, asio::bind_cancellation_slot(
                                                                         signal->slot(), handler)));
                        });
                        if (random() % 2) {
                            asio::post(strand, [signal] {
                                signal->emit(asio::cancellation_type::terminal);
                            });
                        }
                        break;
                    }
                    case 3:
                        if (test::below(random, 50) == 0) l.set_rate(1 + random() % 3, 1h);
                        if (test::below(random, 50) == 0) l.cancel();
                        break;
                    }
                }
            });
        }
        for (std::size_t t = 2; t < threads.size(); ++t) threads[t].join();
        work.reset();
        for (std::size_t t = 0; t < 2; ++t) threads[t].join();
        CHECK(completions == started);
        CHECK_FALSE(too_many);
        CHECK(out == 0);
        CHECK(l.available() == burst);
    }
}
