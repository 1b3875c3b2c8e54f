// SPDX-License-Identifier: BSL-1.0
// A cache with a second level: a hit in memory beside one of a plain cache, and what the levels
// beyond take to answer. `*_1k` has values of 1 KiB.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/file_cache_tier.hpp>
#include <tidegate/memory_cache_tier.hpp>
#include <tidegate/tiered_cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace bench;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::string const keys[]{"nano", "small", "large", "huge"};
constexpr std::size_t value_size = 1024;

auto texts() {
    return tidegate::cache_options<std::string, std::string>().max_entries(100).time_to_live(1h);
}

asio::awaitable<std::string> load(std::string const&) { co_return std::string(value_size, 'x'); }

template <class Cache>
asio::awaitable<void> hit(run& r, Cache& cache) {
    for (auto const& key : keys) co_await cache.get_or_load(key, load);
    for (std::size_t i = 0; r.more(); ++i)
        benchmark::DoNotOptimize(co_await cache.get_or_load(keys[i % 4], load));
}

std::vector<tidegate::tier_entry> entries() {
    std::vector<tidegate::tier_entry> all;
    for (auto const& key : keys) {
        tidegate::tier_entry one;
        one.key = key;
        one.value = {std::string(value_size, 'x'), tidegate::tier_value::for_ever};
        all.push_back(std::move(one));
    }
    return all;
}

asio::awaitable<void> ask(run& r, tidegate::cache_tier& tier) {
    co_await tier.put_many(entries());
    for (std::size_t i = 0; r.more(); ++i) {
        std::vector<std::string> wanted{keys[i % 4]};
        auto const found = co_await tier.get_many(std::move(wanted));
        if (!found.front()) throw std::logic_error("the second level lost " + keys[i % 4]);
    }
}

fs::path new_folder() {
    auto folder = fs::temp_directory_path() / "tidegate-bench-tier";
    fs::remove_all(folder);
    return folder;
}

asio::awaitable<void> ask_files(run& r, tidegate::worker_pool& pool, fs::path folder) {
    auto opening = tidegate::file_cache_tier::open(pool, std::move(folder));
    auto const files = co_await std::move(opening);
    co_await ask(r, *files);
}

std::string read_whole(fs::path const& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

group const levels{[] {
    row("tiered_hit/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        auto tier = std::make_shared<tidegate::memory_cache_tier>(context, 1'000'000);
        tidegate::tiered_cache<std::string, std::string> cache(context, texts(), tier);
        drive(context, hit(r, cache));
    });
    row("tiered_hit/cache", cpu_time, [](run& r) {
        asio::io_context context{1};
        tidegate::cache<std::string, std::string> cache(context, texts());
        drive(context, hit(r, cache));
    });
    claim("tiered_hit", ratio_of("tiered_hit/tidegate", "tiered_hit/cache"), at_most(1.5));

    // No claims: files are the machine's.
    row("second_level_1k/memory", cpu_time, [](run& r) {
        asio::io_context context{1};
        tidegate::memory_cache_tier tier(context, 1'000'000);
        drive(context, ask(r, tier));
    });
    row("second_level_1k/files", wall_time, [](run& r) {
        asio::io_context context{1};
        auto const folder = new_folder();
        tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
        drive(context, ask_files(r, pool, folder));
        pool.stop();
        fs::remove_all(folder);
    });
    row("second_level_1k/ifstream_blocking", wall_time, [](run& r) {
        auto const folder = new_folder();
        fs::create_directories(folder);
        for (auto const& key : keys) std::ofstream(folder / key) << std::string(value_size, 'x');
        for (std::size_t i = 0; r.more(); ++i) {
            auto const text = read_whole(folder / keys[i % 4]);
            benchmark::DoNotOptimize(text.size());
        }
        fs::remove_all(folder);
    });
}};

} // namespace
