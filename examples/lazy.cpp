// SPDX-License-Identifier: BSL-1.0
// A dictionary that takes long to load is loaded once, when somebody first asks, off the loop.
#include <tidegate/lazy.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>
#include <map>
#include <string>

namespace asio = boost::asio;
using dictionary = std::map<std::string, std::string>;

//! [use]
asio::awaitable<void> translate(tidegate::lazy<dictionary>& words, std::string word) {
    auto const loaded = co_await words.get();
    auto const found = loaded->find(word);
    std::cout << word << ": " << (found != loaded->end() ? found->second : "?") << "\n";
}
//! [use]

int main() {
    asio::io_context io;
    tidegate::worker_pool pool(io);
    //! [lazy]
    tidegate::lazy<dictionary> words(pool, [] {
        std::cout << "loading\n";
        return dictionary{{"gate", "Tor"}, {"tide", "Gezeiten"}};
    });
    //! [lazy]
    for (char const* word : {"tide", "gate", "weir"}) {
        asio::co_spawn(io, translate(words, word), asio::detached);
    }
    io.run();
}
