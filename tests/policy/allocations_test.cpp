// SPDX-License-Identifier: BSL-1.0
// What calls through layers allocate.
#include <tidegate/hedge.hpp>
#include <tidegate/policy.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>

namespace asio = boost::asio;

TEST_CASE("a call that is not hedged allocates nothing that Asio does not recycle") {
    asio::io_context io;
    // Without a quantile: what measures may grow with a duration that it has not seen.
    tidegate::hedge_options const alone = tidegate::hedge_options().delay(std::chrono::seconds(1));
    tidegate::policy const guarded{tidegate::hedge{alone}};
    std::size_t allocated = 1;
    auto calls = [&]() -> asio::awaitable<void> {
        auto op = []() -> asio::awaitable<int> { co_return 1; };
        for (int i = 0; i < 10; ++i) co_await guarded(op);
        auto const before = test::allocated();
        for (int i = 0; i < 10; ++i) co_await guarded(op);
        allocated = test::allocated() - before;
    };
    asio::co_spawn(io, calls, asio::detached);
    io.run();
    CHECK(allocated == 0);
}
