// SPDX-License-Identifier: BSL-1.0
// Two large buffers serve any number of coroutines; nothing is allocated after the start.
#include <tidegate/object_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <iostream>
#include <vector>

namespace asio = boost::asio;
using buffer = std::vector<char>;

//! [use]
asio::awaitable<void> use(tidegate::object_pool<buffer>& buffers, int number) {
    auto const mine = co_await buffers.acquire();
    std::cout << number << " has " << mine->size() << " bytes, " << buffers.waiting() << " wait\n";
    co_await asio::post(asio::deferred); // stands for work
} // the buffer goes back
//! [use]

int main() {
    asio::io_context io;
    //! [make]
    auto const make = [] { return std::make_unique<buffer>(std::size_t{1} << 20); };
    tidegate::object_pool<buffer> buffers(io, 2, make);
    //! [make]
    for (int i = 0; i < 6; ++i) asio::co_spawn(io, use(buffers, i), asio::detached);
    io.run();
}
