// SPDX-License-Identifier: BSL-1.0
// What it costs to borrow a connection that is open and was used just now, and to give it back.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/connection_pool.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace {

using namespace bench;
using clock_type = std::chrono::steady_clock;

/// The least that a pool has to do: those that are idle, and since when. Nobody can wait for one,
/// nothing is opened, and nothing has an age.
class naive_pool {
public:
    struct entry {
        std::unique_ptr<int> connection;
        clock_type::time_point used;
    };

    naive_pool() {
        idle_.reserve(4);
        for (int i = 0; i < 4; ++i) idle_.push_back({std::make_unique<int>(1), clock_type::now()});
    }

    asio::awaitable<entry> acquire() {
        entry one = pop();
        if (clock_type::now() - one.used > std::chrono::milliseconds(500)) {
            co_await is_usable(*one.connection);
        }
        co_return one;
    }
    void release(entry one) {
        one.used = clock_type::now();
        std::lock_guard lock(mutex_);
        idle_.push_back(std::move(one));
    }

private:
    static asio::awaitable<bool> is_usable(int&) { co_return true; }

    entry pop() {
        std::lock_guard lock(mutex_);
        entry last = std::move(idle_.back());
        idle_.pop_back();
        return last;
    }

    std::mutex mutex_;
    std::vector<entry> idle_;
};

asio::awaitable<void> borrow(run& r, naive_pool& pool) {
    while (r.more()) {
        auto one = co_await pool.acquire();
        benchmark::DoNotOptimize(*one.connection);
        pool.release(std::move(one));
    }
}

asio::awaitable<void> borrow(run& r, tidegate::connection_pool<int>& pool) {
    co_await pool.warm_up();
    while (r.more()) {
        auto const one = co_await pool.acquire();
        benchmark::DoNotOptimize(*one);
    }
}

group const borrowing{[] {
    row("borrow_connection/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        auto open = []() -> asio::awaitable<int> { co_return 1; };
        auto validate = [](int&) -> asio::awaitable<bool> { co_return true; };
        tidegate::connection_pool<int> pool(
            context, tidegate::connection_pool_options().max_size(4).min_size(4), open, validate);
        drive(context, borrow(r, pool));
    });
    row("borrow_connection/mutex_and_vector", cpu_time, [](run& r) {
        asio::io_context context{1};
        naive_pool pool;
        drive(context, borrow(r, pool));
    });
    claim("borrow_connection",
          ratio_of("borrow_connection/tidegate", "borrow_connection/mutex_and_vector"), at_most(2));
    claim("borrow_connection_allocations", allocations_of("borrow_connection/tidegate"),
          at_most(0));
}};

} // namespace
