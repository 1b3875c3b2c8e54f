// SPDX-License-Identifier: BSL-1.0
// A client finds out how many calls at once a service with eight workers bears.
#include <tidegate/adaptive_limiter.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

asio::awaitable<void> service(tidegate::semaphore& workers) {
    auto worker = co_await workers.acquire();
    asio::steady_timer work(co_await asio::this_coro::executor, 2ms);
    co_await work.async_wait(asio::deferred);
}

//! [call]
asio::awaitable<void> call(tidegate::adaptive_limiter& limiter, tidegate::semaphore& workers) {
    auto permit = limiter.try_acquire();
    if (!permit) co_return; // tell the caller: tidegate::error::overloaded
    co_await service(workers);
    permit.success();
}
//! [call]

asio::awaitable<void> clients(tidegate::adaptive_limiter& limiter, tidegate::semaphore& workers) {
    asio::steady_timer pause(co_await asio::this_coro::executor);
    for (int i = 0; i < 1000; ++i) {
        for (int n = 0; n < 10; ++n)
            asio::co_spawn(pause.get_executor(), call(limiter, workers), asio::detached);
        pause.expires_after(1ms);
        co_await pause.async_wait(asio::deferred);
        if (i % 100 == 99) std::cout << "limit " << limiter.limit() << "\n";
    }
}

int main() {
    asio::io_context io;
    tidegate::semaphore workers(io, 8);
    tidegate::concurrency_limit_options limit;
    limit.initial(50);
    tidegate::adaptive_limiter limiter(
        tidegate::adaptive_limiter_options().limit(limit).window_samples(100));
    asio::co_spawn(io, clients(limiter, workers), asio::detached);
    io.run();
    auto const stats = limiter.statistics();
    std::cout << stats.windows << " windows, " << stats.refused << " calls refused\n";
}
