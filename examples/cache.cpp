// SPDX-License-Identifier: BSL-1.0
// Queries of a SQLite database, cached: on the worker pool, one at a time, misses together.
#include <tidegate/cache.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <sqlite3.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

// One connection, used by one thread at a time.
class database {
public:
    database() {
        check(sqlite3_open(":memory:", &handle_));
        run("CREATE TABLE sale(product INTEGER, cents INTEGER)");
        run("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199999) "
            "INSERT INTO sale SELECT i % 200, i * 7919 % 10000 FROM n");
    }
    database(database const&) = delete;
    database& operator=(database const&) = delete;
    ~database() { sqlite3_close(handle_); }

    // What each product has earned, in one query; nothing for one that was never sold.
    std::vector<std::optional<long>> earned(std::vector<int> const& products) {
        ++queries;
        std::string in;
        for (int const p : products) in += (in.empty() ? "" : ",") + std::to_string(p);
        sqlite3_stmt* prepared = nullptr;
        std::string const sql =
            "SELECT product, sum(cents) FROM sale WHERE product IN (" + in + ") GROUP BY product";
        check(sqlite3_prepare_v2(handle_, sql.c_str(), -1, &prepared, nullptr));
        std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> const statement(prepared,
                                                                              sqlite3_finalize);
        std::vector<std::optional<long>> sums(products.size());
        while (sqlite3_step(statement.get()) == SQLITE_ROW) {
            int const product = sqlite3_column_int(statement.get(), 0);
            for (std::size_t i = 0; i < products.size(); ++i) {
                if (products[i] == product)
                    sums[i] = static_cast<long>(sqlite3_column_int64(statement.get(), 1));
            }
        }
        return sums;
    }

    int queries = 0;

private:
    void run(char const* sql) { check(sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr)); }
    void check(int code) {
        if (code != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(handle_));
    }

    sqlite3* handle_ = nullptr;
};

// 40 screens of ten products each, most of them popular ones.
//! [screens]
asio::awaitable<long> show_screens(tidegate::worker_pool& pool, database& db,
                                   tidegate::cache<int, long>* cache) {
    //! [query]
    auto query =
        [&](std::vector<int> const& products) -> asio::awaitable<std::vector<std::optional<long>>> {
        auto job = [&db, products] { return db.earned(products); };
        co_return co_await pool.submit(job);
    };
    //! [query]
    long total = 0;
    for (int screen = 0; screen < 40; ++screen) {
        std::vector<int> products;
        products.reserve(10);
        for (int i = 0; i < 10; ++i) products.push_back(i < 8 ? i * 3 : (screen * 13 + i) % 250);
        std::vector<std::optional<long>> sums;
        if (cache) sums = co_await cache->get_or_load_all(products, query);
        else sums = co_await query(products);
        for (auto const& sum : sums) total += sum.value_or(0);
    }
    co_return total;
}
//! [screens]

int main() {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options{}.threads(1));
    database db;
    //! [options]
    tidegate::cache<int, long> cache(io, tidegate::cache_options<int, long>{}
                                             .max_entries(100)
                                             .time_to_live(5min)
                                             .negative_time_to_live(1min));
    //! [options]
    auto measure = [&](char const* what, tidegate::cache<int, long>* with) {
        int const before = db.queries;
        auto const begin = steady::now();
        long total = 0;
        asio::co_spawn(io, show_screens(pool, db, with), [&](std::exception_ptr e, long sum) {
            if (e) std::rethrow_exception(e);
            total = sum;
        });
        io.restart();
        io.run();
        std::printf("%-9s %4d queries, %6.1f ms, earned %ld.%02ld\n", what, db.queries - before,
                    std::chrono::duration<double, std::milli>(steady::now() - begin).count(),
                    total / 100, total % 100);
    };
    measure("uncached", nullptr);
    measure("cached", &cache);
    measure("again", &cache);
    auto const counted = cache.statistics();
    std::printf("%llu hits, %llu misses: %.0f %%\n", static_cast<unsigned long long>(counted.hits),
                static_cast<unsigned long long>(counted.misses), 100 * counted.hit_ratio());
}
