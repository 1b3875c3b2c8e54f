// SPDX-License-Identifier: BSL-1.0
// Where does the time go, and how do calls end? Percentiles, outcomes, and a report each second.
#include <tidegate/json.hpp>
#include <tidegate/monitor.hpp>
#include <tidegate/parallel.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/src.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

asio::awaitable<int> query(int number) {
    co_await tidegate::sleep_for(number % 10 == 0 ? 20ms : 2ms);
    if (number % 25 == 0) throw std::runtime_error("the database is tired");
    co_return number;
}

//! [request]
asio::awaitable<void> request(tidegate::monitor& monitor, int number) {
    auto const whole = monitor.measure("request"); // ends with the scope, as error if that throws
    auto ask = [number] { return query(number); };
    co_await monitor.track("query", ask);
    co_await tidegate::sleep_for(1ms);
}
//! [request]

asio::awaitable<void> requests(tidegate::monitor& monitor) {
    std::vector<int> numbers(3000);
    for (int i = 0; i < 3000; ++i) numbers[static_cast<std::size_t>(i)] = i;
    auto handle = [&](int number) { return request(monitor, number); };
    co_await tidegate::parallel_for_each<tidegate::on_error::collect>(numbers, 8, handle);
}

} // namespace

int main() {
    asio::io_context io{1};
    tidegate::monitor monitor;
    auto print = [](tidegate::monitor_report const& report) {
        std::cout << boost::json::serialize(tidegate::to_json(report.recent)) << '\n';
    };
    asio::cancellation_signal enough;
    asio::co_spawn(io, monitor.report_every(1s, print),
                   asio::bind_cancellation_slot(enough.slot(), [](std::exception_ptr) {}));
    asio::co_spawn(io, requests(monitor),
                   [&](std::exception_ptr) { enough.emit(asio::cancellation_type::terminal); });
    io.run();
    for (auto const& s : monitor.summary()) {
        std::cout << s.name << ": " << s.count << " well, " << s.errors << " failed, p50 "
                  << s.p50 / 1us << " us, p99 " << s.p99 / 1us << " us\n";
    }
}
