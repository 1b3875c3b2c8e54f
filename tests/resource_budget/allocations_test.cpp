// SPDX-License-Identifier: BSL-1.0
// What a lease allocates: itself, and nothing when it ends.
#include <tidegate/resource_budget.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <string>

namespace asio = boost::asio;

TEST_CASE("a lease of a resident thing allocates once, and nothing when it ends") {
    asio::io_context io;
    tidegate::worker_pool pool(io, tidegate::worker_pool_options().threads(1));
    tidegate::resource_budget<std::string, int> things(io, {100});
    things.add("model", {1}, pool, [] { return std::make_shared<int>(7); });
    std::shared_ptr<int> loaded;
    things.async_acquire("model", [&](std::exception_ptr, std::shared_ptr<int> lease) {
        loaded = std::move(lease);
    });
    io.run();
    REQUIRE(loaded);
    loaded.reset();
    std::string const name = "model";
    std::size_t const before = test::allocated();
    auto lease = things.try_acquire(name);
    CHECK(test::allocated() - before == 1);
    REQUIRE(lease);
    CHECK(*lease == 7);
    lease.reset();
    CHECK(test::allocated() - before == 1);
    CHECK(things.statistics().leased == 0);
}
