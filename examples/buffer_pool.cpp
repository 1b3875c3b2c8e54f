// SPDX-License-Identifier: BSL-1.0
// Requests of any size share aligned buffers of three sizes; nothing is allocated after the start.
#include <tidegate/buffer_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <iostream>

namespace asio = boost::asio;

//! [borrow]
asio::awaitable<void> answer(tidegate::buffer_pool& buffers, std::size_t size) {
    auto const mine = co_await buffers.acquire(size);
    std::ranges::fill(mine->first(size), std::byte{0});
    std::cout << size << " bytes in a buffer of " << mine->size() << '\n';
    co_await asio::post(asio::deferred); // stands for the sending of it
} // the buffer goes back
//! [borrow]

int main() {
    asio::io_context io;
    //! [sizes]
    auto const sizes =
        tidegate::buffer_pool_options().size_class(4096, 64).size_class(65536, 16).size_class(
            1 << 20, 2);
    tidegate::buffer_pool buffers(io, sizes);
    //! [sizes]
    for (std::size_t const size : {100, 4097, 200'000, 1 << 20, 1 << 20, 10})
        asio::co_spawn(io, answer(buffers, size), asio::detached);
    io.run();
}
