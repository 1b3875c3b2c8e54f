// SPDX-License-Identifier: BSL-1.0
// A range worked off three items at a time: stopping at the first failure, or collecting them all.
#include <tidegate/parallel.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::on_error;
using tidegate::parallel_map;

asio::awaitable<std::size_t> fetch_size(std::string const& page) {
    co_await tidegate::sleep_for(20ms); // stands for a request
    if (page.empty()) throw std::invalid_argument("a page without a name");
    co_return page.size() * 100;
}

//! [parallel]
asio::awaitable<void> run() {
    std::vector<std::string> const pages{"index", "about", "contact", "", "news", "imprint"};
    auto const fetch = [](std::string const& page) { return fetch_size(page); };
    try {
        co_await parallel_map(pages, 3, fetch);
    } catch (std::exception const& e) {
        std::cout << "stopped: " << e.what() << "\n";
    }
    auto const each = co_await parallel_map<on_error::collect>(pages, 3, fetch);
    for (std::size_t i = 0; i < pages.size(); ++i) {
        std::cout << "'" << pages[i] << "': ";
        if (each[i]) std::cout << each[i].value() << " bytes\n";
        else std::cout << "failed\n";
    }
}
//! [parallel]

int main() {
    asio::io_context io{1}; // 1: it is run by one thread only, which makes this cheaper
    asio::co_spawn(io, run(), asio::detached);
    io.run();
}
