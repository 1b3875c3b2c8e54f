// SPDX-License-Identifier: BSL-1.0
// Channels that drop, and room that is reserved.
#include <tidegate/channel.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using tidegate::channel;
using tidegate::channel_mode;
using tidegate::error;
using tidegate::error_code;
using options = tidegate::channel_options<int>;
using reservation = channel<int>::reservation;

namespace {

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

std::vector<int> all_of(channel<int>& c) { return c.try_receive_some(100); }

} // namespace

TEST_CASE("drop_newest keeps the oldest, drop_oldest the newest; both say what went") {
    asio::io_context io;
    std::vector<int> gone;
    auto const keep = [&](int v) { gone.push_back(v); };
    channel<int> oldest(io, options().capacity(2).mode(channel_mode::drop_newest).on_drop(keep));
    channel<int> newest(io, options().capacity(2).mode(channel_mode::drop_oldest).on_drop(keep));
    for (int i = 0; i < 5; ++i) CHECK(oldest.try_send(i));
    CHECK(gone == std::vector{2, 3, 4});
    CHECK(oldest.dropped() == 3);
    CHECK(all_of(oldest) == std::vector{0, 1});
    gone.clear();
    for (int i = 0; i < 5; ++i) CHECK(newest.try_send(i));
    CHECK(gone == std::vector{0, 1, 2});
    CHECK(newest.dropped() == 3);
    CHECK(all_of(newest) == std::vector{3, 4});
}

TEST_CASE("a dropping channel never makes its senders wait") {
    for (auto const mode : {channel_mode::drop_newest, channel_mode::drop_oldest}) {
        asio::io_context io;
        channel<int> c(io, options().capacity(1).mode(mode));
        auto send = [&]() -> asio::awaitable<void> {
            for (int i = 0; i < 100; ++i) co_await c.send(i);
        };
        asio::co_spawn(io, send(), asio::detached);
        int sent = 0;
        c.async_send(100, [&](error_code ec) { sent += !ec; });
        run(io);
        CHECK(io.stopped());
        CHECK(sent == 1);
        CHECK(c.dropped() == 100);
        CHECK(c.waiting_senders() == 0);
    }
}

TEST_CASE("a dropping channel drops nothing while somebody waits to receive") {
    for (auto const mode : {channel_mode::drop_newest, channel_mode::drop_oldest}) {
        asio::io_context io;
        channel<int> c(io, options().capacity(1).mode(mode));
        auto held = c.try_reserve();
        bool reserved = false;
        c.async_reserve([&](error_code, reservation room) { reserved = static_cast<bool>(room); });
        std::vector<int> got;
        auto const keep = [&](error_code, int v) { got.push_back(v); };
        c.async_receive(keep);
        c.async_receive(keep);
        CHECK(c.try_send(7));
        c.async_send(8, [](error_code) {});
        run(io);
        CHECK(got == std::vector{7, 8});
        CHECK(c.dropped() == 0);
        CHECK_FALSE(reserved); // it waits for room, which this took none of
        held->release();
        run(io);
        CHECK(reserved);
    }
}

TEST_CASE("drop_newest without a buffer serves those who wait and drops the rest") {
    asio::io_context io;
    channel<int> c(io, options().mode(channel_mode::drop_newest));
    std::optional<int> got;
    c.async_receive([&](error_code, int v) { got = v; });
    CHECK(c.try_send(1));
    CHECK(c.try_send(2));
    run(io);
    CHECK(got == 1);
    CHECK(c.dropped() == 1);
}

TEST_CASE("drop_oldest without a buffer, and an empty callback, are refused by name") {
    asio::io_context io;
    CHECK_THROWS_WITH(channel<int>(io, options().mode(channel_mode::drop_oldest)),
                      ContainsSubstring("capacity, with drop_oldest, is 0, allowed is 1 to"));
    CHECK_THROWS_WITH(options().on_drop(nullptr), ContainsSubstring("on_drop is empty"));
}

TEST_CASE("what on_drop throws comes out of the sending call, which has sent") {
    asio::io_context io;
    auto const refuse = [](int) { throw std::runtime_error("refused"); };
    channel<int> c(io, options().capacity(1).mode(channel_mode::drop_oldest).on_drop(refuse));
    REQUIRE(c.try_send(1));
    CHECK_THROWS_WITH(c.try_send(2), "refused");
    error_code reported;
    c.async_send(3, [&](error_code ec) { reported = ec; });
    std::string thrown;
    auto send = [&]() -> asio::awaitable<void> {
        try {
            co_await c.send(4);
        } catch (std::runtime_error const& e) {
            thrown = e.what();
        }
    };
    asio::co_spawn(io, send(), asio::detached);
    run(io);
    CHECK(reported == error::exception_thrown);
    CHECK(thrown == "refused");
    CHECK(c.dropped() == 3);
    CHECK(all_of(c) == std::vector{4});
}

TEST_CASE("an error that on_drop throws is the one that the send ends with") {
    asio::io_context io;
    auto const refuse = [](int) {
        throw boost::system::system_error(asio::error::no_buffer_space);
    };
    channel<int> c(io, options().capacity(1).mode(channel_mode::drop_oldest).on_drop(refuse));
    REQUIRE_NOTHROW(c.try_send(1));
    error_code reported;
    c.async_send(2, [&](error_code ec) { reported = ec; });
    run(io);
    CHECK(reported == asio::error::no_buffer_space);
    CHECK(all_of(c) == std::vector{2});
}

TEST_CASE("on_drop may use the channel") {
    asio::io_context io;
    std::optional<channel<int>> c;
    auto const again = [&](int v) {
        if (v < 10) c->try_send(v + 10);
    };
    c.emplace(io, options().capacity(1).mode(channel_mode::drop_oldest).on_drop(again));
    REQUIRE(c->try_send(1));
    REQUIRE(c->try_send(2)); // drops 1, which comes back as 11, which drops 2, ...
    CHECK(all_of(*c) == std::vector{12});
    CHECK(c->dropped() == 3);
}

TEST_CASE("reserved room is nobody else's, and comes back unused") {
    asio::io_context io;
    channel<int> c(io, 2);
    auto first = c.try_reserve();
    auto second = c.try_reserve();
    REQUIRE((first && second));
    CHECK(c.reserved() == 2);
    CHECK_FALSE(c.try_reserve());
    CHECK_FALSE(c.try_send(1));
    CHECK(first->send(2));
    CHECK_FALSE(*first);
    CHECK_FALSE(first->send(3));
    second.reset();
    CHECK(c.try_send(4));
    CHECK(c.reserved() == 0);
    CHECK(all_of(c) == std::vector{2, 4});
}

TEST_CASE("those who reserve wait in line with those who send") {
    asio::io_context io;
    channel<int> c(io, 1);
    REQUIRE(c.try_send(0));
    std::vector<int> order;
    reservation room;
    c.async_send(1, [&](error_code) { order.push_back(1); });
    c.async_reserve([&](error_code ec, reservation r) {
        CHECK_FALSE(ec);
        room = std::move(r);
        order.push_back(2);
    });
    c.async_send(3, [&](error_code) { order.push_back(3); });
    CHECK(c.try_receive() == 0);
    run(io);
    CHECK(order == std::vector{1});
    CHECK(c.try_receive() == 1);
    run(io);
    CHECK(order == std::vector{1, 2});
    CHECK(c.waiting_senders() == 1);
    CHECK(room.send(2));
    CHECK(c.try_receive() == 2);
    run(io);
    CHECK(order == std::vector{1, 2, 3});
    CHECK(c.try_receive() == 3);
}

TEST_CASE("while all room is reserved, a value still passes from hand to hand") {
    asio::io_context io;
    channel<int> c(io, 1);
    auto room = c.try_reserve();
    int sent = 0;
    std::vector<int> got;
    auto const receive = [&](error_code, int v) { got.push_back(v); };
    c.async_send(1, [&](error_code ec) { sent += !ec; });
    CHECK(c.try_receive() == 1);
    c.async_receive(receive);
    c.async_send(2, [&](error_code ec) { sent += !ec; });
    run(io);
    CHECK(sent == 2);
    CHECK(got == std::vector{2});
    CHECK(room->send(3));
    CHECK(c.try_receive() == 3);
}

TEST_CASE("a reserver that leaves the head of the line lets the senders behind it go on") {
    asio::io_context io;
    channel<int> c(io, 1);
    auto room = c.try_reserve();
    asio::cancellation_signal signal;
    error_code reserved;
    c.async_reserve(asio::bind_cancellation_slot(
        signal.slot(), [&](error_code ec, reservation) { reserved = ec; }));
    int sent = 0, got = 0;
    c.async_receive([&](error_code, int v) { got = v; });
    c.async_send(7, [&](error_code ec) { sent += !ec; });
    run(io);
    CHECK(c.waiting_senders() == 2);
    CHECK(c.waiting_receivers() == 1);
    signal.emit(asio::cancellation_type::total);
    run(io);
    CHECK(reserved == asio::error::operation_aborted);
    CHECK(sent == 1);
    CHECK(got == 7);
}

TEST_CASE("room that was granted to a handler that never ran comes back") {
    auto io = std::make_unique<asio::io_context>();
    asio::io_context other;
    channel<int> c(other, 1);
    auto send = [](channel<int>& to) -> asio::awaitable<void> {
        auto room = co_await to.reserve();
        room.send(1);
    };
    auto first = c.try_reserve();
    asio::co_spawn(*io, send(c), asio::detached);
    run(*io);
    first.reset(); // granted and posted
    CHECK(c.reserved() == 1);
    io.reset();
    CHECK(c.reserved() == 0);
    CHECK(c.try_send(2));
}

TEST_CASE("a reservation survives its channel, and sends nothing into a closed one") {
    asio::io_context io;
    std::optional<channel<int>> c(std::in_place, io, 1);
    auto room = c->try_reserve();
    c->close();
    int value = 1;
    CHECK_FALSE(room->send(std::move(value)));
    CHECK_FALSE(c->try_reserve());
    error_code ended;
    c->async_reserve([&](error_code ec, reservation r) {
        ended = ec;
        CHECK_FALSE(r);
    });
    run(io);
    CHECK(ended == error::closed);
    c.emplace(io, 1);
    auto later = c->try_reserve();
    c.reset();
    CHECK_FALSE(later->send(2));
}

TEST_CASE("reserving without a buffer is refused by name; a deadline ends the wait") {
    asio::io_context io;
    channel<int> none(io, 0);
    CHECK_THROWS_WITH(none.async_reserve([](error_code, reservation) {}),
                      ContainsSubstring("where room is to be reserved, is 0"));
    CHECK_FALSE(none.try_reserve());
    using clock = tidegate::testing::manual_clock;
    tidegate::basic_channel<int, clock> c(io, 1);
    auto room = c.try_reserve();
    error_code ended;
    c.async_reserve_for(1s, [&](error_code ec, auto) { ended = ec; });
    clock::advance(1s);
    run(io);
    CHECK(ended == error::deadline_exceeded);
}

TEST_CASE("receive_some as a coroutine: some, then none at the end") {
    asio::io_context io;
    channel<int> c(io, 4);
    std::vector<std::vector<int>> got;
    auto receive = [&]() -> asio::awaitable<void> {
        for (;;) {
            auto values = co_await c.receive_some(3);
            got.push_back(values);
            if (values.empty()) co_return;
        }
    };
    auto send = [&]() -> asio::awaitable<void> {
        for (int i = 0; i < 7; ++i) co_await c.send(i);
        c.close();
    };
    asio::co_spawn(io, send(), asio::detached);
    asio::co_spawn(io, receive(), asio::detached);
    io.run();
    CHECK(got.back().empty());
    std::vector<int> all;
    for (auto const& some : got) {
        CHECK(some.size() <= 3);
        all.insert(all.end(), some.begin(), some.end());
    }
    CHECK(all == std::vector{0, 1, 2, 3, 4, 5, 6});
}
