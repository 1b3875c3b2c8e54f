// SPDX-License-Identifier: BSL-1.0
// Many coroutines look up one key each; the store is asked for many keys at once.
#include <tidegate/batcher.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <span>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using lookup = tidegate::batcher<int, std::string>;

asio::awaitable<void> show(lookup& names, int key) {
    std::string const name = co_await names.submit(key);
    std::cout << key << " -> " << name << "\n";
}

int main() {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options{}.threads(1));
    //! [batcher]
    auto const ask_store = [](std::span<int> keys) {
        std::vector<std::string> found;
        for (int key : keys) found.push_back("name-" + std::to_string(key));
        return found; // one for each key, in their order
    };
    lookup names(pool, tidegate::batcher_options{}.max_size(8).max_delay(2ms), ask_store);
    //! [batcher]
    for (int key = 0; key < 20; ++key) asio::co_spawn(io, show(names, key), asio::detached);
    io.run();
    auto const stats = names.statistics();
    std::cout << stats.items << " keys in " << stats.batches << " calls\n";
}
