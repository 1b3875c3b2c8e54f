// SPDX-License-Identifier: BSL-1.0
// Step 3 of the quickstart: ask once for what many want, and see what happened.
#include <tidegate/cache.hpp>
#include <tidegate/exposition.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/parallel.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <exception>
#include <iostream>
#include <ranges>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using prices = tidegate::cache<int, std::string>;

asio::awaitable<std::string> price_of(int item) {
    co_await tidegate::sleep_for(20ms);
    co_return std::to_string(item * 10) + " EUR";
}

asio::awaitable<void> shop(prices& known) {
    auto customer = [&](int number) -> asio::awaitable<void> {
        auto price = co_await known.get_or_load(number % 7, price_of); // a shared_ptr to it
        if (number < 3) std::cout << "customer " << number << " pays " << *price << "\n";
    };
    co_await tidegate::parallel_for_each(std::views::iota(0, 1000), 50, customer);
}

int main() {
    asio::io_context io{1};
    prices known(io,
                 tidegate::cache_options<int, std::string>().max_entries(100).time_to_live(1min));
    tidegate::metrics_registry registry;
    auto const registered = register_metrics(registry, "prices", known);
    asio::co_spawn(io, shop(known), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
    auto const counted = known.statistics();
    std::cout << counted.hits << " hits, " << counted.loads << " loads\n";
    std::cout << tidegate::to_prometheus_text(registry.collect());
}
