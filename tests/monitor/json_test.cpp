// SPDX-License-Identifier: BSL-1.0
// Reports as others read them.
#include <tidegate/json.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/src.hpp>

#include <string>

using namespace std::chrono_literals;

TEST_CASE("a report becomes JSON with base units, and only what is known") {
    tidegate::monitor_report report;
    report.when = std::chrono::system_clock::time_point(1500ms);
    report.period = 10s;
    tidegate::operation_summary one;
    one.name = "a \"b\"";
    one.count = 2;
    one.p99 = 1500us;
    one.timed_out = 3;
    report.recent.push_back(one);
    one.hits = 3;
    one.misses = 1;
    one.memory = tidegate::memory_growth{1, -5, 7, -5};
    report.all.push_back(one);
    report.memory = tidegate::memory_usage{100, 200, 300, 400};
    report.memory_delta = -20;
    auto const read = boost::json::parse(boost::json::serialize(tidegate::to_json(report)));
    CHECK(read.at("when").as_double() == 1.5);
    CHECK(read.at("period_seconds").as_double() == 10);
    auto const& recent = read.at("recent").at(0).as_object();
    CHECK(recent.at("name") == "a \"b\"");
    CHECK(recent.at("count").to_number<int>() == 2);
    CHECK(recent.at("timed_out").to_number<int>() == 3);
    CHECK(recent.at("p99_seconds").as_double() == 0.0015);
    CHECK_FALSE(recent.contains("hit_ratio"));
    CHECK_FALSE(recent.contains("memory_growth"));
    auto const& all = read.at("all").at(0).as_object();
    CHECK(all.at("hit_ratio").as_double() == 0.75);
    CHECK(all.at("memory_growth").at("last_bytes").to_number<int>() == -5);
    CHECK(read.at("memory").at("percent").as_double() == 25);
    CHECK(read.at("memory_delta_bytes").to_number<int>() == -20);
}

TEST_CASE("a stall becomes JSON with its stack") {
    tidegate::stall one;
    one.number = 3;
    one.duration = 250ms;
    one.cause = tidegate::stall_cause::starved;
    one.system_call = "read(3, 0x1)";
    one.stack = {"inner()", "outer()"};
    auto const read = boost::json::parse(boost::json::serialize(tidegate::to_json(one)));
    CHECK(read.at("duration_seconds").as_double() == 0.25);
    CHECK(read.at("cause") == "starved");
    CHECK(read.at("system_call") == "read(3, 0x1)");
    CHECK(read.at("stack").at(1) == "outer()");
    CHECK_FALSE(read.at("over").as_bool());
}
