// SPDX-License-Identifier: BSL-1.0
// Metrics when memory ends, and what of them stays.
#include <tidegate/metrics.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <new>
#include <string>
#include <vector>

TEST_CASE("a series that there is no memory for is not there, or all of it") {
    std::vector<std::string> const value{std::string(100, 'x')};
    std::vector<std::string> const odd{std::string(100, '\xE9')};
    for (auto const* const values : {&value, &odd}) {
        for (std::size_t n = 1;; ++n) {
            INFO("allocation " << n);
            tidegate::metrics_registry registry;
            auto& family = registry.counter("c", "C", {"label"});
            bool made = true;
            test::fail_allocation(n);
            try {
                family.with(*values).increment();
            } catch (std::bad_alloc const&) {
                made = false;
            }
            bool const all = test::until_failure() > 0;
            test::fail_allocation(0);
            REQUIRE(registry.collect().at(0).samples.size() == (made ? 1 : 0));
            family.with(*values).increment();
            auto const told = registry.collect();
            REQUIRE(told.at(0).samples.size() == 1);
            CHECK(told[0].samples[0].value == (made ? 2 : 1));
            if (all) break;
        }
    }
}

TEST_CASE("what was registered and let go takes no memory, though nobody collects") {
    tidegate::metrics_registry registry;
    auto const none = [](tidegate::metric_writer&) {};
    std::vector<tidegate::metrics_registration> live;
    for (int i = 0; i < 10; ++i) live.push_back(registry.add_collector(none));
    auto const before = test::allocated_now();
    for (int i = 0; i < 10'000; ++i) {
        auto const gone = registry.add_collector(none);
    }
    CHECK(test::allocated_now() - before < 100);
    CHECK(registry.collect().empty());
    CHECK(test::allocated_now() - before < 10);
}

TEST_CASE("those that stay registered are found again, however many go beside them") {
    tidegate::metrics_registry registry;
    std::vector<tidegate::metrics_registration> live;
    for (int i = 0; i < 100; ++i) {
        live.push_back(registry.add_collector([i](tidegate::metric_writer& to) {
            to.gauge("g", "G", i, {{"number", std::to_string(i)}});
        }));
        for (int j = 0; j < i % 7; ++j) {
            auto const gone = registry.add_collector(
                [](tidegate::metric_writer& to) { to.gauge("gone", "G", 1); });
        }
    }
    auto const all = registry.collect();
    REQUIRE(all.size() == 1);
    CHECK(all[0].samples.size() == 100);
}
