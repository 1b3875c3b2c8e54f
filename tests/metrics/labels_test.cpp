// SPDX-License-Identifier: BSL-1.0
// Labels that would have others refuse all that is told.
#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>

#include <catch2/catch_test_macros.hpp>

#include <stdexcept>
#include <string>

using tidegate::metric_labels;
using tidegate::metrics_registry;

TEST_CASE("a collector with a label that is not allowed is left out alone") {
    metrics_registry registry;
    registry.counter("good", "Good").increment();
    metric_labels labels;
    auto const bad = registry.add_collector(
        [&](tidegate::metric_writer& to) {
            to.gauge("before", "B", 1, {{"kind", "a"}});
            to.gauge("bad", "B", 1, labels);
        },
        {{"name", "mine"}});
    for (metric_labels const& refused : {metric_labels{{"no-name", "a"}},
                                         {{"name", "b"}}, // which the registration has
                                         {{"le", "1"}},
                                         {{"x", "1"}, {"y", "2"}, {"x", "1"}}}) {
        labels = refused;
        INFO(labels.back().first);
        CHECK(tidegate::to_prometheus_text(registry.collect()) ==
              "# HELP good_total Good\n"
              "# TYPE good_total counter\n"
              "good_total 1\n"
              "# HELP tidegate_metrics_failed_collectors Collectors that threw just now\n"
              "# TYPE tidegate_metrics_failed_collectors gauge\n"
              "tidegate_metrics_failed_collectors 1\n");
    }
    labels = {{"x", "1"}, {"y", "1"}};
    CHECK(registry.collect().size() == 3);
}

TEST_CASE("a collector may go on after a label that is refused") {
    metrics_registry registry;
    auto const one = registry.add_collector(
        [](tidegate::metric_writer& to) {
            CHECK_THROWS_AS(to.gauge("g", "G", 1, {{"name", "b"}}), std::invalid_argument);
            CHECK_THROWS_AS(to.counter("c", "C", 1, {{"no-name", "b"}}), std::invalid_argument);
            to.gauge("then", "T", 3);
        },
        {{"name", "mine"}});
    auto const all = registry.collect();
    REQUIRE(all.size() == 1);
    CHECK(all[0].name == "then");
}

TEST_CASE("a collector is not registered with a label twice") {
    metrics_registry registry;
    auto const none = [](tidegate::metric_writer&) {};
    CHECK_THROWS_AS(registry.add_collector(none, {{"a", "1"}, {"b", "2"}, {"a", "3"}}),
                    std::invalid_argument);
    CHECK_THROWS_AS(registry.add_collector(none, {{"no-name", "1"}}), std::invalid_argument);
}

TEST_CASE("what is not UTF-8 is told as U+FFFD") {
    metrics_registry registry;
    registry.gauge("g", "caf\xE9", {"path"}).with({"/caf\xE9\"\xE9t\xE9"}).set(1);
    CHECK(tidegate::to_prometheus_text(registry.collect()) ==
          "# HELP g caf\xEF\xBF\xBD\n"
          "# TYPE g gauge\n"
          "g{path=\"/caf\xEF\xBF\xBD\\\"\xEF\xBF\xBDt\xEF\xBF\xBD\"} 1\n");
}

TEST_CASE("label values that are told alike are one series") {
    metrics_registry registry;
    auto& family = registry.counter("c", "C", {"path"}, 1);
    auto& one = family.with({"/caf\xE9"});
    CHECK(&family.with({"/caf\xE9"}) == &one);
    CHECK(&family.with({"/caf\xE8"}) == &one);
    CHECK(&family.with({"/caf\xEF\xBF\xBD"}) == &one);
    auto& rest = family.with({"\xE9"}); // there is one series already
    CHECK(&rest != &one);
    CHECK(&rest == &family.with({"(other)"}));
    auto const told = registry.add_collector([](tidegate::metric_writer& to) {
        to.gauge("g", "G", 1, {{"path", "\xE9"}});
        to.gauge("g", "G", 2, {{"path", "\xE8"}});
    });
    auto const all = registry.collect();
    REQUIRE(all.size() == 2);
    REQUIRE(all[0].samples.size() == 2);
    CHECK(all[0].samples[1].labels[0].second == "/caf\xEF\xBF\xBD");
    REQUIRE(all[1].samples.size() == 1);
    CHECK(all[1].samples[0].labels[0].second == "\xEF\xBF\xBD");
    CHECK(all[1].samples[0].value == 1);
}
