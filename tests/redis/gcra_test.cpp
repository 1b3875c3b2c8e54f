// SPDX-License-Identifier: BSL-1.0
// The script that keeps a bucket in Redis, beside a bucket that is exact.
#include "redis/support.hpp"
#include "support/stress.hpp"

#include <tidegate/redis/detail/gcra.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <string>

using namespace std::chrono_literals;
using test::client;
using test::redis_server;
using tidegate::redis::detail::fine_time;
using tidegate::redis::detail::gcra_action;
using tidegate::redis::detail::gcra_answer;
using tidegate::redis::detail::gcra_limit;

namespace {

__extension__ using wide = __int128;

struct limit {
    std::uint64_t permits;
    std::int64_t per_ns;
    std::uint64_t burst;

    fine_time permit() const {
        return fine_time::of_permit(permits, static_cast<std::uint64_t>(per_ns));
    }
    gcra_limit asking(std::string key, std::uint64_t n) const {
        return {std::move(key), n * permit(), burst * permit()};
    }
};

/// When the bucket is full, in nanoseconds times permits: nothing is rounded.
class exact_bucket {
public:
    explicit exact_bucket(limit const& l) : limit_(l) {}

    /// How many microseconds too early `n` permits are, rounded up.
    wide wait(std::int64_t now_us, std::uint64_t n) const {
        wide const unit = wide(1000) * wide(limit_.permits);
        wide const late = std::max(full_, now(now_us)) + cost(n) - now(now_us) - cost(limit_.burst);
        return late > 0 ? (late + unit - 1) / unit : 0;
    }
    void take(std::int64_t now_us, std::uint64_t n) {
        full_ = std::max(full_, now(now_us)) + cost(n);
    }
    void refund(std::int64_t now_us, std::uint64_t n) {
        full_ = std::max(full_, now(now_us)) - cost(n);
    }

private:
    wide now(std::int64_t us) const { return wide(us) * 1000 * wide(limit_.permits); }
    wide cost(std::uint64_t n) const { return wide(n) * limit_.per_ns; }

    limit limit_;
    wide full_ = 0;
};

/// The script with its clock in the test's hands.
class timed_script {
public:
    explicit timed_script(client& c) : client_(c), text_(tidegate::redis::detail::gcra_script) {
        replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}");
        replace("math.ceil((full - now) / 1000) + 1", "3600000"); // Redis' own clock runs on
    }

    gcra_answer operator()(gcra_action action, gcra_limit const& l, std::int64_t now_us) {
        static constexpr char const* names[] = {"take", "peek", "refund"};
        std::vector<std::string> words{"EVAL", text_, "1", l.key,
                                       names[static_cast<std::size_t>(action)]};
        for (auto const number : {l.cost.micros, l.cost.part, l.burst.micros, l.burst.part})
            words.push_back(std::to_string(number));
        words.push_back(std::to_string(now_us / 1'000'000));
        words.push_back(std::to_string(now_us % 1'000'000));
        tidegate::redis::detail::replies said{
            client_.run(test::ask(client_.redis, std::move(words)))};
        INFO((said.nodes.empty() ? "nothing" : said.nodes.front().value));
        auto const answer = tidegate::redis::detail::read_gcra(said);
        REQUIRE(answer);
        return *answer;
    }

private:
    void replace(std::string_view what, std::string_view with) {
        auto const at = text_.find(what);
        REQUIRE(at != std::string::npos);
        text_.replace(at, what.size(), with);
    }

    client& client_;
    std::string text_;
};

constexpr std::int64_t start_us = 1'800'000'000'000'000;

} // namespace

TEST_CASE("Redis calls the script by the name that the library uses") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    auto const said = c.run(
        test::ask(c.redis, {"SCRIPT", "LOAD", std::string(tidegate::redis::detail::gcra_script)}));
    CHECK(said.at(0).value == tidegate::redis::detail::gcra_sha);
}

TEST_CASE("A permit's time is exact, or too long by less than a femtosecond") {
    auto const time = [](std::uint64_t permits, std::chrono::nanoseconds per) {
        return fine_time::of_permit(permits, static_cast<std::uint64_t>(per.count()));
    };
    CHECK(time(100'000, 1s).micros == 10);
    CHECK(time(100'000, 1s).part == 0);
    CHECK(time(300'000, 1s).micros == 3);
    CHECK(time(300'000, 1s).part == 333'333'334);
    CHECK(time(1'000'000'000, 1s).part == 1'000'000);
    CHECK(time(1, 24h).micros == 86'400'000'000);
    CHECK(time(1, std::chrono::nanoseconds(std::int64_t{1} << 62)).micros == 4'611'686'018'427'387);
    CHECK((std::uint64_t{3} * time(300'000, 1s)).micros == 10);
    CHECK((std::uint64_t{3} * time(300'000, 1s)).part == 2);
    test::random r(7);
    for (int i = 0; i < 2000; ++i) {
        std::uint64_t const per = 1 + r() % (std::uint64_t{1} << (1 + r() % 61));
        std::uint64_t const permits = 1 + r() % per;
        auto const t = fine_time::of_permit(permits, per);
        wide const scaled = (wide(t.micros) * fine_time::parts + wide(t.part)) * wide(permits);
        wide const exact = wide(per) * 1'000'000;
        CHECK((scaled >= exact && scaled - exact < wide(permits)));
        CHECK(t.part < fine_time::parts);
    }
}

TEST_CASE("The script agrees with an exact bucket within a microsecond") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    timed_script script(c);
    limit const limits[] = {{100'000, 1'000'000'000, 100},
                            {333'333, 1'000'000'000, 5},
                            {1'000'000'000, 1'000'000'000, 1000},
                            {7, 1'000'000'000, 3},
                            {1, 86'400'000'000'000, 1},
                            {997, 3'600'000'000'000, 50},
                            {8000, 1'000'000'000, 1}};
    test::random r(20261121);
    int which = 0;
    for (limit const& l : limits) {
        std::string const key = "trace" + std::to_string(which++);
        exact_bucket bucket(l);
        std::int64_t now = start_us;
        auto const each_us =
            std::max<std::int64_t>(1, l.per_ns / 1000 / static_cast<std::int64_t>(l.permits));
        int granted = 0, wrong = 0;
        for (int i = 0; i < 600; ++i) {
            now += static_cast<std::int64_t>(test::below(r, static_cast<std::size_t>(2 * each_us)));
            auto const n = 1 + test::below(r, std::min<std::size_t>(l.burst, 4));
            auto const exact = bucket.wait(now, n);
            auto const answer = script(gcra_action::take, l.asking(key, n), now);
            wide const off = wide(answer.wait_micros) - exact;
            if (off < -1 || off > 1) ++wrong;
            if (answer.granted != (answer.wait_micros == 0)) ++wrong;
            if (!answer.granted) continue;
            ++granted;
            bucket.take(now, n);
            if (test::below(r, 8) > 0) continue;
            script(gcra_action::refund, l.asking(key, n), now);
            bucket.refund(now, n);
        }
        INFO(l.permits << " a period of " << l.per_ns << " ns: " << granted << " granted");
        CHECK(wrong == 0);
        CHECK(granted > 100);
    }
}

TEST_CASE("Whoever waits as long as told is granted, and not a microsecond before") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    timed_script script(c);
    for (limit const& l : {limit{100'000, 1'000'000'000, 3}, limit{3, 1'000'000'000, 3},
                           limit{1, 60'000'000'000, 1}}) {
        auto const ask = l.asking("patient" + std::to_string(l.permits), 1);
        for (std::uint64_t i = 0; i < l.burst; ++i)
            CHECK(script(gcra_action::take, ask, start_us).granted);
        std::int64_t now = start_us;
        for (int i = 0; i < 20; ++i) {
            auto const wait =
                static_cast<std::int64_t>(script(gcra_action::take, ask, now).wait_micros);
            REQUIRE(wait > 0);
            CHECK(script(gcra_action::peek, ask, now + wait - 1).wait_micros == 1);
            now += wait;
            CHECK(script(gcra_action::take, ask, now).granted);
        }
    }
}

TEST_CASE("A clock that steps back holds up no longer than a burst takes, and grants nothing") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    timed_script script(c);
    limit const l{10, 1'000'000'000, 5};
    auto const ask = l.asking("back", 1);
    for (int i = 0; i < 5; ++i) CHECK(script(gcra_action::take, ask, start_us).granted);
    std::int64_t const before = start_us - 3'600'000'000;
    CHECK(script(gcra_action::take, ask, before).wait_micros == 100'000);
    CHECK(script(gcra_action::take, l.asking("back", 5), before).wait_micros == 500'000);
    CHECK(script(gcra_action::take, ask, before + 100'000).granted);
    CHECK(script(gcra_action::take, ask, before + 100'000).wait_micros == 100'000);
}

TEST_CASE("A bucket that was made smaller is empty at worst") {
    NEEDS_REDIS();
    redis_server server;
    client c(server);
    timed_script script(c);
    limit const large{10, 1'000'000'000, 100};
    limit const small{10, 1'000'000'000, 5};
    CHECK(script(gcra_action::take, large.asking("key", 60), start_us).granted);
    CHECK(script(gcra_action::peek, small.asking("key", 1), start_us).wait_micros == 100'000);
    CHECK(script(gcra_action::peek, large.asking("key", 40), start_us).granted);
    CHECK_FALSE(script(gcra_action::peek, large.asking("key", 41), start_us).granted);
    CHECK(script(gcra_action::take, small.asking("key", 1), start_us).wait_micros == 100'000);
    CHECK(script(gcra_action::take, small.asking("key", 1), start_us + 100'000).granted);
}
