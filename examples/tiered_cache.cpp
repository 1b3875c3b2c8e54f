// SPDX-License-Identifier: BSL-1.0
// Results that outlive the process: computed once, then found in files, then in memory.
#include <tidegate/file_cache_tier.hpp>
#include <tidegate/sleep.hpp>
#include <tidegate/tiered_cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

asio::awaitable<std::string> analyse(std::string const& video) {
    co_await tidegate::sleep_for(50ms);
    co_return "what is to be seen in " + video;
}

// What a process does from its start to its end.
asio::awaitable<void> serve(asio::io_context& context, tidegate::worker_pool& pool,
                            std::filesystem::path folder) {
    //! [tiered]
    auto files = co_await tidegate::file_cache_tier::open(pool, folder);
    tidegate::tiered_cache<std::string, std::string> results(
        context,
        tidegate::cache_options<std::string, std::string>().max_entries(1000).time_to_live(5min),
        files);
    //! [tiered]
    for (int ask = 1; ask <= 2; ++ask) {
        auto const begun = std::chrono::steady_clock::now();
        auto const result = co_await results.get_or_load("tides.mp4", analyse);
        auto const took = std::chrono::steady_clock::now() - begun;
        std::cout << *result << ": " << took / 1us << " us\n";
    }
    auto const counted = results.second_level_statistics();
    std::cout << "  files: " << counted.hits << " found, " << counted.misses << " not\n";
    co_await results.flush();
}

} // namespace

int main() {
    auto const folder = std::filesystem::temp_directory_path() / "tidegate-example-results";
    for (auto const* run : {"first run", "second run"}) {
        std::cout << run << '\n';
        asio::io_context context{1};
        tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(2));
        asio::co_spawn(context, serve(context, pool, folder), [](std::exception_ptr e) {
            if (e) std::rethrow_exception(e);
        });
        context.run();
    }
    std::filesystem::remove_all(folder);
}
