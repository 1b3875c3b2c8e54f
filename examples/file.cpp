// SPDX-License-Identifier: BSL-1.0
// Writes a file so that nobody ever sees half of it, and reads it back, whole and in chunks.
#include <tidegate/file.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <iostream>
#include <string>

namespace asio = boost::asio;

asio::awaitable<void> run(tidegate::worker_pool& pool, std::filesystem::path path) {
    std::string text;
    for (int i = 0; i < 1000; ++i) text += "line " + std::to_string(i) + "\n";
    //! [file]
    co_await tidegate::write_file(pool, path, text);

    std::string const again = co_await tidegate::read_file(pool, path);
    std::cout << path.filename() << " has " << again.size() << " bytes\n";

    auto const blocks = tidegate::read_file_options().block(4096);
    auto chunks = tidegate::read_chunks(pool, path, blocks);
    while (auto chunk = co_await chunks.async_resume(asio::deferred)) {
        std::cout << "a chunk of " << chunk->size() << "\n";
    }
    //! [file]
    try {
        co_await tidegate::read_file(pool, path / "none");
    } catch (tidegate::file_error const& e) {
        std::cout << e.code().message() << "\n"; // what() names the file, too
    }
}

int main() {
    auto const path = std::filesystem::temp_directory_path() / "tidegate-example.txt";
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    asio::co_spawn(io, run(pool, path), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
    std::filesystem::remove(path);
}
