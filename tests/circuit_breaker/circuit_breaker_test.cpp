// SPDX-License-Identifier: BSL-1.0
// When a breaker trips, what it lets through, and whom it believes.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include "support/captured_stderr.hpp"
#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <boost/asio/error.hpp>

#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using tidegate::breaker_state;
using tidegate::error_code;
using options = tidegate::circuit_breaker_options;

struct breaker_tag;
using test_clock = tidegate::testing::basic_manual_clock<breaker_tag>;
using breaker = tidegate::basic_circuit_breaker<test_clock>;

options quick() {
    return options().count_window(10).minimum_calls(4).open_duration(1s).jitter(0).permitted_probes(
        2);
}

void succeed(breaker& b, int n = 1) {
    for (int i = 0; i < n; ++i) b.try_acquire().success();
}
void fail(breaker& b, int n = 1) {
    for (int i = 0; i < n; ++i) b.try_acquire().failure(boost::asio::error::connection_refused);
}

} // namespace

TEST_CASE("a breaker trips on its failure rate, refuses, probes and closes") {
    breaker b(quick());
    succeed(b, 2);
    fail(b, 1);
    CHECK(b.state() == breaker_state::closed);
    fail(b, 1);
    CHECK(b.state() == breaker_state::open); // 2 of 4
    CHECK(b.last_error() == boost::asio::error::connection_refused);
    CHECK_FALSE(b.try_acquire());
    CHECK(b.retry_after() == 1s);
    test_clock::advance(1s - 1ns);
    CHECK_FALSE(b.try_acquire());
    test_clock::advance(1ns);
    CHECK(b.retry_after() == 0s);
    auto first = b.try_acquire();
    auto second = b.try_acquire();
    CHECK(b.state() == breaker_state::half_open);
    CHECK(first);
    CHECK(second);
    CHECK_FALSE(b.try_acquire());
    first.success();
    CHECK(b.state() == breaker_state::half_open);
    second.success();
    CHECK(b.state() == breaker_state::closed);
    CHECK(b.counts() == tidegate::core::call_counts{});
}

TEST_CASE("a success can be what trips it, when it makes up the minimum of calls") {
    breaker b(quick());
    fail(b, 3);
    CHECK(b.state() == breaker_state::closed);
    succeed(b);
    CHECK(b.state() == breaker_state::open);
}

TEST_CASE("consecutive failures trip it, any success in between does not let them") {
    breaker b(options().consecutive_failures(3).open_duration(1s).jitter(0).permitted_probes(1));
    for (int i = 0; i < 100; ++i) {
        fail(b, 2);
        succeed(b);
    }
    CHECK(b.state() == breaker_state::closed);
    fail(b, 3);
    CHECK(b.state() == breaker_state::open);
    test_clock::advance(1s);
    fail(b);
    CHECK(b.state() == breaker_state::open);
    test_clock::advance(1s);
    succeed(b);
    CHECK(b.state() == breaker_state::closed);
    fail(b, 2);
    CHECK(b.state() == breaker_state::closed);
}

TEST_CASE("consecutive failures trip it with a time window too") {
    breaker b(quick().consecutive_failures(3).time_window(10s));
    fail(b, 2);
    succeed(b);
    fail(b, 2);
    CHECK(b.state() == breaker_state::closed);
    CHECK(b.counts() == tidegate::core::call_counts{5, 4, 0});
    fail(b);
    CHECK(b.state() == breaker_state::open);
}

TEST_CASE("slow calls trip it although they succeed") {
    breaker b(quick().slow_call_rate(50, 100ms));
    for (int i = 0; i < 2; ++i) {
        auto slow = b.try_acquire();
        test_clock::advance(100ms);
        slow.success();
        succeed(b);
    }
    CHECK(b.state() == breaker_state::open);
}

TEST_CASE("a time window forgets what is older") {
    breaker b(quick().time_window(10s, 10));
    fail(b, 3);
    test_clock::advance(11s);
    fail(b, 3);
    CHECK(b.state() == breaker_state::closed);
    CHECK(b.counts().calls == 3);
    fail(b);
    CHECK(b.state() == breaker_state::open);
}

TEST_CASE("a result from before the trip never counts after it") {
    breaker b(quick());
    std::vector<breaker::permit> late;
    for (int i = 0; i < 20; ++i) late.push_back(b.try_acquire());
    fail(b, 4);
    CHECK(b.state() == breaker_state::open);
    for (int i = 0; i < 10; ++i) late[static_cast<std::size_t>(i)].success();
    test_clock::advance(1s);
    auto probe = b.try_acquire();
    CHECK(b.state() == breaker_state::half_open);
    for (int i = 10; i < 20; ++i) {
        if (i % 2) late[static_cast<std::size_t>(i)].failure();
        else late[static_cast<std::size_t>(i)].success();
    }
    CHECK(b.state() == breaker_state::half_open);
    CHECK(b.counts().calls == 0);
    probe.success();
    CHECK(b.counts().calls == 1);
}

TEST_CASE("a probe that is cancelled is no evidence, and another one may go") {
    breaker b(quick());
    fail(b, 4);
    test_clock::advance(1s);
    for (int i = 0; i < 10; ++i) {
        auto probe = b.try_acquire();
        REQUIRE(probe);
        // goes without a report
    }
    CHECK(b.state() == breaker_state::half_open);
    succeed(b, 2);
    CHECK(b.state() == breaker_state::closed);
}

TEST_CASE("a probe that hangs is forgotten in time, and ignored when it comes back") {
    breaker b(quick().permitted_probes(1).probe_timeout(5s));
    fail(b, 4);
    test_clock::advance(1s);
    auto hung = b.try_acquire();
    REQUIRE(hung);
    CHECK_FALSE(b.try_acquire());
    CHECK(b.retry_after() == 1s); // most probes do not hang: ask again after the time it was open
    test_clock::advance(5s);
    auto next = b.try_acquire();
    CHECK(next);
    hung.failure();
    CHECK(b.state() == breaker_state::half_open);
    next.success();
    CHECK(b.state() == breaker_state::closed);
}

TEST_CASE("a probe that comes back too late is not believed, even if no other has gone") {
    breaker b(quick().permitted_probes(1).probe_timeout(5s));
    fail(b, 4);
    test_clock::advance(1s);
    auto hung = b.try_acquire();
    test_clock::advance(5s);
    hung.success();
    CHECK(b.state() == breaker_state::half_open);
    CHECK(b.retry_after() == 0s);
}

TEST_CASE("who fails amid the ramp has not recovered") {
    breaker b(quick().permitted_probes(1).open_growth(2, 1min).ramp({0.5}, 10s));
    fail(b, 4);
    test_clock::advance(1s);
    succeed(b);
    test_clock::advance(5s);
    fail(b, 8);
    CHECK(b.retry_after() == 2s);
}

TEST_CASE("the open time grows while it does not recover, and starts over when it has") {
    breaker b(quick().open_growth(2, 3s).permitted_probes(1));
    fail(b, 4);
    CHECK(b.retry_after() == 1s);
    test_clock::advance(1s);
    fail(b);
    CHECK(b.retry_after() == 2s);
    test_clock::advance(2s);
    fail(b);
    CHECK(b.retry_after() == 3s); // the cap
    test_clock::advance(3s);
    succeed(b);
    fail(b, 4); // closed, but not for long
    CHECK(b.retry_after() == 3s);
    test_clock::advance(3s);
    succeed(b);
    test_clock::advance(3s);
    fail(b, 4);
    CHECK(b.retry_after() == 1s);
}

TEST_CASE("an open time that is longer than what it may grow to is kept") {
    breaker b(quick().open_duration(1h));
    b.trip();
    CHECK(b.retry_after() == 1h);
}

TEST_CASE("a failure may ask to be left alone for longer") {
    breaker b(quick());
    fail(b, 3);
    b.try_acquire().failure({}, 7s);
    CHECK(b.retry_after() == 7s);
}

TEST_CASE("a failure may ask to be left alone for ever, by a coarse clock too") {
    struct coarse_clock {
        using duration = std::chrono::microseconds;
        using time_point = std::chrono::time_point<coarse_clock>;
        static time_point now() { return time_point(1h); }
    };
    tidegate::basic_circuit_breaker<coarse_clock> b(options().consecutive_failures(1));
    b.try_acquire().failure({}, coarse_clock::duration::max());
    CHECK(b.retry_after() > 24h);
}

TEST_CASE("after a recovery a ramp lets through a growing share") {
    breaker b(
        quick().permitted_probes(1).ramp({0.1, 0.5}, 10s).count_window(1000).minimum_calls(100));
    for (int i = 0; i < 100; ++i) fail(b);
    test_clock::advance(1s);
    succeed(b);
    CHECK(b.state() == breaker_state::closed);
    auto admitted = [&] {
        int n = 0;
        for (int i = 0; i < 1000; ++i) {
            auto permit = b.try_acquire();
            n += bool(permit);
            permit.success();
        }
        return n;
    };
    CHECK(admitted() == 100);
    test_clock::advance(10s);
    CHECK(admitted() == 500);
    test_clock::advance(10s);
    CHECK(admitted() == 1000);
}

TEST_CASE("an operator can force, disable and watch it") {
    breaker b(quick());
    b.force_open();
    CHECK_FALSE(b.try_acquire());
    CHECK(b.retry_after() == test_clock::duration::max());
    test_clock::advance(1h);
    CHECK_FALSE(b.try_acquire());
    b.disable();
    fail(b, 100);
    CHECK(b.state() == breaker_state::disabled);
    b.metrics_only();
    fail(b, 100);
    CHECK(b.state() == breaker_state::metrics_only);
    CHECK(b.counts() == tidegate::core::call_counts{10, 10, 0});
    b.close();
    CHECK(b.counts().calls == 0);
    b.trip();
    CHECK(b.retry_after() == 1s);
    CHECK(tidegate::to_string(b.state()) == "open");
}

TEST_CASE("while all probes are out, callers are not told to wait for the end of the leases") {
    breaker b(quick().permitted_probes(1).probe_timeout(60s));
    fail(b, 10);
    REQUIRE(b.state() == breaker_state::open);
    test_clock::advance(1s);
    auto probe = b.try_acquire();
    REQUIRE(probe);
    CHECK_FALSE(b.try_acquire());
    CHECK(b.retry_after() == 1s); // as long as it was open
    test_clock::advance(59500ms);
    CHECK(b.retry_after() == 500ms); // the lease ends sooner
    probe.success();
    CHECK(b.retry_after() == 0s);
}

TEST_CASE("changing the settings keeps the state and, where the shape allows, the window") {
    breaker b(quick());
    fail(b, 3);
    b.reconfigure(quick().failure_rate(80));
    CHECK(b.counts().failures == 3);
    b.reconfigure(quick().count_window(20));
    CHECK(b.counts().calls == 0);
    fail(b, 4);
    REQUIRE(b.state() == breaker_state::open);
    b.reconfigure(quick().open_duration(1ms));
    CHECK(b.state() == breaker_state::open);
    CHECK(b.retry_after() == 1s);
    test_clock::advance(1s);
    auto probe = b.try_acquire();
    b.reconfigure(quick().permitted_probes(1));
    CHECK(b.state() == breaker_state::half_open);
    CHECK_FALSE(b.try_acquire()); // that probe is the one
    probe.success();
    CHECK(b.state() == breaker_state::closed);
}

TEST_CASE("changing the settings while probes are out does not let more of them out") {
    breaker b(quick());
    fail(b, 4);
    test_clock::advance(1s);
    std::vector<breaker::permit> out;
    for (int i = 0; i < 50; ++i) {
        while (auto permit = b.try_acquire()) out.push_back(std::move(permit));
        b.reconfigure(quick().probe_timeout(60s + std::chrono::seconds(i)));
    }
    CHECK(out.size() == 2);
}

TEST_CASE("calls that began before the rule about slow calls are not slow") {
    breaker b(quick());
    std::vector<breaker::permit> out;
    for (int i = 0; i < 4; ++i) out.push_back(b.try_acquire());
    b.reconfigure(quick().slow_call_rate(50, 100ms));
    for (auto& permit : out) permit.success();
    CHECK(b.counts() == tidegate::core::call_counts{4, 0, 0});
    CHECK(b.state() == breaker_state::closed);
}

TEST_CASE("a window that was not in use is empty when it comes back") {
    breaker b(quick());
    fail(b, 3);
    b.reconfigure(quick().time_window(10s));
    succeed(b, 50);
    b.reconfigure(quick());
    CHECK(b.counts().calls == 0);
    b.reconfigure(quick().consecutive_failures(5));
    fail(b, 4);
    CHECK(b.counts() == tidegate::core::call_counts{4, 4, 0});
    b.reconfigure(quick());
    succeed(b, 20);
    b.reconfigure(quick().consecutive_failures(5));
    fail(b, 4);
    CHECK(b.state() == breaker_state::closed);
}

TEST_CASE("listeners hear every transition once, in order, and may use the breaker") {
    std::vector<std::string> heard;
    breaker* self = nullptr;
    bool inside = false;
    breaker b(quick().on_transition([&](breaker_state from, breaker_state to) {
        CHECK_FALSE(inside);
        inside = true;
        heard.push_back(std::string(to_string(from)) + ">" + std::string(to_string(to)));
        if (to == breaker_state::open && heard.size() == 1) {
            self->force_open();
            self->close();
        }
        inside = false;
    }));
    self = &b;
    fail(b, 4);
    CHECK(heard ==
          std::vector<std::string>{"closed>open", "open>forced_open", "forced_open>closed"});
}

TEST_CASE("a listener that throws is reported and loses nothing") {
    int thrown = 0, rejected = 0;
    breaker b(quick()
                  .on_transition([](breaker_state, breaker_state) { throw 1; })
                  .on_rejected([&] {
                      ++rejected;
                      throw 2;
                  })
                  .on_exception([&](std::exception_ptr) { ++thrown; }));
    fail(b, 4);
    CHECK(b.state() == breaker_state::open);
    CHECK_FALSE(b.try_acquire());
    CHECK(rejected == 1);
    CHECK(thrown == 2);
}

TEST_CASE("what a listener throws is said on stderr, unless there is somebody to tell") {
    breaker b(quick()
                  .on_transition(
                      [](breaker_state, breaker_state) { throw std::runtime_error("no listener"); })
                  .on_rejected([] { throw 2; }));
    test::captured_stderr said;
    fail(b, 4);
    CHECK(said.text() == "tidegate: a circuit breaker's listener threw: no listener\n");
    CHECK_FALSE(b.try_acquire());
    CHECK(said.text().ends_with("listener threw an unknown exception\n"));
    std::string told;
    breaker other(quick()
                      .on_transition([](breaker_state, breaker_state) {
                          throw std::runtime_error("no listener");
                      })
                      .on_exception([&](std::exception_ptr e) {
                          try {
                              std::rethrow_exception(e);
                          } catch (std::exception const& why) {
                              told = why.what();
                          }
                      }));
    std::string const before = said.text();
    fail(other, 4);
    CHECK(told == "no listener");
    CHECK(said.text() == before);
}

TEST_CASE("a success counts at the time that it is told with") {
    breaker b(quick().slow_call_rate(50, 10ms));
    auto const began = test_clock::now();
    for (int i = 0; i < 2; ++i) {
        auto quick_one = b.try_acquire(), slow_one = b.try_acquire();
        quick_one.success(began + 9ms);
        CHECK_FALSE(quick_one);
        slow_one.success(began + 11ms);
    }
    CHECK(b.state() == breaker_state::open); // 2 of 4 were slow
}

TEST_CASE("a state that is none has a name, too") {
    CHECK(to_string(static_cast<breaker_state>(99)) == "unknown");
}

TEST_CASE("threads never have more probes out than permitted", "[stress]") {
    std::size_t const rounds = std::max<std::size_t>(1, test::schedules() / 4000);
    for (std::size_t round = 0; round < rounds; ++round) {
        tidegate::circuit_breaker b(options()
                                        .consecutive_failures(1)
                                        .open_duration(1ns)
                                        .jitter(0)
                                        .permitted_probes(3)
                                        .probe_timeout(24h));
        std::atomic<int> out{0};
        std::atomic<bool> too_many{false};
        std::vector<std::thread> threads;
        for (std::uint64_t t = 0; t < 3; ++t) {
            threads.emplace_back([&, t] {
                test::random random(round * 8 + t);
                for (int i = 0; i < 3000; ++i) {
                    auto permit = b.try_acquire();
                    if (!permit) continue;
                    bool const probe = b.state() == breaker_state::half_open;
                    if (probe && ++out > 6) too_many = true; // of this era and the one before
                    if (random() % 8) std::this_thread::yield();
                    if (probe) --out;
                    switch (random() % 3) {
                    case 0: permit.failure(); break;
                    case 1: permit.success(); break;
                    case 2: permit.ignore(); break;
                    }
                }
            });
        }
        for (auto& thread : threads) thread.join();
        CHECK_FALSE(too_many);
        // Nothing is stuck: it recovers.
        for (int i = 0; i < 1000 && b.state() != breaker_state::closed; ++i) {
            b.try_acquire().success();
        }
        CHECK(b.state() == breaker_state::closed);
    }
}

TEST_CASE("threads that report, force and reconfigure leave a breaker that works") {
    tidegate::circuit_breaker b(options().count_window(50).minimum_calls(10).open_duration(1us));
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            test::random random(t);
            for (int i = 0; i < 5000; ++i) {
                switch (random() % 64) {
                case 0: b.force_open(); break;
                case 1: b.close(); break;
                case 2: b.metrics_only(); break;
                case 3: b.reconfigure(options().count_window(10 + random() % 50)); break;
                case 4: static_cast<void>(b.retry_after()); break;
                case 5: static_cast<void>(b.counts()); break;
                default: {
                    auto permit = b.try_acquire();
                    if (random() % 3) permit.success();
                    else permit.failure();
                }
                }
            }
        });
    }
    for (auto& thread : threads) thread.join();
    b.close();
    for (int i = 0; i < 100; ++i) b.try_acquire().success();
    CHECK(b.state() == breaker_state::closed);
    CHECK(b.counts().failures == 0);
}

TEST_CASE("settings out of range are refused with the option, the value and the range") {
    CHECK_THROWS_AS(options().failure_rate(0), std::invalid_argument);
    CHECK_THROWS_AS(options().failure_rate(100.5), std::invalid_argument);
    CHECK_THROWS_AS(options().slow_call_rate(50, 0s), std::invalid_argument);
    CHECK_THROWS_AS(options().count_window(0), std::invalid_argument);
    CHECK_THROWS_AS(options().time_window(0s), std::invalid_argument);
    CHECK_THROWS_AS(options().time_window(5ns, 6), std::invalid_argument);
    CHECK_THROWS_AS(options().open_duration(-1s), std::invalid_argument);
    CHECK_THROWS_AS(options().open_growth(0.5), std::invalid_argument);
    CHECK_THROWS_AS(options().jitter(1), std::invalid_argument);
    CHECK_THROWS_AS(options().ramp({0.0}, 1s), std::invalid_argument);
    CHECK_THROWS_MATCHES(
        options().permitted_probes(0), std::invalid_argument,
        Catch::Matchers::Message(
            "tidegate: circuit_breaker permitted_probes is 0, allowed is 1 to 10000"));
}
