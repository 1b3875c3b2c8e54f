// SPDX-License-Identifier: BSL-1.0
// Deadlines, grants and cancellations that meet, on threads of their own.
#include <tidegate/semaphore.hpp>
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
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;

namespace {

struct tag;
using test_clock = tidegate::testing::basic_manual_clock<tag>;
using semaphore = tidegate::basic_semaphore<test_clock>;
using permit = semaphore::permit;

struct operation {
    asio::cancellation_signal signal;
    bool is_cancelled = false;
    error_code ec;
    permit got;
    int completions = 0;
};

// Three wait until a deadline, which comes while two permits come back and some are cancelled.
class meeting {
public:
    explicit meeting(test::random& r) : random_(r) {}

    asio::io_context timers, home; // where deadlines are noticed; where handlers run
    semaphore s{timers, 2};

    void begin() {
        timers.restart();
        home.restart();
        held_ = {s.try_acquire(), s.try_acquire()};
        all_.emplace();
        for (operation& one : *all_) {
            one.is_cancelled = test::below(random_, 3) == 0;
            auto handler = [&](error_code ec, permit p) {
                one.ec = ec;
                one.got = std::move(p);
                ++one.completions;
            };
            s.async_acquire_for(1h, asio::bind_executor(home, asio::bind_cancellation_slot(
                                                                  one.signal.slot(), handler)));
        }
    }

    void pass_time() {
        test_clock::advance(1h);
        timers.poll();
    }
    void release() {
        for (permit& p : held_) p.release();
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
        std::size_t granted = 0;
        for (operation const& one : *all_) {
            REQUIRE(one.completions == 1);
            REQUIRE(bool(one.got) == !one.ec);
            granted += one.got.count();
            REQUIRE((!one.ec || one.ec == error::deadline_exceeded ||
                     (one.is_cancelled && one.ec == asio::error::operation_aborted)));
        }
        REQUIRE(granted <= 2);
        REQUIRE(s.available() == 2 - granted);
        REQUIRE(s.waiting() == 0);
        REQUIRE(test_clock::pending() == 0);
        all_.reset();
        REQUIRE(s.available() == 2);
    }

private:
    test::random& random_;
    std::array<permit, 2> held_;
    std::optional<std::array<operation, 3>> all_;
};

} // namespace

TEST_CASE("a deadline that meets a release and a cancellation ends a wait once and loses no permit",
          "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("TIDEGATE_STRESS_SEED=" << seed);
        test::random random(seed);
        meeting m(random);
        test::race at_once(seed,
                           {[&] { m.pass_time(); }, [&] { m.release(); }, [&] { m.cancel(); }});
        for (std::size_t i = 0; i < test::schedules() / 10; ++i) {
            m.begin();
            at_once.run();
            m.end();
        }
    }
}
