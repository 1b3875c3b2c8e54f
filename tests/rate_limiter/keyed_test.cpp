// SPDX-License-Identifier: BSL-1.0
// Limits by key: each its own, in bounded memory, and nothing to gain by being forgotten.
#include <tidegate/keyed_rate_limiter.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include "support/stress.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using tidegate::error;

namespace {

struct keyed_tag;
using test_clock = tidegate::testing::basic_manual_clock<keyed_tag>;

constexpr std::chrono::seconds day = 24h;
constexpr std::chrono::seconds year = 365 * day;

template <class Key>
using limiter =
    tidegate::basic_keyed_rate_limiter<Key, boost::hash<Key>, std::equal_to<Key>, test_clock>;
template <class Key>
using options = tidegate::keyed_rate_limiter_options<Key>;

} // namespace

TEST_CASE("each key has a bucket of its own") {
    limiter<std::string> l(options<std::string>().rate(10, 1s).burst(2));
    CHECK(l.try_acquire("ann", 2));
    CHECK_FALSE(l.try_acquire("ann"));
    CHECK(l.try_acquire("ann").retry_after() == 100ms);
    CHECK(l.try_acquire("bob"));
    CHECK(l.try_acquire("bob", 3).error() == error::invalid_count);
    test_clock::advance(100ms);
    CHECK(l.try_acquire("ann"));
    CHECK_FALSE(l.try_acquire("ann"));
    l.refund("ann");
    CHECK(l.try_acquire("ann"));
    CHECK(l.size() == 2);
}

TEST_CASE("a quota that a key cannot have is refused, and leaves the key unknown") {
    using quota = tidegate::rate_limiter_options;
    std::optional<quota> own;
    limiter<int> l(options<int>().rate(1, 1s).burst(5).quota_of([&](int const&) { return own; }));
    struct {
        char const* name;
        quota value;
    } const wrong[] = {{"warm_up", quota().rate(1, 1s).warm_up(1s)},
                       {"overdraw", quota().rate(1, 1s).overdraw(true)},
                       {"start_empty", quota().rate(1, 1s).start_empty(true)}};
    for (auto const& one : wrong) {
        own = one.value;
        CHECK_THROWS_MATCHES(
            l.try_acquire(1), std::invalid_argument,
            Catch::Matchers::Message("tidegate: keyed_rate_limiter quota_of does not take " +
                                     std::string(one.name)));
        CHECK(l.size() == 0);
    }
    own = quota().rate(1, 1s).burst(7).max_waiters(0);
    CHECK(l.try_acquire(1, 7));
}

TEST_CASE("a key can have a quota of its own") {
    auto own = [](int const& key) -> std::optional<tidegate::rate_limiter_options> {
        if (key < 1000) return std::nullopt;
        return tidegate::rate_limiter_options().rate(1, 1s).burst(static_cast<std::uint64_t>(key));
    };
    limiter<int> l(options<int>().rate(1, 1s).burst(5).quota_of(own));
    CHECK(l.try_acquire(1, 5));
    CHECK(l.try_acquire(1, 6).error() == error::invalid_count);
    CHECK(l.try_acquire(1000, 1000));
    for (int key = 1001; key < 1255; ++key) {
        CHECK(l.try_acquire(key, static_cast<std::uint64_t>(key)));
    }
    CHECK(l.try_acquire(1255, 6).error() == error::invalid_count); // one quota too many
}

TEST_CASE("a refused key is admitted when it was told to come, and not before, years later too") {
    for (std::uint64_t const permits : {1u, 2u, 3u, 7u, 999u}) { // a third and more is not exact
        limiter<int> l(options<int>().rate(permits, 1s).burst(5));
        for (std::chrono::seconds const rest : {1s, 100 * day, 10 * year}) {
            INFO(permits << " permits a second, after " << rest / 1s << " s");
            test_clock::advance(rest);
            CHECK(l.try_acquire(1, 5));
            for (int i = 0; i < 20; ++i) {
                auto const wait = l.try_acquire(1).retry_after();
                test_clock::advance(wait - 1ns);
                CHECK(l.try_acquire(1).retry_after() == 1ns);
                test_clock::advance(1ns);
                CHECK(l.try_acquire(1));
            }
        }
        CHECK(l.size() == 1);
    }
}

TEST_CASE("a clock that goes back holds a key up for the time that fills its bucket") {
    for (std::chrono::seconds const back : {10s, day, 10 * year}) {
        INFO("back by " << back / 1s << " s");
        test_clock::advance(10 * year);
        limiter<int> l(options<int>().rate(3, 1s).burst(6)); // the clock was never earlier
        test_clock::advance(1s);
        CHECK(l.try_acquire(1, 6));
        test_clock::set(test_clock::now() - back);
        CHECK_FALSE(l.try_acquire(1));
        CHECK(l.try_acquire(2, 6)); // a new one
        int admitted = 0;
        for (auto passed = 0ms; passed < 10s; passed += 100ms) {
            test_clock::advance(100ms);
            admitted += bool(l.try_acquire(1));
        }
        CHECK(admitted >= 3 * (10 - 2));
        CHECK(admitted <= 3 * 10);
    }
}

TEST_CASE("a quota whose default burst is out of range is refused") {
    constexpr std::int64_t most = std::int64_t{1} << 53;
    constexpr std::chrono::nanoseconds per(most);
    CHECK_THROWS_MATCHES(
        limiter<int>(options<int>().rate(most, per)), std::invalid_argument,
        Catch::Matchers::Message("tidegate: keyed_rate_limiter burst is 9007199254740992, allowed "
                                 "is 1 to 4503599627370496"));
    auto own = [&](int const&) { return tidegate::rate_limiter_options().rate(most, per); };
    limiter<int> l(options<int>().rate(1, 1s).quota_of(own));
    CHECK_THROWS_AS(l.try_acquire(1), std::invalid_argument);
    CHECK(l.size() == 0);
}

TEST_CASE("memory is bounded, and only full buckets are forgotten") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random random(seed);
        constexpr std::size_t most = 64;
        limiter<std::uint64_t> l(options<std::uint64_t>().rate(1, 1s).burst(3).max_keys(most));
        struct account {
            std::vector<test_clock::time_point> grants;
        };
        std::map<std::uint64_t, account> keys;
        std::size_t refused = 0;
        for (int i = 0; i < 20000; ++i) {
            test_clock::advance(10ms);
            std::uint64_t const key = test::below(random, 400);
            if (l.try_acquire(key)) keys[key].grants.push_back(test_clock::now());
            else ++refused;
            REQUIRE(l.size() <= most);
        }
        CHECK(refused > 0);
        for (auto const& [key, a] : keys) {
            for (std::size_t first = 0; first < a.grants.size(); ++first) {
                for (std::size_t last = first; last < a.grants.size(); ++last) {
                    auto const window = a.grants[last] - a.grants[first];
                    REQUIRE(last - first + 1 <= 3 + static_cast<std::size_t>(window / 1s));
                }
            }
        }
    }
}

TEST_CASE("ten million keys come and go in the room of a thousand") {
    limiter<std::uint64_t> l(options<std::uint64_t>().rate(1000, 1s).burst(1).max_keys(1000));
    std::uint64_t const keys = test::sanitized ? 1'000'000 : 10'000'000;
    std::size_t admitted = 0;
    for (std::uint64_t key = 0; key < keys; ++key) {
        if (key % 64 == 0) test_clock::advance(1ms);
        admitted += bool(l.try_acquire(key));
    }
    CHECK(l.size() <= 1000);
    CHECK(admitted > keys - keys / 100);
}

TEST_CASE("as many keys are remembered as there is room for, however few that are") {
    for (std::size_t const most : {1u, 2u, 7u, 15u, 16u, 17u, 100u, 511u}) {
        INFO(most << " keys");
        limiter<std::size_t> l(options<std::size_t>().rate(1, 1h).burst(1).max_keys(most));
        for (std::size_t key = 0; key < most; ++key) CHECK(l.try_acquire(key));
        for (std::size_t key = 0; key < most; ++key) CHECK_FALSE(l.try_acquire(key));
        CHECK(l.size() == most);
        CHECK_FALSE(l.try_acquire(most));
        CHECK(l.size() == most);
    }
}

TEST_CASE("with many keys the locks fill up evenly") {
    constexpr std::size_t most = 10'000;
    limiter<std::size_t> l(options<std::size_t>().rate(1, 1h).burst(1).max_keys(most));
    std::size_t admitted = 0;
    for (std::size_t key = 0; key < most; ++key) admitted += bool(l.try_acquire(key));
    CHECK(admitted == l.size());
    CHECK(admitted > most * 95 / 100);
}

TEST_CASE("keys without room can share a bucket") {
    limiter<int> l(options<int>().rate(1, 1h).burst(2).max_keys(16).when_full(
        tidegate::when_keys_full::share));
    int admitted = 0;
    for (int key = 0; key < 10'000; ++key) admitted += bool(l.try_acquire(key));
    CHECK(l.size() == 16);
    CHECK(admitted == 16 + 2);
}

TEST_CASE("threads that use the same keys get no more than there is") {
    limiter<int> l(options<int>().rate(1, 24h).burst(50).max_keys(1000));
    std::atomic<int> admitted{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            test::random random(static_cast<std::uint64_t>(t));
            for (int i = 0; i < 20'000; ++i) {
                int const key = static_cast<int>(test::below(random, 50));
                if (l.try_acquire(key)) ++admitted;
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(admitted == 50 * 50);
}

TEST_CASE("several limits are taken together or not at all") {
    boost::asio::io_context io;
    using single = tidegate::basic_rate_limiter<test_clock>;
    single second(io, tidegate::rate_limiter_options().rate(10, 1s));
    single minute(io, tidegate::rate_limiter_options().rate(15, 1min));
    CHECK(tidegate::try_acquire_all(10, second, minute));
    CHECK(second.available() == 0);
    CHECK(minute.available() == 5);
    test_clock::advance(1s);
    auto const refused = tidegate::try_acquire_all(10, second, minute);
    CHECK_FALSE(refused);
    CHECK(refused.error() == error::rate_limited);
    CHECK(refused.retry_after() == 19s); // 4 s a permit, one of them past
    CHECK(second.available() == 10);
    CHECK(minute.available() == 5);
    CHECK(tidegate::try_acquire_all(5, second, minute));
}
