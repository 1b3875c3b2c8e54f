// SPDX-License-Identifier: BSL-1.0
// Connections that were opened together are not replaced together.
#include <tidegate/connection_pool.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::connection_pool_options;

namespace {

struct lifetime_tag;
using test_clock = tidegate::testing::basic_manual_clock<lifetime_tag>;
using pool = tidegate::basic_connection_pool<int, test_clock>;

constexpr std::size_t many = 100;

// Has all of them at once.
void use_all(asio::io_context& io, pool& connections) {
    auto use = [&]() -> asio::awaitable<void> {
        std::vector<pool::connection> held;
        for (std::size_t i = 0; i < many; ++i) {
            auto getting = connections.acquire();
            held.push_back(co_await std::move(getting));
        }
    };
    asio::co_spawn(io, use(), [](std::exception_ptr e) { CHECK_FALSE(e); });
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("connections are used for nine tenths of their time at least, and then go one by one") {
    asio::io_context io;
    auto open = []() -> asio::awaitable<std::unique_ptr<int>> {
        co_return std::make_unique<int>();
    };
    auto is_good = [](int&) -> asio::awaitable<bool> { co_return true; };
    pool connections(io, connection_pool_options{}.max_size(many).max_lifetime(100s), open,
                     is_good);
    use_all(io, connections);
    REQUIRE(connections.statistics().connected == many);

    test_clock::advance(90s - 1ns);
    use_all(io, connections);
    CHECK(connections.statistics().too_old == 0);

    test_clock::advance(5s);
    use_all(io, connections);
    auto const halfway = connections.statistics().too_old; // half of them, give or take five
    CHECK(halfway >= many / 10);
    CHECK(halfway <= many - many / 10);

    test_clock::advance(5s + 1ns);
    use_all(io, connections);
    CHECK(connections.statistics().too_old == many);
    CHECK(connections.statistics().open == many);
}
