// SPDX-License-Identifier: BSL-1.0
// What a connection that is there costs: no allocation.
#include <tidegate/connection_pool.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>

namespace asio = boost::asio;
using namespace std::chrono_literals;

TEST_CASE("a connection that is there is handed out without an allocation") {
    asio::io_context io;
    auto open = []() -> asio::awaitable<int> { co_return 1; };
    auto check = [](int&) -> asio::awaitable<bool> { co_return true; };
    tidegate::connection_pool<int> pool(io, tidegate::connection_pool_options().validate_after(1h),
                                        open, check);
    std::size_t allocated = 1;
    auto use = [&]() -> asio::awaitable<void> {
        auto const two = [&]() -> asio::awaitable<void> {
            auto const a = co_await pool.acquire();
            auto const b = co_await pool.acquire();
        };
        for (int i = 0; i < 10; ++i) co_await two();
        auto const before = test::allocated();
        for (int i = 0; i < 10; ++i) co_await two();
        allocated = test::allocated() - before;
    };
    asio::co_spawn(io, use, asio::detached);
    io.run();
    CHECK(allocated == 0);
}
