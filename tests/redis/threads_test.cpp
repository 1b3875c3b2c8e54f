// SPDX-License-Identifier: BSL-1.0
// Second levels in Redis whose event loop has several threads.
#include "redis/tier_support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/detached.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

namespace asio = boost::asio;
namespace redis = tidegate::redis;
using namespace std::chrono_literals;
using test::redis_server;

namespace {

using numbers = tidegate::tiered_cache<int, int>;

struct many {
    asio::io_context io;
    std::vector<std::shared_ptr<redis::cache_tier>> tiers;
    std::vector<std::unique_ptr<numbers>> caches;
    std::array<asio::cancellation_signal, 2> signals;
    std::atomic<int> running{16};
    std::atomic<int> wrong{0};

    explicit many(redis_server const& server) {
        for (auto& signal : signals) {
            tiers.push_back(std::make_shared<redis::cache_tier>(
                io, server.config(), redis::cache_tier_options().reconnect_pause(2ms)));
            caches.push_back(std::make_unique<numbers>(
                io, tidegate::cache_options<int, int>().max_entries(20), tiers.back()));
            asio::co_spawn(io, tiers.back()->run(),
                           asio::bind_cancellation_slot(signal.slot(), asio::detached));
        }
    }

    static asio::awaitable<int> load(int key) { co_return key; }

    static asio::awaitable<void> use(many& all, int seed) {
        for (int i = 0; i < 150; ++i) {
            int const key = (seed * 31 + i * 7) % 40;
            auto& cache = *all.caches[static_cast<std::size_t>(seed + i) % 2];
            if (i % 5 == 0) cache.put(key, key);
            if (i % 7 == 0) {
                auto invalidating = cache.invalidate(key);
                co_await std::move(invalidating);
            }
            auto getting = cache.get_or_load(key, load);
            if (*co_await std::move(getting) != key) ++all.wrong;
        }
    }
    static asio::awaitable<void> finish(many& all) {
        for (auto& cache : all.caches) {
            auto flushing = cache->flush();
            co_await std::move(flushing);
        }
        for (auto& signal : all.signals) signal.emit(asio::cancellation_type::terminal);
    }
};

} // namespace

TEST_CASE("Many threads use second levels at once", "[stress]") {
    NEEDS_REDIS();
    redis_server server;
    many all(server);
    for (int i = 0; i < 16; ++i) {
        asio::co_spawn(all.io, many::use(all, i), [&](std::exception_ptr) {
            if (--all.running == 0)
                asio::co_spawn(asio::make_strand(all.io), many::finish(all), asio::detached);
        });
    }
    std::array<std::thread, 4> threads;
    for (auto& each : threads) each = std::thread([&] { all.io.run(); });
    for (auto& each : threads) each.join();
    CHECK(all.wrong == 0);
    CHECK(all.running == 0);
}
