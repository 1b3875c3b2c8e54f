// SPDX-License-Identifier: BSL-1.0
// Prints metrics of every kind, with names and values that are hard to get right: as OpenMetrics
// with `--open-metrics`, else as Prometheus' text.
#include <tidegate/cache.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <iostream>
#include <limits>
#include <string_view>

int main(int argc, char** argv) {
    using namespace std::chrono_literals;
    tidegate::metrics_registry registry;
    registry.counter("requests", "Help with a \\ and a\nnew line and a \"").increment(3);
    auto& odd = registry.counter("odd", "Odd labels", {"path", "user"});
    odd.with({"/a\"b\\c\nd", ""}).increment(1);
    odd.with({"\xC3\xA9\xF0\x9F\x8C\x8A", "{}=,# "}).increment(2);
    odd.with({"caf\xE9", "\xF0\x9F"}).increment(3); // no UTF-8
    odd.with({"caf\xE8", "\xF0\x8F"}).increment(4); // told alike
    registry.gauge("odd_help", "caf\xE9").set(1);
    registry.gauge("load_ratio", "Load").set(0.1 + 0.2);
    registry.gauge("least", "Small").set(5e-324);
    registry.gauge("no_end", "Infinite").set(-std::numeric_limits<double>::infinity());
    auto& latency = registry.histogram("latency_seconds", "Latency", {"method"});
    for (int i = 0; i < 1000; ++i) latency.with({"GET"}).record(i * i * 1us);
    latency.with({"PUT"}).record(0ns);
    latency.with({"PUT"}).record(std::chrono::hours(20));
    latency.with({"NONE"});

    boost::asio::io_context io;
    tidegate::semaphore slots(io, 3);
    tidegate::circuit_breaker breaker{tidegate::circuit_breaker_options()};
    tidegate::cache<int, int> cache(io, tidegate::cache_options<int, int>().max_entries(10));
    auto const a = register_metrics(registry, "slots", slots);
    auto const b = register_metrics(registry, "backend", breaker);
    auto const c = register_metrics(registry, "users", cache);
    auto const d = register_metrics(registry, "users", cache); // by mistake

    auto const refused = registry.add_collector(
        [](tidegate::metric_writer& to) { to.gauge("refused", "R", 1, {{"no-name", "a"}}); });
    auto const twice = registry.add_collector(
        [](tidegate::metric_writer& to) { to.gauge("refused", "R", 1, {{"name", "a"}}); },
        {{"name", "b"}});

    bool const open = argc > 1 && std::string_view(argv[1]) == "--open-metrics";
    auto const all = registry.collect();
    std::cout << (open ? tidegate::to_open_metrics(all) : tidegate::to_prometheus_text(all));
}
