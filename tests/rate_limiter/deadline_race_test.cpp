// SPDX-License-Identifier: BSL-1.0
// Deadlines, grants and cancellations that meet, on threads of their own.
#include <tidegate/rate_limiter.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/race.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <array>
#include <chrono>
#include <optional>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;

namespace {

struct tag;
using test_clock = tidegate::testing::basic_manual_clock<tag>;
using limiter = tidegate::basic_rate_limiter<test_clock>;

struct operation {
    asio::cancellation_signal signal;
    bool is_cancelled = false;
    error_code ec;
    int completions = 0;
};

// Three wait until a deadline, which comes while two permits are refunded and some are cancelled.
class meeting {
public:
    explicit meeting(test::random& r) : random_(r) {}

    asio::io_context timers, home; // where deadlines are noticed; where handlers run
    std::optional<limiter> l;

    void begin() {
        timers.restart();
        home.restart();
        all_.emplace();
        l.emplace(timers,
                  tidegate::rate_limiter_options().rate(1, 1h).burst(100).start_empty(true));
        auto turn = 0h;
        for (operation& one : *all_) {
            one.is_cancelled = test::below(random_, 3) == 0;
            turn += 1h;
            l->async_acquire_for(
                turn, asio::bind_executor(
                          home, asio::bind_cancellation_slot(one.signal.slot(), [&](error_code ec) {
                              one.ec = ec;
                              ++one.completions;
                          })));
        }
        l->set_rate(1, 24h); // or their turns would come with the deadlines
    }

    void pass_time() {
        test_clock::advance(3h);
        timers.poll();
    }
    void refund() {
        l->refund();
        l->refund();
    }
    void cancel() {
        for (operation& one : *all_) {
            if (one.is_cancelled) one.signal.emit(asio::cancellation_type::terminal);
        }
        home.poll();
    }

    void end() {
        timers.poll();
        home.poll();
        std::uint64_t granted = 0;
        for (operation const& one : *all_) {
            REQUIRE(one.completions == 1);
            granted += !one.ec;
            REQUIRE((!one.ec || one.ec == error::deadline_exceeded ||
                     (one.is_cancelled && one.ec == asio::error::operation_aborted)));
        }
        REQUIRE(granted <= 2);
        REQUIRE(l->available() == 2 - granted);
        REQUIRE(l->waiting() == 0);
        REQUIRE(test_clock::pending() == 0);
    }

private:
    test::random& random_;
    std::optional<std::array<operation, 3>> all_;
};

} // namespace

TEST_CASE("a deadline that meets a refund and a cancellation ends a wait once and loses no permit",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        meeting m(random);
        test::race at_once(seed,
                           {[&] { m.pass_time(); }, [&] { m.refund(); }, [&] { m.cancel(); }});
        for (std::size_t i = 0; i < test::schedules() / 10; ++i) {
            m.begin();
            at_once.run();
            m.end();
        }
    }
}
