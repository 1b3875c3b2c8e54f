// SPDX-License-Identifier: BSL-1.0
// Layers under fire in longer chains, chaos itself, what observes a call, and what a policy says of
// its order.
#include "policy/chaos_support.hpp"

#include <string>
#include <vector>

namespace test {

TEST_CASE("no permit, probe or token is lost in long chains under chaos", "[stress]") {
    for (std::uint64_t const seed : test::seeds()) {
        INFO("seed " << seed);
        test::random dice(seed);
        for (std::size_t i = 0; i < test::schedules() / 10; ++i) {
            INFO("schedule " << i);
            household home;
            chaos const fire{storm(dice())};
            timeout const limit{8ms};
            retry const again{retries(home)};
            hedge const twice{hedges()};
            if (i % 2 == 0) {
                policy const all{tidegate::fallback{&zero},
                                 limit,
                                 again,
                                 home.fuse,
                                 home.rate,
                                 twice,
                                 home.room,
                                 home.tide,
                                 gate(home),
                                 fire};
                auto owed = [&]() -> bill { return {home.attempts.size(), home.retries()}; };
                exercise(home, all, dice, true, owed);
            } else {
                policy const some{limit, again, limit, home.room, home.fuse, gate(home), fire};
                auto owed = [&]() -> bill { return {0, home.retries()}; };
                exercise(home, some, dice, true, owed);
            }
        }
    }
}

TEST_CASE("the same seed makes the same chaos") {
    auto fates = [](std::uint64_t seed) {
        asio::io_context io;
        policy const guarded{chaos{storm(seed)}};
        std::string text;
        for (int i = 0; i < 50; ++i) {
            guarded_call<int> call;
            call.start(io, guarded, []() -> asio::awaitable<int> { co_return 1; });
            finish(io);
            text += call.value ? "." : call.why.exception() ? "!" : call.why.code().message();
        }
        return text;
    };
    CHECK(fates(7) == fates(7));
    CHECK(fates(7) != fates(8));
}

TEST_CASE("results can be spoiled, and a retry that looks at them mends it") {
    asio::io_context io;
    auto negate = [](int& value) { value = -value; };
    tidegate::testing::basic_chaos<policy_clock, decltype(negate)> const fire{
        tidegate::testing::chaos_options().result(0.5).seed(3), negate};
    struct negative {
        bool operator()(failure const&) const { return false; }
        bool operator()(int value) const { return value < 0; }
    };
    policy const bare{fire};
    policy const mended{tidegate::basic_retry<policy_clock, negative>(
                            tidegate::retry_options().max_attempts(30).base(1ms)),
                        fire};
    int spoiled = 0;
    for (int i = 0; i < 100; ++i) {
        guarded_call<int> plain, checked;
        auto op = []() -> asio::awaitable<int> { co_return 1; };
        plain.start(io, bare, op);
        checked.start(io, mended, op);
        finish(io);
        spoiled += plain.value == -1;
        REQUIRE(checked.value == 1);
    }
    CHECK(spoiled > 30);
    CHECK(spoiled < 70);
}

TEST_CASE("an instrument tells what came of a call") {
    asio::io_context io;
    std::vector<std::string> told;
    auto listen = [&](tidegate::call_event const& e) {
        told.push_back(std::string(e.name) + " " + std::to_string(e.attempt) + " " +
                       std::to_string(e.took / 1ms) + " " +
                       (e.why ? e.why->code().message() : "fine") +
                       (e.degraded ? " degraded" : ""));
    };
    policy const guarded{
        instrument{listen}, tidegate::fallback{&zero},
        retry{tidegate::retry_options().max_attempts(2).base(5ms).jitter(tidegate::jitter::none)},
        instrument{listen}};
    guarded_call<int> call;
    call.start(io, guarded.named("backend"), []() -> asio::awaitable<int> {
        co_await test::idle(1ms);
        throw boost::system::system_error(asio::error::connection_refused);
    });
    finish(io);
    CHECK(call.value == 0);
    CHECK(told == std::vector<std::string>{"backend 1 1 Connection refused",
                                           "backend 2 1 Connection refused",
                                           "backend 2 7 fine degraded"});
}

TEST_CASE("suspect orders are told, at compile time and at run time") {
    household home;
    auto const good =
        policy{tidegate::fallback{&zero}, timeout{1s}, retry{}, home.fuse, home.rate, home.room};
    static_assert(decltype(good)::suspicions() == 0);
    CHECK(good.diagnose().empty());
    auto const bad = policy{home.fuse, retry{}, retry{}, tidegate::fallback{&zero}};
    static_assert(decltype(bad)::suspicions() == 4);
    REQUIRE(bad.diagnose().size() == 4);
    CHECK(bad.diagnose()[0].find("circuit_breaker outside retry") == 0);
}

} // namespace test
