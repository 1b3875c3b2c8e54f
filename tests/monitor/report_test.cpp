// SPDX-License-Identifier: BSL-1.0
// Windows, reports, and what else a monitor keeps.
#include <tidegate/monitor.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include "support/captured_stderr.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using clock_type = tidegate::testing::manual_clock;
using monitor = tidegate::basic_monitor<clock_type>;
using tidegate::monitor_options;
using tidegate::monitor_report;

namespace {

// Lets time pass in small steps, so that whoever waits has its turn.
void pass(asio::io_context& io, std::chrono::seconds time) {
    for (auto left = time; left > 0s; left -= 1s) {
        clock_type::advance(1s);
        io.restart();
        io.poll();
    }
}

} // namespace

TEST_CASE("a window has what was recorded in it") {
    monitor m;
    m.record("x", 1ms);
    CHECK(m.summary(10s)[0].count == 1);
    clock_type::advance(11s);
    m.record("x", 3ms);
    m.record("x", 1ms, tidegate::operation_outcome::error);
    auto const ten = m.summary(10s)[0];
    CHECK(ten.count == 1);
    CHECK(ten.errors == 1);
    CHECK(ten.p50 > 2990us);
    CHECK(m.summary(60s)[0].count == 2);
    clock_type::advance(500s);
    CHECK(m.summary(300s)[0].count == 0);
    CHECK(m.summary()[0].count == 2);
    CHECK_THROWS_AS(m.summary(301s), std::invalid_argument);
    CHECK_THROWS_AS(m.summary(999ms), std::invalid_argument);
}

TEST_CASE("reports come in time, whatever their sink does, until they are cancelled") {
    asio::io_context io;
    std::vector<std::string> thrown;
    monitor m(monitor_options().on_exception([&](std::exception_ptr e) {
        try {
            std::rethrow_exception(e);
        } catch (std::exception const& why) {
            thrown.push_back(why.what());
        }
    }));
    std::vector<std::uint64_t> recent, all;
    auto sink = [&](monitor_report const& report) {
        recent.push_back(report.recent.at(0).count);
        all.push_back(report.all.at(0).count);
        CHECK(report.period == 10s);
        CHECK(report.memory.has_value());
        CHECK(report.memory_delta.has_value());
        if (recent.size() == 2) throw std::domain_error("sink");
    };
    asio::cancellation_signal signal;
    std::exception_ptr ended;
    asio::co_spawn(
        io, m.report_every(10s, sink),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { ended = e; }));
    io.poll();
    for (int i = 0; i < 3; ++i) {
        m.record("x", 1ms);
        pass(io, 10s);
    }
    CHECK(recent == std::vector<std::uint64_t>{1, 1, 1});
    CHECK(all == std::vector<std::uint64_t>{1, 2, 3});
    CHECK(thrown == std::vector<std::string>{"sink"});
    signal.emit(asio::cancellation_type::all);
    io.restart();
    io.poll();
    REQUIRE(ended);
    CHECK_THROWS_AS(std::rethrow_exception(ended), boost::system::system_error);
    CHECK_THROWS_AS(m.report_every(0s, sink), std::invalid_argument);
}

TEST_CASE("what a sink throws is said on stderr, unless there is somebody to tell") {
    asio::io_context io;
    monitor m;
    int reports = 0;
    auto sink = [&](monitor_report const&) {
        if (++reports == 1) throw std::domain_error("sink");
        throw 2;
    };
    asio::cancellation_signal signal;
    asio::co_spawn(io, m.report_every(10s, sink),
                   asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    io.poll();
    test::captured_stderr const said;
    pass(io, 10s);
    CHECK(said.text() == "tidegate: a monitor's sink threw: sink\n");
    pass(io, 10s);
    CHECK(said.text().ends_with(": sink\ntidegate: a monitor's sink threw\n"));
    signal.emit(asio::cancellation_type::all);
    io.restart();
    io.poll();
}

TEST_CASE("a sink that is cancelled while it reports is the last, and what it throws is not told") {
    asio::io_context io;
    int told = 0, reports = 0;
    monitor m(monitor_options().on_exception([&](std::exception_ptr) { ++told; }));
    asio::cancellation_signal signal;
    auto sink = [&](monitor_report const&) {
        ++reports;
        signal.emit(asio::cancellation_type::terminal);
        throw std::domain_error("cancelled");
    };
    std::exception_ptr ended;
    asio::co_spawn(
        io, m.report_every(10s, sink),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) { ended = e; }));
    io.poll();
    pass(io, 20s);
    REQUIRE(ended);
    CHECK_THROWS_AS(std::rethrow_exception(ended), boost::system::system_error);
    CHECK(reports == 1);
    CHECK(told == 0);
}

TEST_CASE("outcomes have names") {
    using tidegate::operation_outcome;
    CHECK(to_string(operation_outcome::ok) == "ok");
    CHECK(to_string(operation_outcome::error) == "error");
    CHECK(to_string(operation_outcome::cancelled) == "cancelled");
    CHECK(to_string(operation_outcome::timed_out) == "timed_out");
    CHECK(to_string(operation_outcome::abandoned) == "abandoned");
}

TEST_CASE("a sink may be a coroutine, and may end after the monitor") {
    asio::io_context io;
    auto m = std::make_unique<monitor>();
    m->record("x", 1ms);
    int reports = 0;
    auto sink = [&](monitor_report const&) -> asio::awaitable<void> {
        auto pause = tidegate::sleep_for<clock_type>(3s);
        co_await std::move(pause);
        ++reports;
    };
    asio::cancellation_signal signal;
    asio::co_spawn(io, m->report_every(10s, sink),
                   asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    io.poll();
    pass(io, 25s);
    CHECK(reports == 2);
    m.reset();
    signal.emit(asio::cancellation_type::all);
    io.restart();
    io.run();
}

TEST_CASE("names made from user input share one operation when there are too many") {
    monitor m(monitor_options().max_operations(3));
    for (int i = 0; i < 100; ++i) m.record("user " + std::to_string(i), 1ms);
    auto const all = m.summary();
    REQUIRE(all.size() == 4);
    CHECK(all[0].name == "(other)");
    CHECK(all[0].count == 97);
    CHECK_THROWS_AS(monitor_options().max_operations(0), std::invalid_argument);
}

TEST_CASE("the last operations are kept one by one") {
    monitor m(monitor_options().keep_last(2));
    m.record("a", 1ms);
    m.record("b", 2ms, tidegate::operation_outcome::timed_out);
    m.record("c", 3ms);
    auto const last = m.last_operations();
    REQUIRE(last.size() == 2);
    CHECK(last[0].name == "b");
    CHECK(last[0].outcome == tidegate::operation_outcome::timed_out);
    CHECK(last[1].took == 3ms);
    CHECK(monitor().last_operations().empty());
}

TEST_CASE("time in line counts from the intended start, and a freeze for what it held up") {
    monitor m;
    auto const intended = clock_type::now();
    clock_type::advance(90ms);
    {
        auto const timer = m.measure("x", intended);
        clock_type::advance(10ms);
    }
    CHECK(m.summary()[0].max == 100ms);
    m.record_corrected("y", 10s, 10ms);
    CHECK(m.summary()[1].count == 1000);
}

TEST_CASE("hits, misses and memory are kept") {
    monitor m;
    for (int i = 0; i < 3; ++i) m.hit("cache");
    m.miss("cache");
    CHECK(m.summary()[0].hit_ratio() == 0.75);
    std::vector<char> large;
    {
        auto const scope = m.measure_memory("load");
        large.assign(32 << 20, 'x');
    }
    auto const load = m.operation("load").name();
    auto const all = m.summary();
    REQUIRE(all.size() == 2);
    REQUIRE(all[1].memory);
    CHECK(all[1].memory->count == 1);
    CHECK(all[1].memory->last > 30 << 20);
    CHECK(all[1].memory->last < 1 << 30);
    CHECK(all[1].memory->total == all[1].memory->last);
    CHECK(large.back() == 'x');
    auto const now = tidegate::read_memory_usage();
    REQUIRE(now);
    CHECK(now->resident > 30u << 20);
    CHECK(now->virtual_ >= now->resident);
    CHECK(now->percent() > 0);
    CHECK(now->percent() < 100);
    CHECK(now->available < now->total);
}
