// SPDX-License-Identifier: BSL-1.0
// Asking again: how often, until when, and what ends it.
#include <tidegate/poll.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::error;
using tidegate::poll_interval;

namespace {

struct poll_clock {};
using clock_type = tidegate::testing::basic_manual_clock<poll_clock>;

poll_interval steady(std::chrono::nanoseconds time) {
    return poll_interval(time).multiplier(1).jitter(tidegate::jitter::none);
}

/// Runs `polling` to its end, moving the clock whenever nothing else is left to do.
class poll_run {
public:
    template <class T>
    void start(asio::awaitable<T> polling) {
        auto finish = [this](std::exception_ptr e, auto... value) {
            failure_ = e;
            ended_ = true;
            ((value_ = value), ...);
        };
        asio::co_spawn(io_, std::move(polling),
                       asio::bind_cancellation_slot(signal_.slot(), finish));
        turn();
    }

    void turn() {
        io_.restart();
        io_.poll();
    }

    void to_the_end() {
        while (!ended_) {
            auto const next = clock_type::next_expiry();
            REQUIRE(next);
            clock_type::advance(*next - clock_type::now());
            turn();
        }
    }

    std::string failure() const {
        if (!failure_) return "";
        try {
            std::rethrow_exception(failure_);
        } catch (boost::system::system_error const& e) {
            return e.code() == error::deadline_exceeded         ? "deadline"
                   : e.code() == asio::error::operation_aborted ? "cancelled"
                                                                : e.what();
        } catch (std::exception const& e) {
            return e.what();
        }
    }

    asio::io_context io_;
    asio::cancellation_signal signal_;
    bool ended_ = false;
    int value_ = 0;

private:
    std::exception_ptr failure_;
};

/// Checks that note when they were made, counted from the start.
struct noted_checks {
    clock_type::time_point const start = clock_type::now();
    std::vector<std::int64_t> at;
    int succeed_at = 1000;

    asio::awaitable<bool> operator()() {
        at.push_back((clock_type::now() - start) / 1ms);
        co_return static_cast<int>(at.size()) >= succeed_at;
    }
};

} // namespace

TEST_CASE("the first check is made at once, and what it finds is returned") {
    poll_run run;
    auto check = []() -> asio::awaitable<std::optional<int>> { co_return 5; };
    run.start(tidegate::poll_until<clock_type>(check, 10ms));
    CHECK(run.ended_);
    CHECK(run.value_ == 5);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("the pauses grow to the cap") {
    poll_run run;
    noted_checks checks;
    checks.succeed_at = 7;
    auto const interval =
        poll_interval(10ms).multiplier(2).cap(50ms).jitter(tidegate::jitter::none);
    run.start(tidegate::poll_until<clock_type>(std::ref(checks), interval));
    run.to_the_end();
    CHECK(run.failure().empty());
    CHECK(checks.at == std::vector<std::int64_t>{0, 10, 30, 70, 120, 170, 220});
}

TEST_CASE("jitter leaves part of each pause to chance, within its bounds") {
    poll_run run;
    noted_checks checks;
    checks.succeed_at = 200;
    auto const interval = poll_interval(100ms).multiplier(1).jitter(tidegate::jitter::equal);
    run.start(tidegate::poll_until<clock_type>(std::ref(checks), interval));
    run.to_the_end();
    bool different = false;
    for (std::size_t i = 1; i < checks.at.size(); ++i) {
        auto const pause = checks.at[i] - checks.at[i - 1];
        CHECK((pause >= 49 && pause <= 101));
        different |= pause != checks.at[1];
    }
    CHECK(different);
}

TEST_CASE("a check starts an interval before the deadline, and the last one at it") {
    poll_run run;
    noted_checks checks;
    auto const interval = poll_interval(10ms).multiplier(3).cap(1s).jitter(tidegate::jitter::none);
    run.start(tidegate::poll_until<clock_type>(std::ref(checks), interval, 100ms));
    run.to_the_end();
    CHECK(run.failure() == "deadline");
    CHECK(checks.at == std::vector<std::int64_t>{0, 10, 40, 90, 100});
    CHECK(clock_type::now() == checks.start + 100ms);
}

TEST_CASE("nobody gives up before the deadline") {
    struct expectation {
        std::chrono::milliseconds interval;
        std::chrono::milliseconds limit;
        std::vector<std::int64_t> at;
    };
    std::vector<expectation> const expected = {{10s, 10s, {0, 10'000}},
                                               {1s, 3s, {0, 1000, 2000, 3000}},
                                               {2s, 3s, {0, 1000, 3000}},
                                               {1s, 100ms, {0, 100}},
                                               {1ms, 2ms, {0, 1, 2}}};
    for (auto const& [interval, limit, at] : expected) {
        INFO("every " << interval.count() << " ms, for " << limit.count());
        poll_run run;
        noted_checks checks;
        run.start(tidegate::poll_until<clock_type>(std::ref(checks), steady(interval), limit));
        run.to_the_end();
        CHECK(run.failure() == "deadline");
        CHECK(checks.at == at);
        CHECK(clock_type::now() == checks.start + limit);
    }
}

TEST_CASE("the last check finds what it need not wait for") {
    poll_run run;
    noted_checks checks;
    checks.succeed_at = 2;
    run.start(tidegate::poll_until<clock_type>(std::ref(checks), steady(10s), 10s));
    run.to_the_end();
    CHECK(run.failure().empty());
    CHECK(checks.at == std::vector<std::int64_t>{0, 10'000});

    poll_run other;
    int started = 0, ended = 0;
    auto waits = [&]() -> asio::awaitable<bool> {
        if (++started < 2) co_return false;
        co_await tidegate::sleep_for<clock_type>(1ms);
        ++ended;
        co_return true;
    };
    other.start(tidegate::poll_until<clock_type>(waits, steady(10s), 10s));
    clock_type::advance(10s);
    other.turn();
    CHECK(other.ended_);
    CHECK(other.failure() == "deadline");
    CHECK(started == 2);
    CHECK(ended == 0);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a check that runs at the deadline is cancelled") {
    poll_run run;
    int started = 0, ended = 0;
    auto check = [&]() -> asio::awaitable<bool> {
        ++started;
        co_await tidegate::sleep_for<clock_type>(1h);
        ++ended;
        co_return true;
    };
    run.start(tidegate::poll_until<clock_type>(check, steady(10ms), 100ms));
    CHECK_FALSE(run.ended_);
    clock_type::advance(100ms);
    run.turn();
    CHECK(run.ended_);
    CHECK(run.failure() == "deadline");
    CHECK(started == 1);
    CHECK(ended == 0);
    CHECK(clock_type::pending() == 0);
}

TEST_CASE("a deadline in the past lets nothing find anything by waiting") {
    poll_run run;
    noted_checks checks;
    run.start(tidegate::poll_until<clock_type>(std::ref(checks), steady(1ms), clock_type::now()));
    run.turn();
    CHECK(run.failure() == "deadline");
    CHECK(checks.at.size() <= 1);
}

TEST_CASE("what a check throws ends the polling") {
    poll_run run;
    int n = 0;
    auto check = [&]() -> asio::awaitable<bool> {
        if (++n == 3) throw std::runtime_error("broken");
        co_return false;
    };
    run.start(tidegate::poll_until<clock_type>(check, steady(1ms)));
    run.to_the_end();
    CHECK(run.failure() == "broken");
    CHECK(n == 3);
}

TEST_CASE("cancelling ends a pause, or the check that runs") {
    for (bool const in_check : {false, true}) {
        poll_run run;
        auto check = [in_check]() -> asio::awaitable<bool> {
            if (in_check) co_await tidegate::sleep_for<clock_type>(1h);
            co_return false;
        };
        run.start(tidegate::poll_until<clock_type>(check, steady(1min)));
        run.signal_.emit(asio::cancellation_type::terminal);
        run.turn();
        CHECK(run.failure() == "cancelled");
        CHECK(clock_type::pending() == 0);
    }
}

TEST_CASE("a check may count, and may be any asynchronous operation") {
    poll_run run;
    auto counted = [](tidegate::basic_call_context<clock_type> const& c)
        -> asio::awaitable<std::optional<int>> {
        co_return c.attempt() == 4 ? std::optional(static_cast<int>(c.attempt())) : std::nullopt;
    };
    run.start(tidegate::poll_until<clock_type>(counted, steady(1ms)));
    run.to_the_end();
    CHECK(run.value_ == 4);

    poll_run other;
    int n = 0;
    auto operation = [&](auto&& token) {
        auto initiate = [&](auto handler) {
            asio::post(other.io_, [&, h = std::move(handler)]() mutable {
                std::move(h)(tidegate::error_code(), ++n == 3);
            });
        };
        return asio::async_initiate<decltype(token), void(tidegate::error_code, bool)>(initiate,
                                                                                       token);
    };
    other.start(tidegate::poll_until<clock_type>(operation, steady(1ms)));
    other.to_the_end();
    CHECK(other.failure().empty());
    CHECK(n == 3);
}

TEST_CASE("bad intervals are refused by name") {
    CHECK_THROWS_WITH(poll_interval(0ms), ContainsSubstring("poll interval in ns is 0"));
    CHECK_THROWS_WITH(poll_interval(1ms).multiplier(0.5), ContainsSubstring("poll multiplier is"));
    CHECK_THROWS_WITH(poll_interval(1ms).cap(-1ms), ContainsSubstring("poll cap in ns is -"));
}
