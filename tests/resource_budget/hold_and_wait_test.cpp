// SPDX-License-Identifier: BSL-1.0
// Callers that each hold one thing and want another do not wait for each other for ever.
#include <tidegate/resource_budget.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::error;
using tidegate::error_code;
using tidegate::resource_budget_options;

namespace {

struct hold_and_wait_tag;
using test_clock = tidegate::testing::basic_manual_clock<hold_and_wait_tag>;
using budget = tidegate::basic_resource_budget<std::string, int, 1, std::hash<std::string>,
                                               std::equal_to<std::string>, test_clock>;

struct user {
    budget::lease held;
    budget::lease wanted;
    error_code failure;
};

// Room for two of four things, and two users that take one each.
struct fixture {
    asio::io_context io;
    budget things;
    user first;
    user second;

    explicit fixture(resource_budget_options options) : things(io, {100}, options) {
        for (auto const* name : {"a", "b", "c", "d"}) {
            auto load = []() -> asio::awaitable<int> { co_return 1; };
            things.add(name, {50}, load);
        }
        hold("a", first);
        hold("b", second);
    }

    void run() {
        io.restart();
        io.poll();
    }
    void hold(std::string name, user& by) {
        things.async_acquire(name, [&by](std::exception_ptr, budget::lease got) { by.held = got; });
        run();
        REQUIRE(by.held);
    }
    // Who does not get it gives up what it holds.
    void want(std::string name, user& by) {
        things.async_acquire(name, [&by](std::exception_ptr e, budget::lease got) {
            by.wanted = std::move(got);
            try {
                if (e) std::rethrow_exception(e);
            } catch (boost::system::system_error const& why) {
                by.failure = why.code();
                by.held.reset();
            }
        });
        run();
    }
};

} // namespace

TEST_CASE("of two that hold and wait, the one who waited longer gives way to the other") {
    fixture f(resource_budget_options().max_wait(10s));
    f.want("c", f.first);
    test_clock::advance(1s);
    f.want("d", f.second);
    CHECK(f.things.statistics().waiting == 2);
    test_clock::advance(9s - 1ns);
    f.run();
    CHECK_FALSE(f.first.failure);
    CHECK_FALSE(f.second.wanted);
    test_clock::advance(1ns);
    f.run();
    CHECK(f.first.failure == error::deadline_exceeded);
    CHECK(f.second.wanted);
    CHECK(f.second.held);
    CHECK(f.things.statistics().waiting == 0);
}

TEST_CASE("two that hold and wait fail together if they began together") {
    fixture f(resource_budget_options().max_wait(10s));
    f.want("c", f.first);
    f.want("d", f.second);
    test_clock::advance(10s);
    f.run();
    CHECK(f.first.failure == error::deadline_exceeded);
    CHECK(f.second.failure == error::deadline_exceeded);
    f.hold("c", f.first);
    f.hold("d", f.second);
}

TEST_CASE("where nobody may wait, who holds and wants more fails at once") {
    fixture f(resource_budget_options().max_waiting_loads(0));
    f.want("c", f.first);
    CHECK(f.first.failure == error::queue_full);
    f.want("d", f.second); // there is room now
    CHECK(f.second.wanted);
}
