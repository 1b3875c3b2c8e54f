// SPDX-License-Identifier: BSL-1.0
// A limit that processes share through Redis: start it several times, and together they get ten
// permits a second. Without a server (default: 127.0.0.1:6379) it says so.
//
//     example_redis_rate_limiter [host [port]]
#include <tidegate/redis/keep_connected.hpp>
#include <tidegate/redis/rate_limiter.hpp>
#include <tidegate/sleep.hpp>

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

// Until Redis decides; false if that takes too long.
asio::awaitable<bool> is_reachable(redis::rate_limiter& limiter) {
    for (int i = 0; i < 20; ++i) {
        auto const before = limiter.statistics().failed_calls;
        co_await limiter.available("nobody");
        if (limiter.statistics().failed_calls == before) co_return true;
        limiter.breaker().close();
        co_await tidegate::sleep_for(50ms);
    }
    co_return false;
}

asio::awaitable<void> serve(redis::rate_limiter& limiter) {
    if (!co_await is_reachable(limiter)) {
        std::cout << "no Redis to be reached: nothing to show\n";
        co_return;
    }
    //! [ask]
    for (int i = 1; i <= 8; ++i) {
        auto const answer = co_await limiter.try_acquire("ann");
        if (answer) std::cout << "request " << i << ": goes\n";
        else
            std::cout << "request " << i << ": come back in " << answer.retry_after() / 1ms
                      << " ms\n";
    }
    //! [ask]
    auto const begun = std::chrono::steady_clock::now();
    for (int i = 1; i <= 5; ++i) {
        co_await limiter.acquire("ann");
        std::cout << "patient request " << i << ": goes after "
                  << (std::chrono::steady_clock::now() - begun) / 1ms << " ms\n";
    }
    auto const all = limiter.statistics();
    std::cout << all.granted << " granted, " << all.refused << " refused, " << all.refused_locally
              << " of them without asking\n";
}

} // namespace

int main(int argc, char** argv) {
    boost::redis::config server;
    if (argc > 1) server.addr.host = argv[1];
    if (argc > 2) server.addr.port = argv[2];

    asio::io_context io{1};
    //! [limiter]
    auto connection = std::make_shared<boost::redis::connection>(io);
    asio::cancellation_signal stop;
    asio::co_spawn(io, redis::keep_connected(connection, server, 50ms),
                   asio::bind_cancellation_slot(stop.slot(), asio::detached));

    redis::rate_limiter limiter(connection, redis::rate_limiter_options()
                                                .rate(10, 1s)
                                                .burst(5)
                                                .prefix("tidegate:example:")
                                                .on_failure(redis::when_redis_fails::refuse));
    //! [limiter]
    asio::co_spawn(io, serve(limiter), [&](std::exception_ptr e) {
        stop.emit(asio::cancellation_type::terminal);
        if (e) std::rethrow_exception(e);
    });
    io.run();
}
