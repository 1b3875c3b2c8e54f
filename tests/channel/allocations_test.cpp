// SPDX-License-Identifier: BSL-1.0
// Where memory ends, no value is lost.
#include "support/counting_new.hpp"

#include <tidegate/channel.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <exception>
#include <new>
#include <optional>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using channel = tidegate::channel<int>;
using numbers = std::vector<int>;

namespace {

/// Starts to receive, sends three values while the n-th allocation from then on fails, and adds to
/// what was received what is still there. False once no allocation failed.
template <class Receive>
bool all_come(std::size_t n, Receive const& receive) {
    INFO("allocation " << n);
    asio::io_context io;
    channel pipe(io, 8);
    numbers received, sent;
    sent.reserve(3);
    receive(pipe, received);
    io.poll();
    io.restart();
    test::fail_allocation(n);
    try {
        for (int i = 1; i <= 3; ++i) {
            if (pipe.try_send(i)) sent.push_back(i);
        }
        io.poll();
    } catch (std::bad_alloc const&) {
        CHECK(sent.size() < 3); // nobody but who sends may hear of it
    }
    bool const failed = test::until_failure() == 0;
    test::fail_allocation(0);
    io.restart();
    io.poll();
    while (auto const left = pipe.try_receive()) received.push_back(*left);
    CHECK(received == sent);
    return failed;
}

} // namespace

TEST_CASE("who receives several values at once loses none for want of memory") {
    auto const by_handler = [](channel& pipe, numbers& received) {
        pipe.async_receive_some(8, [&](boost::system::error_code ec, numbers got) {
            CHECK(!ec);
            received = std::move(got);
        });
    };
    auto const by_coroutine = [](channel& pipe, numbers& received) {
        auto work = [&pipe, &received]() -> asio::awaitable<void> {
            received = co_await pipe.receive_some(8);
        };
        asio::co_spawn(pipe.get_executor(), std::move(work),
                       [](std::exception_ptr e) { CHECK(!e); });
    };
    for (std::size_t n = 1; all_come(n, by_handler); ++n) continue;
    for (std::size_t n = 1; all_come(n, by_coroutine); ++n) continue;
}
