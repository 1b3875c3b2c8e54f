// SPDX-License-Identifier: BSL-1.0
// Results kept in files: found by looking through the folders each time, against an index of them
// that is made once. Real files, of a few kilobytes.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/file_cache_tier.hpp>
#include <tidegate/tiered_cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

using namespace bench;
namespace fs = std::filesystem;

constexpr int results = 1200;
constexpr int categories = 10;
constexpr int rounds = 10; // how often each is asked for
constexpr int page = 20;   // how many at once

std::string id_of(int n) { return "video" + std::to_string(n % results * 7919 % results); }
std::string const& contents() {
    static std::string const text(3000, 'x');
    return text;
}

/// Goes with all that is in it.
class folder {
public:
    folder() {
        std::string name = (fs::temp_directory_path() / "tidegate-bench-XXXXXX").string();
        if (!::mkdtemp(name.data())) throw std::runtime_error("no folder " + name);
        path_ = name;
    }
    folder(folder const&) = delete;
    folder& operator=(folder const&) = delete;
    ~folder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    fs::path const& path() const noexcept { return path_; }

private:
    fs::path path_;
};

std::string find_by_scan(fs::path const& all, std::string const& id) {
    for (auto const& category : fs::directory_iterator(all)) {
        for (auto const& file : fs::directory_iterator(category)) {
            if (file.path().stem() != id) continue;
            std::ifstream in(file.path(), std::ios::binary);
            return {std::istreambuf_iterator<char>(in), {}};
        }
    }
    return {};
}

void scan(run& r) {
    r.skip_warm_up();
    folder all;
    for (int i = 0; i < results; ++i) {
        auto const category = all.path() / std::to_string(i % categories);
        fs::create_directories(category);
        std::ofstream(category / (id_of(i) + ".md")) << contents();
    }
    while (r.more(results)) {
        for (int i = 0; i < results; ++i) {
            if (find_by_scan(all.path(), id_of(i)) != contents()) throw std::logic_error("lost");
        }
    }
}

asio::awaitable<void> fill(tidegate::worker_pool& pool, fs::path const& path) {
    auto files = co_await tidegate::file_cache_tier::open(pool, path);
    std::vector<tidegate::tier_entry> entries;
    for (int i = 0; i < results; ++i) entries.push_back({id_of(i), {contents()}});
    auto putting = files->put_many(entries);
    co_await std::move(putting);
}

// A service that starts, makes its index, and is asked for every result again and again.
asio::awaitable<void> find_all(asio::io_context& context, tidegate::worker_pool& pool,
                               fs::path const& path) {
    using options = tidegate::cache_options<std::string, std::string>;
    auto files = co_await tidegate::file_cache_tier::open(pool, path);
    tidegate::tiered_cache<std::string, std::string> cache(context, options().max_entries(results),
                                                           files);
    using names = std::vector<std::string>;
    auto compute = [](names const& ids) -> asio::awaitable<names> {
        throw std::logic_error("lost " + ids.front());
        co_return ids;
    };
    for (int i = 0; i < results * rounds; i += page) {
        names ids;
        for (int k = 0; k < page; ++k) ids.push_back(id_of(i + k));
        auto const found = co_await cache.get_or_load_all(ids, compute);
        for (auto const& value : found) {
            if (*value != contents()) throw std::logic_error("wrong");
        }
    }
}

void indexed(run& r) {
    r.skip_warm_up();
    folder all;
    asio::io_context context{1};
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1));
    start(context, fill(pool, all.path()));
    context.run();
    while (r.more(results * rounds)) {
        start(context, find_all(context, pool, all.path()));
        context.restart();
        context.run();
    }
}

group const finding{[] {
    row("results_1200/scan", wall_time, scan)->Iterations(1)->Repetitions(3);
    row("results_1200/indexed", wall_time, indexed)->Iterations(1)->Repetitions(3);
    claim("results_1200_time", ratio_of("results_1200/indexed", "results_1200/scan"),
          at_most(0.01));
}};

} // namespace
