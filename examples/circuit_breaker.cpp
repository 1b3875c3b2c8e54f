// SPDX-License-Identifier: BSL-1.0
// A dependency breaks down and recovers; the breaker stops calling it meanwhile.
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/circuit_breaker_registry.hpp>
#include <tidegate/policy.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <exception>
#include <iostream>

namespace asio = boost::asio;
using namespace std::chrono_literals;

// One breaker for each host, with its own idea of failure.
void call_hosts(asio::io_context& io) {
    auto fetch = []() -> asio::awaitable<int> { co_return 7; };
    //! [hosts]
    tidegate::circuit_breaker_registry hosts(tidegate::circuit_breaker_options(), 100);
    auto const breaker = hosts.get("db.example"); // to be kept as long as the policy

    // Who is not allowed to ask has got an answer: the host is well.
    auto is_failure = [](tidegate::failure const& why) {
        return why.code() != boost::system::errc::permission_denied;
    };
    tidegate::policy const guarded{break_if(*breaker, is_failure)};
    guarded.async_call(io.get_executor(), fetch, [](std::exception_ptr failed, int answer) {
        if (!failed) std::cout << "the host says " << answer << "\n";
    });
    //! [hosts]
    io.run();
}

int main() {
    asio::io_context io;
    //! [breaker]
    auto tell = [](tidegate::breaker_state from, tidegate::breaker_state to) {
        std::cout << "  breaker: " << to_string(from) << " -> " << to_string(to) << "\n";
    };
    tidegate::circuit_breaker breaker(tidegate::circuit_breaker_options()
                                          .count_window(10)
                                          .minimum_calls(4)
                                          .failure_rate(50)
                                          .open_duration(200ms)
                                          .permitted_probes(2)
                                          .on_transition(tell));
    tidegate::policy const guarded{breaker};
    //! [breaker]

    auto const start = std::chrono::steady_clock::now();
    auto fetch = [&]() -> asio::awaitable<int> {
        auto const now = std::chrono::steady_clock::now() - start;
        if (now > 100ms && now < 350ms) { // down for a while
            throw boost::system::system_error(asio::error::connection_refused);
        }
        co_return 42;
    };
    auto client = [&]() -> asio::awaitable<void> {
        asio::steady_timer pause(io);
        for (int i = 0; i < 30; ++i) {
            try {
                int const answer = co_await guarded(fetch);
                std::cout << "answer " << answer << "\n";
            } catch (std::exception const& e) {
                std::cout << "failed: " << e.what() << "\n";
            }
            pause.expires_after(25ms);
            co_await pause.async_wait(asio::deferred);
        }
    };
    asio::co_spawn(io, client(), asio::detached);
    io.run();
    io.restart();
    call_hosts(io);
}
