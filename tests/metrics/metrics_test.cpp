// SPDX-License-Identifier: BSL-1.0
// Series, names, collectors, and the text that others read.
#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/tidegate.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::metrics_registry;

namespace {

std::string text(metrics_registry const& registry) {
    return tidegate::to_prometheus_text(registry.collect());
}
std::string open_text(metrics_registry const& registry) {
    return tidegate::to_open_metrics(registry.collect());
}

} // namespace

TEST_CASE("a counter counts what all threads add, also those that ended") {
    metrics_registry registry;
    auto& requests = registry.counter("requests", "Requests");
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 10000; ++i) requests.increment();
        });
    }
    threads.clear();
    requests.increment(5);
    CHECK(requests.value() == 40005);
    CHECK(&registry.counter("requests_total", "Requests") == &requests);
    CHECK(text(registry) == "# HELP requests_total Requests\n"
                            "# TYPE requests_total counter\n"
                            "requests_total 40005\n");
    CHECK(open_text(registry) == "# HELP requests Requests\n"
                                 "# TYPE requests counter\n"
                                 "requests_total 40005\n"
                                 "# EOF\n");
}

TEST_CASE("a gauge goes up and down, and is never no number") {
    metrics_registry registry;
    auto& depth = registry.gauge("depth_ratio", "Depth");
    depth.set(2.5);
    depth.add(-1);
    depth.set(std::nan(""));
    depth.add(std::nan(""));
    CHECK(depth.value() == 1.5);
    CHECK_THAT(open_text(registry), ContainsSubstring("# UNIT depth_ratio ratio\n"));
    depth.set(INFINITY);
    CHECK_THAT(text(registry), ContainsSubstring("depth_ratio +Inf\n"));
}

TEST_CASE("label values are escaped, and so is help") {
    metrics_registry registry;
    registry.gauge("odd", "two\nlines, a \\ and a \"", {"path"})
        .with({"a\"b\\c\nd \xC3\xA9"})
        .set(1);
    CHECK(text(registry) == "# HELP odd two\\nlines, a \\\\ and a \"\n"
                            "# TYPE odd gauge\n"
                            "odd{path=\"a\\\"b\\\\c\\nd \xC3\xA9\"} 1\n");
    CHECK_THAT(open_text(registry),
               ContainsSubstring("# HELP odd two\\nlines, a \\\\ and a \\\"\n"));
}

TEST_CASE("a histogram has exact cumulative buckets") {
    metrics_registry registry;
    auto& latency = registry.histogram("latency_seconds", "Latency", {"method"}).with({"GET"});
    for (auto const took : {0ns, 1ns, 1000000000ns, 1000000001ns, 500000000ns})
        latency.record(took);
    latency.record(400s);
    latency.record(10h);
    latency.record(-1s);
    auto const all = text(registry);
    CHECK_THAT(all, ContainsSubstring("# TYPE latency_seconds histogram\n"));
    CHECK_THAT(all, ContainsSubstring(
                        "latency_seconds_bucket{method=\"GET\",le=\"9.5367431640625e-07\"} 2\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_bucket{method=\"GET\",le=\"0.25\"} 2\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_bucket{method=\"GET\",le=\"0.5\"} 3\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_bucket{method=\"GET\",le=\"1.0\"} 4\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_bucket{method=\"GET\",le=\"2.0\"} 5\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_bucket{method=\"GET\",le=\"256.0\"} 5\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_bucket{method=\"GET\",le=\"+Inf\"} 7\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_count{method=\"GET\"} 7\n"));
    CHECK_THAT(all, ContainsSubstring("latency_seconds_sum{method=\"GET\"} 36402.500000002"));
}

TEST_CASE("a family has so many series and one for the rest") {
    metrics_registry registry;
    auto& family = registry.counter("hits", "Hits", {"user", "code"}, 3);
    for (int i = 0; i < 10; ++i) family.with({std::to_string(i), "200"}).increment();
    CHECK(&family.with({"1", "200"}) == &family.with({"1", "200"}));
    auto const all = registry.collect();
    REQUIRE(all.size() == 1);
    REQUIRE(all[0].samples.size() == 4);
    CHECK_THAT(text(registry),
               ContainsSubstring("hits_total{user=\"(other)\",code=\"(other)\"} 7\n"));
    CHECK_THROWS_AS(family.with({"1"}), std::invalid_argument);
}

TEST_CASE("what does not fit is refused, and says what and why") {
    metrics_registry registry;
    registry.counter("a", "A", {"x"});
    CHECK_THROWS_WITH(registry.gauge("a", "A", {"x"}),
                      "tidegate: metric 'a' is a counter, not a gauge");
    CHECK_THROWS_WITH(registry.counter("a", "A", {"y"}), "tidegate: metric 'a' has other labels");
    CHECK_THROWS_WITH(registry.counter("a", "B", {"x"}),
                      "tidegate: metric 'a' has another help text");
    for (auto const name : {"", "1a", "a-b", "a b", "\xC3\xA9", "a_bucket", "a_sum", "a_total"})
        CHECK_THROWS_AS(registry.gauge(name, ""), std::invalid_argument);
    for (auto const label : {"", "1a", "a:b", "__a", "le", "quantile"})
        CHECK_THROWS_AS(registry.gauge("b", "", {label}), std::invalid_argument);
    CHECK_THROWS_AS(registry.gauge("b", "", {"x", "x"}), std::invalid_argument);
    CHECK_THROWS_AS(registry.gauge("b", "", {"x"}, 0), std::invalid_argument);
}

TEST_CASE("collectors are asked while they are registered, and may fail alone") {
    metrics_registry registry;
    auto good = registry.add_collector(
        [](tidegate::metric_writer& to) { to.gauge("good", "Good", 1, {{"b", "2"}}); },
        {{"a", "1"}});
    auto const bad = registry.add_collector([](tidegate::metric_writer& to) {
        to.gauge("half", "Half", 1);
        throw std::domain_error("x");
    });
    auto const twice = registry.add_collector(
        [](tidegate::metric_writer& to) { to.gauge("good", "Good", 2, {{"b", "2"}}); },
        {{"a", "1"}});
    auto const other_type = registry.add_collector(
        [](tidegate::metric_writer& to) { to.counter("good", "Good", 2); }, {{"a", "1"}});
    CHECK(text(registry) ==
          "# HELP good Good\n"
          "# TYPE good gauge\n"
          "good{a=\"1\",b=\"2\"} 1\n"
          "# HELP tidegate_metrics_failed_collectors Collectors that threw just now\n"
          "# TYPE tidegate_metrics_failed_collectors gauge\n"
          "tidegate_metrics_failed_collectors 2\n");
    good = {};
    CHECK_THAT(text(registry), ContainsSubstring("good{a=\"1\",b=\"2\"} 2\n"));
}

TEST_CASE("series are told in the order of their labels, the first of those that are the same") {
    metrics_registry registry;
    std::vector<std::string> const labels{"c", "a", "b", "a", "c", "", "b", "c"};
    auto const unordered = registry.add_collector([&](tidegate::metric_writer& to) {
        double number = 0;
        for (auto const& one : labels) to.gauge("g", "G", ++number, {{"x", one}});
    });
    auto const all = registry.collect();
    REQUIRE(all.size() == 1);
    std::vector<std::pair<std::string, double>> told;
    for (auto const& one : all[0].samples) told.emplace_back(one.labels.at(0).second, one.value);
    CHECK(told == decltype(told){{"", 6}, {"a", 2}, {"b", 3}, {"c", 1}});
}

TEST_CASE("of a collector whose family has two types, nothing is told") {
    metrics_registry registry;
    auto const one = registry.add_collector(
        [](tidegate::metric_writer& to) { to.gauge("of_two_types", "G", 1); });
    auto const two = registry.add_collector([](tidegate::metric_writer& to) {
        to.gauge("before", "G", 2);
        to.counter("of_two_types", "C", 3);
    });
    auto const all = registry.collect();
    REQUIRE(all.size() == 2);
    CHECK(all[0].name == "of_two_types");
    CHECK(all[0].samples.size() == 1);
    CHECK(all[1].name == "tidegate_metrics_failed_collectors");
}

TEST_CASE("a collector may go on after a name that is refused") {
    metrics_registry registry;
    auto const one = registry.add_collector([](tidegate::metric_writer& to) {
        to.gauge("before", "G", 1);
        CHECK_THROWS_AS(to.gauge("no name!", "G", 2), std::invalid_argument);
        to.gauge("then", "G", 3);
    });
    auto const all = registry.collect();
    REQUIRE(all.size() == 2);
    CHECK(all[0].name == "before");
    CHECK(all[1].name == "then");
}

TEST_CASE("every primitive registers with one call") {
    boost::asio::io_context io;
    metrics_registry registry;
    tidegate::semaphore semaphore(io, 3);
    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(10, 1s));
    tidegate::circuit_breaker breaker{tidegate::circuit_breaker_options()};
    tidegate::adaptive_limiter adaptive{tidegate::adaptive_limiter_options()};
    tidegate::retry_budget budget;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    tidegate::channel<int> channel(io, 4);
    tidegate::cache<int, int> cache(io, tidegate::cache_options<int, int>().max_entries(4));
    tidegate::object_pool<int> objects(io, 2, [] { return std::make_unique<int>(); });
    tidegate::background_tasks<int> tasks(io);
    tidegate::single_flight<int, int> flights(io);
    tidegate::resource_budget<std::string, int> resources(io, {100});
    tidegate::tiered_cache<int, int> tiered(
        io, tidegate::cache_options<int, int>().max_entries(4),
        std::make_shared<tidegate::memory_cache_tier>(io, 1000));
    tidegate::keyed_rate_limiter<int> keyed(
        tidegate::keyed_rate_limiter_options<int>().rate(10, 1s));
    REQUIRE(keyed.try_acquire(7));
    tidegate::lazy_map<int, int> values(io);
    values.register_loader(1, []() -> boost::asio::awaitable<int> { co_return 1; });
    values.async_get(1, [](std::exception_ptr, std::shared_ptr<int>) {});
    io.run();
    io.restart();
    tidegate::task_scope scope(io);
    std::vector<tidegate::metrics_registration> all;
    auto const add = [&](auto const& primitive) {
        all.push_back(tidegate::register_metrics(registry, "mine", primitive));
    };
    add(semaphore);
    add(limiter);
    add(breaker);
    add(adaptive);
    add(budget);
    add(pool);
    add(channel);
    add(cache);
    add(objects);
    add(tasks);
    add(flights);
    add(resources);
    add(keyed);
    add(values);
    add(scope);
    all.push_back(tidegate::register_metrics(registry, "tiered", tiered));
    auto const out = text(registry);
    CHECK_THAT(out, ContainsSubstring("tidegate_semaphore_permits{name=\"mine\"} 3\n"));
    CHECK_THAT(out,
               ContainsSubstring("tidegate_rate_limiter_permits_per_second{name=\"mine\"} 10\n"));
    CHECK_THAT(out, ContainsSubstring(
                        "tidegate_circuit_breaker_state{name=\"mine\",state=\"closed\"} 1\n"));
    CHECK_THAT(out, ContainsSubstring("tidegate_cache_hits_total{name=\"tiered\"} 0\n"));
    CHECK_THAT(out,
               ContainsSubstring("tidegate_resource_budget_limit{name=\"mine\",kind=\"0\"} 100\n"));
    CHECK_THAT(out, ContainsSubstring("tidegate_keyed_rate_limiter_keys{name=\"mine\"} 1\n"));
    CHECK_THAT(out, ContainsSubstring("tidegate_lazy_map_loaded{name=\"mine\"} 1\n"));
    CHECK_THAT(out, ContainsSubstring("tidegate_task_scope_running{name=\"mine\"} 0\n"));
    CHECK_THAT(out, !ContainsSubstring("failed_collectors"));
    for (auto const what : {"adaptive_limiter", "retry_budget", "worker_pool", "channel",
                            "object_pool", "background_tasks", "single_flight", "tiered_cache"})
        CHECK_THAT(out, ContainsSubstring(std::string("# TYPE tidegate_") + what));
    all.clear();
    CHECK(text(registry).empty());
}

TEST_CASE("metrics are used and collected by many threads at once") {
    metrics_registry registry;
    std::atomic<int> empty{0}; // Catch2's macros are for one thread
    std::vector<std::jthread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 300; ++i) {
                registry.counter("c", "C", {"n"}, 20).with({std::to_string(i % 30)}).increment();
                registry.histogram("h_seconds", "H").record(1us * i);
                auto const mine = registry.add_collector(
                    [](tidegate::metric_writer& to) { to.gauge("g", "G", 1); },
                    {{"t", std::to_string(t)}});
                if (i % 50 == 0) empty += text(registry).empty();
            }
        });
    }
    threads.clear();
    CHECK(empty == 0);
    double sum = 0;
    for (auto const& family : registry.collect()) {
        for (auto const& sample : family.samples) sum += family.name == "c" ? sample.value : 0;
    }
    CHECK(sum == 900);
}
