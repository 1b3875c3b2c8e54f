// SPDX-License-Identifier: BSL-1.0
// An operation that fails twice is tried again; what must not take longer than 200 ms is cut off;
// and a slow answer is asked for a second time.
#include <tidegate/fallback.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/retry.hpp>
#include <tidegate/timeout.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

asio::awaitable<void> pause_for(std::chrono::milliseconds time) {
    asio::steady_timer timer(co_await asio::this_coro::executor, time);
    co_await timer.async_wait(asio::deferred);
}

asio::awaitable<void> demonstrate() {
    //! [retry]
    auto settings = tidegate::retry_options().max_attempts(5).base(20ms).on_retry(
        [](tidegate::retry_event const& e) {
            std::cout << "  attempt " << e.attempt << ": " << e.why.code().message()
                      << ", again in " << e.pause / 1ms << " ms\n";
        });
    tidegate::policy const persistent{tidegate::retry{settings}};
    int calls = 0;
    auto flaky = [&](tidegate::call_context const& call) -> asio::awaitable<int> {
        if (++calls < 3) throw boost::system::system_error(asio::error::connection_refused);
        co_return static_cast<int>(call.attempt());
    };
    int const worked = co_await persistent(flaky);
    std::cout << "worked at attempt " << worked << "\n";
    //! [retry]

    //! [timeout]
    auto answer = [](tidegate::failure const& why) {
        std::cout << "  " << why.code().message() << "; an old answer has to do\n";
        return 41;
    };
    tidegate::policy const bounded{tidegate::fallback{answer}, tidegate::timeout{200ms}};
    auto slow = []() -> asio::awaitable<int> {
        co_await pause_for(10s);
        co_return 42;
    };
    int const answered = co_await bounded(slow);
    std::cout << "answer " << answered << "\n";
    //! [timeout]

    //! [hedge]
    tidegate::policy const hedged{
        tidegate::hedge{tidegate::hedge_options().delay(50ms).idempotent(true)}};
    int attempts = 0;
    auto sometimes_slow = [&]() -> asio::awaitable<int> {
        int const mine = ++attempts;
        co_await pause_for(mine == 1 ? 5s : 10ms);
        co_return mine;
    };
    int const first = co_await hedged(sometimes_slow);
    std::cout << "attempt " << first << " was first\n";
    //! [hedge]
}

int main() {
    asio::io_context io;
    asio::co_spawn(io, demonstrate(), asio::detached);
    io.run();
}
