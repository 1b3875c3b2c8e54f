// SPDX-License-Identifier: BSL-1.0
// Measurements: all of them counted, under their own names.
#include <tidegate/monitor.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <optional>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;
using clock_type = tidegate::testing::manual_clock;

TEST_CASE("a timer records from its making to its end, or to its stop") {
    tidegate::basic_monitor<clock_type> monitor;
    {
        auto const to_the_end = monitor.measure("a");
        auto stopped = monitor.measure("b");
        auto discarded = monitor.measure("c");
        clock_type::advance(3ms);
        stopped.stop();
        discarded.discard();
        clock_type::advance(4ms);
    }
    auto const all = monitor.summary();
    REQUIRE(all.size() == 3);
    CHECK(all[0].name == "a");
    CHECK(all[0].max == 7ms);
    CHECK(all[1].max == 3ms);
    CHECK(all[1].count == 1);
    CHECK(all[2].count == 0);
}

TEST_CASE("a timer that moved records once, on whichever thread it ends") {
    tidegate::basic_monitor<clock_type> monitor;
    auto timer = monitor.measure("hop");
    std::thread([moved = std::move(timer)]() mutable { moved.stop(); }).join();
    REQUIRE(monitor.summary().size() == 1);
    CHECK(monitor.summary()[0].count == 1);
}

TEST_CASE("summaries tell count, total, mean and percentiles") {
    tidegate::monitor monitor;
    for (int i = 1; i <= 100; ++i) monitor.record("x", i * 1ms);
    monitor.record("x", -1ms); // counted apart
    auto const x = monitor.summary()[0];
    CHECK(x.count == 100);
    CHECK(x.invalid == 1);
    CHECK(x.total == 5050ms);
    CHECK(x.mean == 50500us);
    CHECK(x.min == 1ms);
    CHECK(x.max == 100ms);
    CHECK(x.p50 > 49ms);
    CHECK(x.p50 < 51ms);
    CHECK(x.p99 > 98ms);
    CHECK(x.p99 <= x.max);
}

TEST_CASE("durations that are none are counted, however their runs ended") {
    tidegate::monitor monitor;
    for (std::size_t i = 0; i < tidegate::operation_outcomes; ++i) {
        auto const outcome = static_cast<tidegate::operation_outcome>(i);
        INFO(to_string(outcome));
        monitor.record("x", -1ns, outcome);
        CHECK(monitor.summary()[0].invalid == i + 1);
    }
    auto const x = monitor.summary()[0];
    CHECK(x.count + x.errors + x.cancelled + x.timed_out + x.abandoned == 0);
}

TEST_CASE("threads lose no record") {
    tidegate::monitor monitor;
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 5000; ++i) monitor.record(i % 2 ? "odd" : "even", 1us);
        });
    }
    threads.clear();
    for (auto const& s : monitor.summary()) CHECK(s.count == 10000);
}

TEST_CASE("a timer that is copied by fork() counts in each process once") {
    tidegate::basic_monitor<clock_type> monitor;
    {
        auto const before = monitor.measure("a");
    }
    auto running = std::make_optional(monitor.measure("a"));
    ::pid_t const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(30); // should it hang
        running.reset();
        {
            auto const own = monitor.measure("b");
        }
        auto const all = monitor.summary();
        ::_exit(all.size() == 2 && all[0].count == 2 && all[1].count == 1 ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(monitor.summary()[0].count == 1);
    running.reset();
    auto const all = monitor.summary();
    REQUIRE(all.size() == 1);
    CHECK(all[0].count == 2);
}
