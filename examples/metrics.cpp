// SPDX-License-Identifier: BSL-1.0
// Metrics of a service and of the primitives in it, on http://127.0.0.1:PORT/metrics: for 100 ms,
// or with a port as an argument until Ctrl-C.
#include <tidegate/cache.hpp>
#include <tidegate/http/metrics_server.hpp>
#include <tidegate/metrics.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace asio::experimental::awaitable_operators;
using namespace std::chrono_literals;

namespace {

//! [record]
asio::awaitable<void> work(tidegate::metrics_registry& registry, tidegate::semaphore& slots,
                           tidegate::cache<int, std::string>& pages) {
    //! [requests]
    auto& requests = registry.counter("http_requests", "Requests answered", {"code"});
    auto& latency = registry.histogram("http_request_seconds", "How long they took");
    //! [requests]
    auto render = [](int page) -> asio::awaitable<std::string> {
        co_await tidegate::sleep_for(1ms);
        co_return "page " + std::to_string(page);
    };
    for (int i = 0;; ++i) {
        auto const begun = std::chrono::steady_clock::now();
        auto const permit = co_await slots.acquire();
        co_await pages.get_or_load(i * i % 20, render);
        latency.record(std::chrono::steady_clock::now() - begun);
        requests.with({i % 50 == 0 ? "500" : "200"}).increment();
        co_await tidegate::sleep_for(1ms);
    }
}
//! [record]

asio::awaitable<void> wait_for_the_end(bool for_ever) {
    if (!for_ever) co_return co_await tidegate::sleep_for(100ms);
    asio::signal_set signals(co_await asio::this_coro::executor, SIGINT, SIGTERM);
    co_await signals.async_wait(asio::deferred);
}

} // namespace

int main(int argc, char** argv) {
    asio::io_context context{1};
    //! [register]
    tidegate::metrics_registry registry;
    tidegate::semaphore slots(context, 4);
    tidegate::cache<int, std::string> pages(
        context, tidegate::cache_options<int, std::string>().max_entries(100).time_to_live(50ms));
    auto const slots_metrics = register_metrics(registry, "slots", slots);
    auto const pages_metrics = register_metrics(registry, "pages", pages);
    //! [register]

    auto const port = static_cast<unsigned short>(argc > 1 ? std::atoi(argv[1]) : 0);
    tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), port});
    std::cout << "metrics on http://" << acceptor.local_endpoint() << "/metrics\n";
    auto all = [&]() -> asio::awaitable<void> {
        co_await (tidegate::http::serve_metrics(std::move(acceptor), registry) ||
                  work(registry, slots, pages) || wait_for_the_end(argc > 1));
    };
    asio::co_spawn(context, all(), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    context.run();
    std::cout << tidegate::to_prometheus_text(registry.collect());
}
