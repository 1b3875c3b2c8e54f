// SPDX-License-Identifier: BSL-1.0
// The executor of a load: as good as the one inside it.
#include <tidegate/detail/load_graph.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/single_flight.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
namespace execution = boost::asio::execution;
using tidegate::detail::load_executor;
using tidegate::detail::load_node;
using tidegate::detail::load_of;

namespace {

struct node : load_node {};

} // namespace

TEST_CASE("a load is known by its executor, whatever properties that has") {
    asio::io_context io;
    auto const load = std::make_shared<node>();
    asio::any_io_executor const plain = load_executor(io.get_executor(), load);
    CHECK(load_of(plain) == load);
    CHECK(load_of(asio::require(plain, execution::blocking.never)) == load);
    CHECK(load_of(asio::prefer(plain, execution::outstanding_work.tracked)) == load);
    CHECK(load_of(asio::prefer(plain, execution::relationship.continuation)) == load);
    CHECK(load_of(asio::any_io_executor(io.get_executor())) == nullptr);
    CHECK(&asio::query(plain, execution::context) == &io);
}

TEST_CASE("a load that is over is nobody's") {
    asio::io_context io;
    auto load = std::make_shared<node>();
    asio::any_io_executor const plain = load_executor(io.get_executor(), load);
    load.reset();
    CHECK(load_of(plain) == nullptr);
}

TEST_CASE("executors of a load are the same if their properties are") {
    asio::io_context io;
    asio::io_context other;
    auto const load = std::make_shared<node>();
    load_executor const one(io.get_executor(), load);
    load_executor const same(io.get_executor(), load);
    CHECK(one == same);
    CHECK(one != load_executor(other.get_executor(), load));
    CHECK(one != asio::require(one, execution::blocking.never));
    CHECK(one == asio::require(asio::require(one, execution::blocking.never),
                               execution::blocking.possibly));
}

TEST_CASE("an executor that may not block posts, one that may runs at once where it can") {
    asio::io_context io;
    auto const load = std::make_shared<node>();
    load_executor const one(io.get_executor(), load);
    CHECK(asio::query(one, execution::blocking) == execution::blocking.possibly);
    auto const never = asio::require(one, execution::blocking.never);
    CHECK(asio::query(never, execution::blocking) == execution::blocking.never);
    std::vector<int> order;
    one.execute([&] {
        one.execute([&] { order.push_back(1); });
        never.execute([&] { order.push_back(3); });
        asio::require(never, execution::relationship.continuation).execute([&] {
            order.push_back(4);
        });
        order.push_back(2);
    });
    io.run();
    CHECK(order == std::vector{1, 2, 3, 4});
}

TEST_CASE("inside any_io_executor a load's executor tells its properties") {
    asio::io_context io;
    auto const load = std::make_shared<node>();
    asio::any_io_executor const plain = load_executor(io.get_executor(), load);
    CHECK(asio::query(plain, execution::blocking) == execution::blocking.possibly);
    CHECK(asio::query(asio::require(plain, execution::blocking.never), execution::blocking) ==
          execution::blocking.never);
    CHECK(asio::query(plain, execution::outstanding_work) == execution::outstanding_work.untracked);
    CHECK(asio::query(asio::prefer(plain, execution::outstanding_work.tracked),
                      execution::outstanding_work) == execution::outstanding_work.tracked);
    CHECK(asio::query(plain, execution::relationship) == execution::relationship.fork);
    CHECK(asio::query(asio::prefer(plain, execution::relationship.continuation),
                      execution::relationship) == execution::relationship.continuation);
}

TEST_CASE("what runs on a strand in a load is part of it, and what runs elsewhere is not") {
    asio::io_context io;
    auto const load = std::make_shared<node>();
    asio::any_io_executor const plain = load_executor(io.get_executor(), load);
    asio::any_io_executor const strand = asio::make_strand(plain);
    CHECK(load_of(plain) == load);
    CHECK(load_of(strand) == load);
    asio::any_io_executor const inner = io.get_executor();
    CHECK(load_of(asio::any_io_executor(asio::make_strand(inner))) == nullptr);
}

TEST_CASE("what is posted to a strand on a load's executor does not run inside the call") {
    asio::io_context io;
    auto const load = std::make_shared<node>();
    auto const strand =
        asio::make_strand(asio::any_io_executor(load_executor(io.get_executor(), load)));
    std::vector<int> order;
    asio::post(strand, [&] {
        order.push_back(1);
        asio::post(strand, [&] { order.push_back(3); });
        order.push_back(2);
    });
    io.run();
    CHECK(order == std::vector{1, 2, 3});
}

TEST_CASE("what a load starts on a strand does not grow the stack") {
    asio::io_context io{1};
    tidegate::single_flight<int, int> flights(io);
    auto turns = []() -> asio::awaitable<int> {
        tidegate::semaphore slots(co_await asio::this_coro::executor, 1);
        // 1.3 KiB a turn would be more than there is.
        for (int i = 0; i < 20'000; ++i) {
            auto const held = co_await slots.async_acquire(asio::deferred);
        }
        co_return 1;
    };
    auto load = [&](int const&) -> asio::awaitable<int> {
        asio::any_io_executor const strand = asio::make_strand(co_await asio::this_coro::executor);
        auto spawned = asio::co_spawn(strand, turns(), asio::deferred);
        co_return co_await std::move(spawned);
    };
    bool done = false;
    flights.async_run(1, load, [&](std::exception_ptr failed, auto const&) { done = !failed; });
    io.run();
    CHECK(done);
}

TEST_CASE("a context goes on while an executor of a load tracks work there") {
    asio::io_context io;
    auto const load = std::make_shared<node>();
    load_executor const one(io.get_executor(), load);
    {
        std::optional<load_executor> first = asio::prefer(one, execution::outstanding_work.tracked);
        std::optional<load_executor> second = first;
        load_executor third = std::move(*first);
        first.reset();
        io.poll();
        CHECK_FALSE(io.stopped());
        third = one;
        io.poll();
        CHECK_FALSE(io.stopped()); // the second
        second = asio::prefer(*second, execution::outstanding_work.untracked);
        io.poll();
        CHECK(io.stopped());
    }
    io.restart();
    load_executor again = asio::prefer(one, execution::outstanding_work.tracked);
    io.poll();
    CHECK_FALSE(io.stopped());
    again = one;
    io.poll();
    CHECK(io.stopped());
}

TEST_CASE("threads may track work at the same time") {
    asio::io_context io;
    load_executor const one(io.get_executor(), std::make_shared<node>());
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&one] {
            for (int n = 0; n < 5000; ++n) {
                auto const first = asio::prefer(one, execution::outstanding_work.tracked);
                auto const second = first;
                static_cast<void>(second);
            }
        });
    }
    threads.clear();
    io.poll();
    CHECK(io.stopped());
}
