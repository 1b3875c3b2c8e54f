// SPDX-License-Identifier: BSL-1.0
// A channel read as a generator.
#include <tidegate/as_generator.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>

#include <memory>
#include <optional>
#include <vector>

namespace asio = boost::asio;
using tidegate::channel;
using boxed = std::unique_ptr<int>;

namespace {

asio::experimental::coro<void> read_in_coro(channel<boxed>& c, std::vector<int>& got) {
    auto stream = tidegate::as_generator(c);
    while (auto value = co_await stream) got.push_back(**value);
}

asio::awaitable<void> read_in_awaitable(channel<boxed>& c, std::vector<int>& got) {
    auto stream = tidegate::as_generator(c);
    while (auto value = co_await stream.async_resume(asio::deferred)) got.push_back(**value);
}

asio::awaitable<void> send_and_close(channel<boxed>& c, int n) {
    for (int i = 0; i < n; ++i) co_await c.send(std::make_unique<int>(i));
    c.close();
}

} // namespace

TEST_CASE("a generator yields what is sent, and ends with the channel") {
    for (std::size_t const capacity : {0u, 1u, 3u, 100u}) {
        asio::io_context io;
        channel<boxed> c(io, capacity);
        std::vector<int> in_coro, in_awaitable;
        bool ended = false;
        auto reader = read_in_coro(c, in_coro);
        reader.async_resume([&](std::exception_ptr e) { ended = !e; });
        asio::co_spawn(io, send_and_close(c, 10), asio::detached);
        io.run();
        CHECK(in_coro == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
        CHECK(ended);

        channel<boxed> other(io, capacity);
        asio::co_spawn(io, read_in_awaitable(other, in_awaitable), asio::detached);
        asio::co_spawn(io, send_and_close(other, 10), asio::detached);
        io.restart();
        io.run();
        CHECK(in_awaitable == in_coro);
    }
}

TEST_CASE("a generator takes no value before it is asked, and none when cancelled") {
    asio::io_context io;
    channel<int> c(io, 2);
    auto stream = tidegate::as_generator(c);
    asio::cancellation_signal signal;
    std::exception_ptr failure;
    stream.async_resume(asio::bind_cancellation_slot(
        signal.slot(), [&](std::exception_ptr e, std::optional<int>) { failure = e; }));
    io.poll();
    CHECK(c.waiting_receivers() == 1);
    signal.emit(asio::cancellation_type::total); // which Asio's coro does not hear
    io.restart();
    io.poll();
    CHECK_FALSE(failure);
    CHECK(c.waiting_receivers() == 1);
    signal.emit(asio::cancellation_type::terminal);
    io.restart();
    io.poll();
    REQUIRE(failure);
    CHECK_THROWS_AS(std::rethrow_exception(failure), boost::system::system_error);
    CHECK(c.waiting_receivers() == 0);
    REQUIRE(c.try_send(1));
    CHECK(c.size() == 1);
    CHECK_FALSE(stream.is_open());
}

TEST_CASE("a generator runs where its caller wants it") {
    asio::io_context io;
    channel<int> c(io, 1);
    asio::strand<asio::any_io_executor> const here(io.get_executor());
    auto stream = tidegate::as_generator(here, c);
    CHECK(stream.get_executor() == asio::any_io_executor(here));
    std::optional<int> got;
    stream.async_resume([&](std::exception_ptr, std::optional<int> v) {
        CHECK(here.running_in_this_thread());
        got = v;
    });
    io.poll();
    REQUIRE(c.try_send(1));
    io.restart();
    io.poll();
    CHECK(got == 1);
}

TEST_CASE("a generator that is abandoned leaves the channel to others") {
    asio::io_context io;
    channel<int> c(io, 2);
    REQUIRE(c.try_send(1));
    REQUIRE(c.try_send(2));
    {
        auto stream = tidegate::as_generator(c);
        std::optional<int> first;
        stream.async_resume([&](std::exception_ptr, std::optional<int> v) { first = v; });
        io.poll();
        CHECK(first == 1);
    }
    CHECK(c.try_receive() == 2);
}

TEST_CASE("a generator outlives its channel") {
    asio::io_context io;
    auto c = std::make_unique<channel<int>>(io, 2);
    REQUIRE(c->try_send(1));
    auto stream = tidegate::as_generator(*c);
    c.reset();
    std::vector<std::optional<int>> got;
    auto const keep = [&](std::exception_ptr e, std::optional<int> v) {
        CHECK_FALSE(e);
        got.push_back(v);
    };
    stream.async_resume(keep);
    io.poll();
    stream.async_resume(keep);
    io.restart();
    io.poll();
    CHECK(got == std::vector<std::optional<int>>{1, std::nullopt});
}
