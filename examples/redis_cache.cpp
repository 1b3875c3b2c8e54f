// SPDX-License-Identifier: BSL-1.0
// Two nodes (here in one process) with a cache each and Redis between them: what one changes leaves
// the memory of the other. Without a server (default: 127.0.0.1:6379) it says so, and shows that a
// cache does not need one.
//
//     example_redis_cache [host [port]]
#include <tidegate/redis/cache_tier.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/tiered_cache.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

namespace asio = boost::asio;
namespace redis = tidegate::redis;
using namespace std::chrono_literals;

namespace {

using texts = tidegate::tiered_cache<std::string, std::string>;

//! [node]
struct node {
    std::shared_ptr<redis::cache_tier> shared;
    texts pages;
    asio::cancellation_signal stop;

    node(asio::io_context& io, boost::redis::config const& server)
        : shared(std::make_shared<redis::cache_tier>(
              io, server, redis::cache_tier_options().prefix("tidegate:example:"))),
          pages(io,
                tidegate::cache_options<std::string, std::string>().max_entries(1000).time_to_live(
                    5min),
                shared) {
        asio::co_spawn(io, shared->run(),
                       asio::bind_cancellation_slot(stop.slot(), asio::detached));
    }
};
//! [node]

asio::awaitable<std::string> render(std::string const& page) {
    std::cout << "  (rendering " << page << ")\n";
    co_await tidegate::sleep_for(20ms);
    co_return "the page " + page;
}

asio::awaitable<bool> is_connected(node& a, node& b) {
    for (int i = 0; i < 50; ++i) {
        if (a.shared->statistics().connected && b.shared->statistics().connected) co_return true;
        co_await tidegate::sleep_for(20ms);
    }
    co_return false;
}

asio::awaitable<void> show(char const* who, node& at, std::string const& page) {
    auto const text = co_await at.pages.get_or_load(page, render);
    std::cout << who << ": " << *text << '\n';
}

asio::awaitable<void> serve(node& a, node& b) {
    std::string const page = "index";
    if (!co_await is_connected(a, b)) std::cout << "no Redis to be reached: each node is alone\n";
    co_await show("a", a, page);
    co_await a.pages.flush();
    co_await show("b", b, page);
    a.pages.put(page, "the new page index");
    co_await a.pages.flush();
    co_await tidegate::sleep_for(20ms); // until b has heard of it
    co_await show("b", b, page);
    co_await a.pages.invalidate(page);
    a.stop.emit(asio::cancellation_type::terminal);
    b.stop.emit(asio::cancellation_type::terminal);
}

} // namespace

int main(int argc, char** argv) {
    boost::redis::config server;
    if (argc > 1) server.addr.host = argv[1];
    if (argc > 2) server.addr.port = argv[2];

    asio::io_context io{1};
    node a(io, server);
    node b(io, server);
    asio::co_spawn(io, serve(a, b), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
}
