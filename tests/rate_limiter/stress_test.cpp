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

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>
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

// A limiter whose clock stands still, jumps and goes back, and the most that it may grant by the
// time that has passed: what the clock goes back by is no time. Now and then the rate changes.
class year_of_a_bad_clock {
    __extension__ using wide = __int128;

public:
    struct quota {
        std::uint64_t permits;
        std::chrono::nanoseconds per;
        std::uint64_t burst;
        std::chrono::nanoseconds warm_up;
        bool overdraw = false;
    };

    year_of_a_bad_clock(test::random& r, quota const& q)
        : random_(r), quota_(q), permits_(q.permits), burst_(q.burst) {
        test_clock::set(test_clock::time_point(24h * 365)); // there is an end to time
        auto settings = tidegate::rate_limiter_options().rate(q.permits, q.per).burst(q.burst);
        settings.overdraw(q.overdraw);
        if (q.warm_up > 0ns) settings.warm_up(q.warm_up, cold_factor);
        limiter_.emplace(io_, settings);
    }

    void run() {
        while (passed_ < 24h * 365) {
            move();
            for (std::size_t n = test::below(random_, 4); n > 0; --n) act();
        }
        REQUIRE(grants_ > 0);
        limiter_.reset();
        poll();
    }

private:
    static constexpr int cold_factor = 3;

    test_clock::duration any_up_to(test_clock::duration most) {
        return test_clock::duration(
            test::below(random_, static_cast<std::size_t>(most.count()) + 1));
    }

    void move() {
        // Mostly what the bucket feels, now and then what its terms do.
        test_clock::duration const scales[] = {burst_time() / 4, burst_time(), 3s, 1h, 24h * 10};
        std::size_t const rare = test::below(random_, 40);
        test_clock::duration const by = any_up_to(scales[rare < 15   ? 0
                                                         : rare < 30 ? 1
                                                         : rare < 35 ? 2
                                                         : rare < 39 ? 3
                                                                     : 4]);
        if (test::below(random_, 8) > 0) {
            test_clock::advance(by);
            passed_ += by;
            quiet_ += by;
            // Net of refunds, no window that ends now has more than this beyond the rate.
            over_ = std::max<wide>(0, over_ - wide(by.count()) * wide(permits_));
        } else {
            auto const since_zero = test_clock::now().time_since_epoch();
            test_clock::set(test_clock::now() - std::min(by, since_zero));
            went_back_ = true;
        }
        poll();
    }

    void act() {
        bool const overdraws = quota_.overdraw && test::below(random_, 4) == 0;
        std::uint64_t const n =
            1 + test::below(random_, overdraws ? quota_.burst * 3 / 2 : quota_.burst);
        switch (test::below(random_, 7)) {
        case 0:
            limiter_->async_acquire_for(any_up_to(burst_time() * 4), n, [this, n](error_code ec) {
                if (!ec) grant(n);
            });
            break;
        case 1: {
            std::uint64_t const back = std::min(granted_, n);
            granted_ -= back;
            over_ = std::max<wide>(0, over_ - cost(back));
            if (back) limiter_->refund(back);
            break;
        }
        case 2: REQUIRE(may_have(limiter_->available())); break;
        case 3:
            if (limiter_->peek(n, test_clock::now())) REQUIRE(may_have(n));
            break;
        case 4:
            if (test::below(random_, 10) == 0) change();
            break;
        default: try_acquire(random_() % 2 ? n : 1); break;
        }
        poll();
    }

    // The bucket keeps what is in it, up to the new burst, or what it owes.
    void change() {
        bool const any = random_() % 2; // or half of what there was at the beginning, or more
        permits_ = quota_.permits - test::below(random_, quota_.permits / (any ? 1 : 2));
        std::uint64_t const burst =
            quota_.burst - test::below(random_, quota_.burst / (any ? 1 : 2));
        limiter_->set_rate(permits_, quota_.per, burst);
        over_ = std::max<wide>(0, over_ + cost(burst) - cost(burst_));
        burst_ = burst;
        quiet_ = 0s;
    }

    void try_acquire(std::uint64_t n) {
        bool const must = limiter_->waiting() == 0 && !went_back_ && n == 1 &&
                          quiet_ > 3 * cold_factor * burst_time() + 20ms;
        bool const taken(limiter_->try_acquire(n));
        if (must) REQUIRE(taken);
        if (taken) grant(n);
        // What a clock that went back has done is put right when somebody asks.
        if (std::exchange(went_back_, false)) quiet_ = 0s;
    }

    void grant(std::uint64_t n) {
        REQUIRE(may_have(n));
        over_ += cost(n);
        granted_ += n;
        ++grants_;
        quiet_ = 0s;
    }

    // Of a request above the burst: that the bucket is full.
    bool may_have(std::uint64_t n) const {
        return n == 0 || over_ + cost(std::min(n, burst_)) <= cost(burst_);
    }

    // What fills the largest bucket that there is in the year.
    test_clock::duration burst_time() const {
        return test_clock::duration(static_cast<std::int64_t>(cost(quota_.burst) / wide(permits_)) +
                                    1);
    }

    wide cost(std::uint64_t n) const { return wide(n) * wide(quota_.per.count()); }

    void poll() {
        io_.restart();
        io_.poll();
    }

    test::random& random_;
    quota const quota_; // at the beginning
    std::uint64_t permits_;
    std::uint64_t burst_;
    asio::io_context io_;
    std::optional<limiter> limiter_;
    test_clock::duration passed_{0};
    test_clock::duration quiet_{0}; // since the last grant, and since it was asked after going back
    bool went_back_ = false;
    wide over_ = 0;             // in permits times the period
    std::uint64_t granted_ = 0; // and not given back
    std::size_t grants_ = 0;
};

} // namespace

TEST_CASE("whatever the clock does, no window of a year has more than a burst beyond the rate",
          "[stress]") {
    using quota = year_of_a_bad_clock::quota;
    quota const quotas[] = {{10, 1s, 10, 0s},
                            {10, 1s, 10, 20s},
                            {3, 1s, 7, 1h},
                            {999, 1s, 999, 0s}, // terms hold for 5 hours
                            {999, 1s, 100, 5s},
                            {16'000'001, 1s, 4'000'000, 0s}, // for a second
                            {999'999'937, 1s, 999'999'937, 0s},
                            {999'999'937, 1s, 50, 1s},
                            {1'000'003, 24h, 50, 10min},
                            {5, 24h * 7, 5, 24h},
                            {10, 1s, 10, 0s, true},
                            {999, 1s, 999, 0s, true},
                            {16'000'001, 1s, 4'000'000, 0s, true},
                            {999'999'937, 1s, 50, 1s, true},
                            {5, 24h * 7, 5, 24h, true}};
    constexpr std::size_t quota_count = std::size(quotas);
    std::size_t const years = std::max<std::size_t>(1, test::schedules() / 5000);
    for (std::uint64_t const seed : test::seeds()) {
        test::random random(seed);
        for (std::size_t i = 0; i < quota_count * years; ++i) {
            quota const& q = quotas[i % quota_count];
            INFO("seed " << seed << ", " << q.permits << " in " << q.per / 1s << " s, burst "
                         << q.burst << ", warm-up of " << q.warm_up / 1s << " s"
                         << (q.overdraw ? ", overdrawn" : ""));
            year_of_a_bad_clock(random, q).run();
        }
    }
}

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
