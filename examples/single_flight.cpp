// SPDX-License-Identifier: BSL-1.0
// Five ask for the same page at once; it is fetched once, and one of them does not wait to the end.
#include <tidegate/single_flight.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/cancel_after.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using page_flights = tidegate::single_flight<std::string, std::string>;

//! [flight]
asio::awaitable<std::string> fetch(std::string const& url) {
    std::cout << "fetching " << url << "\n";
    co_await tidegate::sleep_for(50ms);
    co_return "the page of " + url;
}
//! [flight]

//! [ask]
asio::awaitable<void> ask(page_flights& pages, int who) {
    auto const page = co_await pages.run("/index", fetch);
    std::cout << who << " has " << *page << "\n";
}
//! [ask]

int main() {
    asio::io_context io;
    page_flights pages(io);
    for (int who = 1; who <= 4; ++who) asio::co_spawn(io, ask(pages, who), asio::detached);
    asio::co_spawn(io, ask(pages, 5), asio::cancel_after(10ms, [](std::exception_ptr e) {
                       if (e) std::cout << "5 has left\n";
                   }));
    io.run();
}
