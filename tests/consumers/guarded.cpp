// SPDX-License-Identifier: BSL-1.0
// A lookup that fails at first, behind a cache, retries and a rate limit: what each of the consumer
// projects beside this file builds and runs.
#include <tidegate/cache.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/rate_limiter.hpp>
#include <tidegate/retry.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

// Refuses every first connection.
struct backend {
    asio::awaitable<int> price(std::string product) {
        if (++asked % 2 == 1) throw boost::system::system_error(asio::error::connection_refused);
        co_return static_cast<int>(product.size());
    }
    int asked = 0;
};

asio::awaitable<int> total(tidegate::cache<std::string, int>& prices,
                           tidegate::rate_limiter& limiter, backend& shop) {
    auto const again = tidegate::retry_options().base(1ms);
    tidegate::policy const guarded{tidegate::retry{again}, limiter};
    int sum = 0;
    for (std::string const product : {"tea", "coffee", "tea", "tea", "coffee"}) {
        auto ask = [&] { return shop.price(product); };
        auto load = [&] { return guarded(ask); };
        auto const price = co_await prices.get_or_load(product, load);
        sum += *price;
    }
    co_return sum;
}

} // namespace

int main() {
    asio::io_context io;
    backend shop;
    tidegate::cache<std::string, int> prices(
        io, tidegate::cache_options<std::string, int>().max_entries(100));
    tidegate::rate_limiter limiter(io, tidegate::rate_limiter_options().rate(100, 1s).burst(10));

    int sum = 0;
    asio::co_spawn(io, total(prices, limiter, shop), [&](std::exception_ptr failed, int result) {
        if (failed) std::rethrow_exception(failed);
        sum = result;
    });
    io.run();
    // Three and six letters; two loads of two attempts each, the rest came out of the cache.
    std::printf("total %d after %d requests\n", sum, shop.asked);
    return sum == 21 && shop.asked == 4 ? 0 : 1;
}
