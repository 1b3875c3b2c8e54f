// SPDX-License-Identifier: BSL-1.0
// One load, whoever asks and however they leave.
#include <tidegate/lazy.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using tidegate::error;
using tidegate::error_code;
using tidegate::lazy;
using tidegate::worker_pool;

namespace {

tidegate::worker_pool_options threads(std::size_t n) {
    return tidegate::worker_pool_options{}.threads(n);
}

error_code code_of(std::exception_ptr e) {
    if (!e) return {};
    try {
        std::rethrow_exception(e);
    } catch (boost::system::system_error const& s) {
        return s.code();
    } catch (...) {
        return asio::error::fault;
    }
}

} // namespace

TEST_CASE("ten thousand callers on several threads cause one load") {
    asio::io_context io;
    worker_pool pool(io, threads(2));
    std::atomic<int> loads{0}, right{0};
    lazy<std::string> value(pool, [&] {
        ++loads;
        return std::string("loaded");
    });
    CHECK_FALSE(value.get_if_ready());
    auto ask = [&]() -> asio::awaitable<void> {
        auto const got = co_await value.get();
        if (*got == "loaded") ++right;
    };
    for (int i = 0; i < 10000; ++i) asio::co_spawn(io, ask(), asio::detached);
    std::vector<std::jthread> loops;
    for (int i = 0; i < 3; ++i) loops.emplace_back([&] { io.run(); });
    io.run();
    loops.clear();
    CHECK(loads == 1);
    CHECK(right == 10000);
    CHECK(*value.get_if_ready() == "loaded");
}

TEST_CASE("a load that throws fails its callers and is not remembered") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    int loads = 0;
    lazy<int> value(pool, [&]() -> int {
        if (++loads == 1) throw std::domain_error("first time");
        return loads;
    });
    std::exception_ptr first;
    value.async_get([&](std::exception_ptr e, std::shared_ptr<int>) { first = e; });
    io.run();
    CHECK_THROWS_AS(std::rethrow_exception(first), std::domain_error);
    int got = 0;
    value.async_get([&](std::exception_ptr, std::shared_ptr<int> v) { got = *v; });
    io.restart();
    io.run();
    CHECK(got == 2);
}

TEST_CASE("a caller that is cancelled leaves alone") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    std::promise<void> go;
    lazy<int> value(pool, [&] {
        go.get_future().wait();
        return 5;
    });
    asio::cancellation_signal signal;
    std::exception_ptr left;
    int got = 0;
    value.async_get(asio::bind_cancellation_slot(
        signal.slot(), [&](std::exception_ptr e, std::shared_ptr<int>) { left = e; }));
    value.async_get([&](std::exception_ptr, std::shared_ptr<int> v) { got = *v; });
    signal.emit(asio::cancellation_type::total);
    io.poll();
    CHECK(code_of(left) == asio::error::operation_aborted);
    go.set_value();
    io.restart();
    io.run();
    CHECK(got == 5);
}

TEST_CASE("a loader may return a shared pointer, but not a null one") {
    asio::io_context io;
    worker_pool pool(io, threads(1));
    auto const made = std::make_shared<int>(3);
    lazy<int> shares(pool, [made] { return made; });
    lazy<int> null(pool, [] { return std::shared_ptr<int>(); });
    std::shared_ptr<int> got;
    std::exception_ptr failure;
    shares.async_get([&](std::exception_ptr, std::shared_ptr<int> v) { got = v; });
    null.async_get([&](std::exception_ptr e, std::shared_ptr<int>) { failure = e; });
    io.run();
    CHECK(got == made);
    CHECK_THROWS_AS(std::rethrow_exception(failure), std::logic_error);
}

TEST_CASE("closing the pool, or destroying the value, ends those who wait") {
    for (bool const close_pool : {true, false}) {
        asio::io_context io;
        worker_pool pool(io, threads(1));
        std::promise<void> go;
        std::latch busy(1);
        REQUIRE(pool.post([&] {
            busy.count_down();
            go.get_future().wait();
        }));
        busy.wait();
        auto value = std::make_unique<lazy<int>>(pool, [] { return 1; });
        std::exception_ptr failure;
        value->async_get([&](std::exception_ptr e, std::shared_ptr<int>) { failure = e; });
        if (close_pool) pool.close();
        else value.reset();
        go.set_value();
        io.run();
        CHECK(code_of(failure) == error::closed);
    }
}
