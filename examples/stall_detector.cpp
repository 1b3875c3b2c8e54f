// SPDX-License-Identifier: BSL-1.0
// Who blocks the event loop? Two handlers that do, found while they do.
#include <tidegate/stall_detector.hpp>
#include <tidegate/watched_executor.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <iostream>
#include <thread>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

asio::awaitable<void> handle_upload() {
    asio::steady_timer pause(co_await asio::this_coro::executor, 1ms);
    co_await pause.async_wait(asio::deferred);
    {
        tidegate::activity_label const label("waits for the disk");
        //! [allow]
        // tidegate-lint: allow(blocking-sleep) is what the example is about
        std::this_thread::sleep_for(60ms);
        //! [allow]
    }
    co_await pause.async_wait(asio::deferred);
    tidegate::activity_label const label("counts to a billion");
    auto const end = std::chrono::steady_clock::now() + 60ms;
    while (std::chrono::steady_clock::now() < end) {
    }
}

} // namespace

int main() {
    asio::io_context context{1};
    //! [watch]
    tidegate::stall_detector detector(tidegate::stall_detector_options().threshold(20ms).on_stall(
        [](tidegate::stall const& one) { std::cout << to_string(one) << '\n'; }));
    asio::co_spawn(tidegate::watched(context.get_executor(), "uploads"), handle_upload(),
                   asio::detached);
    //! [watch]
    context.run();
    std::this_thread::sleep_for(20ms); // the end of the last one is to be seen
    std::cout << detector.statistics().count() << " stalls, the longest "
              << detector.statistics().longest / 1ms << " ms\n";
}
