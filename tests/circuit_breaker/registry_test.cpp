// SPDX-License-Identifier: BSL-1.0
// Breakers by name.
#include <tidegate/circuit_breaker_registry.hpp>
#include <tidegate/testing/manual_clock.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using tidegate::breaker_state;
using tidegate::circuit_breaker_registry;

TEST_CASE("a name has one breaker, and no other name shares it") {
    circuit_breaker_registry hosts(tidegate::circuit_breaker_options().consecutive_failures(1));
    auto const a = hosts.get("a.example");
    a->try_acquire().failure();
    CHECK(hosts.get("a.example") == a);
    CHECK(hosts.get("a.example")->state() == breaker_state::open);
    CHECK(hosts.get("b.example")->state() == breaker_state::closed);
    CHECK(hosts.names() == std::vector<std::string>{"a.example", "b.example"});
}

TEST_CASE("a name that comes later may have settings of its own") {
    circuit_breaker_registry hosts;
    auto const fragile =
        hosts.get("fragile", tidegate::circuit_breaker_options().consecutive_failures(1));
    fragile->try_acquire().failure();
    CHECK(fragile->state() == breaker_state::open);
}

TEST_CASE("breakers in use, and those that are not closed, make no room") {
    circuit_breaker_registry hosts(tidegate::circuit_breaker_options().consecutive_failures(1), 3);
    auto const held = hosts.get("held");
    hosts.get("open")->try_acquire().failure();
    static_cast<void>(hosts.get("idle"));
    static_cast<void>(hosts.get("new"));
    CHECK(hosts.names() == std::vector<std::string>{"held", "new", "open"});
    auto const in_use = hosts.get("new");
    CHECK_THROWS_MATCHES(
        hosts.get("one too many"), std::length_error,
        Catch::Matchers::Message("tidegate: circuit_breaker_registry has 3 breakers "
                                 "in use and no room for 'one too many'"));
    CHECK(hosts.get("open")->state() == breaker_state::open);
    CHECK_THROWS_AS(circuit_breaker_registry({}, 0), std::invalid_argument);
}

TEST_CASE("old failures do not keep new names out") {
    circuit_breaker_registry hosts({}, 3);
    for (auto const* name : {"a", "b", "c", "a"}) hosts.get(name)->try_acquire().failure();
    hosts.get("d")->try_acquire().failure();
    CHECK(hosts.names() == std::vector<std::string>{"a", "c", "d"}); // b was asked for longest ago
    CHECK(hosts.get("a")->counts().failures == 2);
    hosts.get("c")->try_acquire().failure();
    static_cast<void>(hosts.get("e"));
    CHECK(hosts.names() == std::vector<std::string>{"a", "c", "e"});
    static_cast<void>(hosts.get("f")); // there is nothing to forget about e
    CHECK(hosts.names() == std::vector<std::string>{"a", "c", "f"});
}

TEST_CASE("settings of one's own are the last to be forgotten") {
    using options = tidegate::circuit_breaker_options;
    circuit_breaker_registry hosts({}, 3);
    static_cast<void>(hosts.get("own", options().count_window(7)));
    hosts.get("changed")->reconfigure(options().count_window(8));
    hosts.get("usual")->try_acquire().failure();
    static_cast<void>(hosts.get("new"));
    CHECK(hosts.names() == std::vector<std::string>{"changed", "new", "own"});
    auto const held = hosts.get("new");
    static_cast<void>(hosts.get("last"));
    CHECK(hosts.names() == std::vector<std::string>{"changed", "last", "new"});
}

TEST_CASE("a breaker that recovers carefully is not forgotten") {
    using namespace std::chrono_literals;
    using options = tidegate::circuit_breaker_options;
    struct tag;
    using clock = tidegate::testing::basic_manual_clock<tag>;
    tidegate::basic_circuit_breaker_registry<clock> hosts(
        options().consecutive_failures(3).open_duration(1s).jitter(0).permitted_probes(1), 1);
    options ramped = options().open_duration(1s).jitter(0).permitted_probes(1).ramp({0.1}, 10s);
    {
        auto const b = hosts.get("b", ramped);
        b->trip();
        clock::advance(1s);
        b->try_acquire().success();
        CHECK(b->state() == breaker_state::closed);
    }
    CHECK_THROWS_AS(hosts.get("c"), std::length_error);
    clock::advance(10s);
    CHECK_THROWS_AS(hosts.get("c"), std::length_error); // its next open time would be longer
    clock::advance(1s);
    CHECK_NOTHROW(hosts.get("c"));
}

TEST_CASE("what a forgotten breaker's listener holds may use the registry when it goes") {
    using namespace std::chrono_literals;
    struct visitor {
        circuit_breaker_registry& hosts;
        std::future<std::size_t>& size;
        bool& was_free;
        ~visitor() {
            size = std::async(std::launch::async, [&h = hosts] { return h.size(); });
            was_free = size.wait_for(10s) == std::future_status::ready;
        }
    };
    using options = tidegate::circuit_breaker_options;
    std::future<std::size_t> size;
    bool was_free = false;
    circuit_breaker_registry hosts(options().consecutive_failures(2), 1);
    {
        std::shared_ptr<visitor> const held(new visitor{hosts, size, was_free});
        static_cast<void>(hosts.get("a", options().on_rejected([held] {})));
    }
    static_cast<void>(hosts.get("b"));
    CHECK(hosts.names() == std::vector<std::string>{"b"});
    CHECK(was_free);
    CHECK(size.get() == 1);
}

TEST_CASE("threads that ask for the same names get the same breakers") {
    circuit_breaker_registry hosts;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 2000; ++i) {
                hosts.get("host " + std::to_string(i % 20))->try_acquire().success();
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(hosts.size() == 20);
    std::uint64_t calls = 0;
    for (auto const& name : hosts.names()) calls += hosts.get(name)->counts().calls;
    CHECK(calls == 20 * 100); // their windows are full
}
