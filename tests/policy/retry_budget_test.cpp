// SPDX-License-Identifier: BSL-1.0
// A budget that many draw on at the same time.
#include <tidegate/retry_budget.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

using tidegate::retry_budget;

TEST_CASE("a budget pays for its share of the calls and its reserve") {
    retry_budget budget(0.6, 3, 1000);
    for (int i = 0; i < 3; ++i) CHECK(budget.try_withdraw());
    CHECK_FALSE(budget.try_withdraw());
    budget.deposit();
    CHECK_FALSE(budget.try_withdraw()); // 0.6 is not 1
    budget.deposit();
    CHECK(budget.try_withdraw());
    budget.refund();
    CHECK(budget.try_withdraw());
    CHECK_FALSE(budget.try_withdraw());
}

TEST_CASE("a long good time does not pay for a flood") {
    retry_budget budget(1, 5, 10);
    for (int i = 0; i < 1000; ++i) budget.deposit();
    CHECK(budget.balance() == 15);
}

TEST_CASE("racing callers cannot overdraw by even one") {
    for (int round = 0; round < 200; ++round) {
        retry_budget budget(0, 7, 0);
        std::atomic<int> drawn{0};
        std::barrier together(16);
        std::vector<std::thread> threads;
        for (int t = 0; t < 16; ++t) {
            threads.emplace_back([&] {
                together.arrive_and_wait();
                if (budget.try_withdraw()) ++drawn;
            });
        }
        for (auto& thread : threads) thread.join();
        REQUIRE(drawn == 7);
    }
}

TEST_CASE("attempts of a hundred thousand concurrent calls stay within the bound") {
    retry_budget budget(0.2, 10, 1000);
    constexpr int calls = 100'000;
    std::atomic<int> attempts{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < calls / 4; ++i) {
                budget.deposit();
                ++attempts;
                for (int retry = 0; retry < 2 && budget.try_withdraw(); ++retry) ++attempts;
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(attempts <= 1.2 * calls + 10);
    CHECK(attempts >= 1.19 * calls);
}
