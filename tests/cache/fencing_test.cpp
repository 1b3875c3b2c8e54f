// SPDX-License-Identifier: BSL-1.0
// Once a value was changed, no load that began before is stored over it.
#include "cache/support.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/strand.hpp>

#include <atomic>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using test::asking;
using test::gate;
using tidegate::cache_options;

namespace {

// Called once, wherever a key that has it is moved next: a result is stored with its key.
struct move_hook {
    std::function<void()> call;
    bool is_set = false;

    void reach() {
        if (std::exchange(is_set, false)) call();
    }
};

struct watched_key {
    int id = 0;
    move_hook* hook = nullptr;

    explicit watched_key(int i, move_hook* h = nullptr) : id(i), hook(h) {}
    watched_key(watched_key const&) = default;
    watched_key(watched_key&& from) noexcept : id(from.id), hook(from.hook) {
        if (hook) hook->reach();
    }
    watched_key& operator=(watched_key const&) = default;
    friend bool operator==(watched_key const& a, watched_key const& b) { return a.id == b.id; }
};

struct id_hash {
    std::size_t operator()(watched_key const& key) const noexcept {
        return static_cast<std::size_t>(key.id);
    }
};

using watched_cache = tidegate::basic_cache<watched_key, int, tidegate::eviction::adaptive, id_hash,
                                            std::equal_to<watched_key>>;

} // namespace

TEST_CASE("a load that is being stored while its key is invalidated is not there afterwards") {
    asio::io_context io;
    std::atomic<bool> landing{false}, invalidated{false};
    move_hook hook;
    hook.call = [&] {
        landing = true;
        // Long enough for who does not wait for the store; who does goes on after it.
        for (int i = 0; i < 20'000 && !invalidated; ++i) std::this_thread::yield();
    };
    watched_cache cache(io, cache_options<watched_key, int>{}.max_entries(10));
    auto load = [&](watched_key const&) -> asio::awaitable<int> {
        hook.is_set = true;
        co_return 1;
    };
    asking<int> one;
    one.ask(io, cache, watched_key(1, &hook), load);
    {
        std::jthread const loading([&] { io.run(); });
        while (!landing) std::this_thread::yield();
        cache.invalidate(watched_key(1));
        invalidated = true;
    }
    CHECK(one.value == 1);
    CHECK_FALSE(cache.contains(watched_key(1)));
}

TEST_CASE("a load that begins while a value is weighed is not stored over it") {
    asio::io_context io;
    gate g(io);
    int source = 1;
    asking<int> other;
    std::function<void()> meanwhile;
    tidegate::cache<int, int> cache(
        io, cache_options<int, int>{}.max_weight(100, [&](int, int) -> std::uint64_t {
            if (auto const call = std::exchange(meanwhile, nullptr)) call();
            return 1;
        }));
    auto load = [&](int) -> asio::awaitable<int> {
        int const read = source;
        co_await g.pass();
        co_return read;
    };
    meanwhile = [&] {
        other.ask(io, cache, 1, load);
        io.poll();
    };
    cache.put(1, 2);
    source = 2;
    g.open();
    io.restart();
    io.run();
    CHECK(other.value == 1); // it had asked before
    CHECK(cache.get_if_present(1) == 2);
}

namespace {

// What threads change in the source and then in a cache is never found older than it was. The
// source is an atomic that synchronises nothing: only the cache keeps a load from being too old.
class changing_source {
public:
    explicit changing_source(tidegate::cache<int, int>& cache) : cache_(cache) {}

    asio::awaitable<void> ask(int times) {
        for (int i = 0; i < times; ++i) co_await cache_.get_or_load(0, load_);
    }

    template <class Change>
    int change(int times, Change make_known) {
        int older = 0;
        for (int i = 1; i <= times; ++i) {
            source_.store(i, std::memory_order_relaxed);
            make_known(i);
            for (int look = 0; look < 3; ++look) {
                auto const found = cache_.get_if_present(0);
                older += found && *found < i;
            }
        }
        return older;
    }

private:
    tidegate::cache<int, int>& cache_;
    std::atomic<int> source_{0};
    std::function<asio::awaitable<int>(int)> load_ = [this](int) -> asio::awaitable<int> {
        co_return source_.load(std::memory_order_relaxed);
    };
};

} // namespace

TEST_CASE("what is found is never older than the last change, however many threads load") {
    asio::io_context io;
    tidegate::cache<int, int> cache(
        io, cache_options<int, int>{}.max_entries(10).time_to_live(1h).refresh_after(1ns));
    changing_source source(cache);
    for (int i = 0; i < 6; ++i)
        asio::co_spawn(asio::make_strand(io), source.ask(5'000), asio::detached);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { io.run(); });
    CHECK(source.change(2'000, [&](int i) {
        if (i % 2 == 0) cache.invalidate(0);
        else cache.put(0, i);
    }) == 0);
    threads.clear();
}
