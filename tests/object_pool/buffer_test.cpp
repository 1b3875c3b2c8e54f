// SPDX-License-Identifier: BSL-1.0
// Buffers by size and alignment.
#include <tidegate/buffer_pool.hpp>
#include <tidegate/testing/manual_timer.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using tidegate::buffer_pool_options;
using tidegate::error;
using tidegate::error_code;

namespace {

struct buffers_tag;
using test_clock = tidegate::testing::basic_manual_clock<buffers_tag>;
using pool = tidegate::basic_buffer_pool<test_clock>;

bool is_aligned(void const* at, std::size_t alignment) {
    return reinterpret_cast<std::uintptr_t>(at) % alignment == 0;
}

void run(asio::io_context& io) {
    io.restart();
    io.poll();
}

} // namespace

TEST_CASE("a request gets the smallest size that holds it") {
    asio::io_context io;
    pool p(io, buffer_pool_options{}.size_class(4096, 1).size_class(100, 2).size_class(1024, 1));
    CHECK(p.size_for(0) == 100);
    CHECK(p.size_for(100) == 100);
    CHECK(p.size_for(101) == 1024);
    CHECK(p.size_for(4096) == 4096);
    auto const small = p.try_acquire(1), large = p.try_acquire(1025);
    CHECK(small->size() == 100);
    CHECK(large->size() == 4096);
    CHECK(large->first(1025).size() == 1025);
    CHECK(large->bytes().data() == large->data());
    CHECK(p.size(1) == 1);
    CHECK(p.idle(1) == 0);
    CHECK_FALSE(p.try_acquire(4000)); // and no smaller one
}

TEST_CASE("small requests leave the large buffers alone, and wait for their own") {
    asio::io_context io;
    pool p(io, buffer_pool_options{}.size_class(10, 1).size_class(1000, 1));
    auto small = p.try_acquire(5);
    std::byte* const first = small->data();
    CHECK_FALSE(p.try_acquire(5));
    pool::lease next;
    error_code timed_out;
    p.async_acquire(5, [&](error_code, pool::lease l) { next = std::move(l); });
    p.async_acquire_for(5, 1s, [&](error_code ec, pool::lease) { timed_out = ec; });
    CHECK(p.waiting() == 2);
    CHECK(p.try_acquire(500));
    test_clock::advance(1s);
    run(io);
    CHECK(timed_out == error::deadline_exceeded);
    small.release();
    run(io);
    REQUIRE(next);
    CHECK(next->data() == first);
    bool served = false;
    auto use = [&]() -> asio::awaitable<void> {
        auto const mine = co_await p.acquire(700);
        served = mine->size() == 1000;
    };
    asio::co_spawn(io, use(), asio::detached);
    run(io);
    CHECK(served);
}

TEST_CASE("buffers begin at a multiple of the alignment") {
    asio::io_context io;
    for (std::size_t const alignment : {std::size_t{64}, std::size_t{1}, std::size_t{4096}}) {
        pool p(io,
               buffer_pool_options{}.size_class(3, 20).size_class(100, 20).alignment(alignment));
        std::vector<pool::lease> all;
        for (int i = 0; i < 20; ++i) {
            all.push_back(p.try_acquire(3));
            all.push_back(p.try_acquire(100));
        }
        CHECK(std::all_of(all.begin(), all.end(),
                          [&](auto const& l) { return is_aligned(l->data(), alignment); }));
    }
    pool usual(io, buffer_pool_options{}.size_class(3, 1));
    CHECK(is_aligned(usual.try_acquire(1)->data(), 64));
}

TEST_CASE("what comes back is overwritten, or left as it is") {
    asio::io_context io;
    for (bool const poison : {true, false}) {
        pool p(io, buffer_pool_options{}.size_class(100, 1).poison(poison));
        auto first = p.try_acquire(100);
        std::ranges::fill(first->bytes(), std::byte{7});
        first.release();
        auto const again = p.try_acquire(100);
        auto const expected = std::byte{poison ? pool::poison_byte : static_cast<unsigned char>(7)};
        CHECK(std::ranges::all_of(again->bytes(), [&](std::byte b) { return b == expected; }));
    }
}

TEST_CASE("buffers that nobody uses are given back, and closing ends all") {
    asio::io_context io;
    pool p(io, buffer_pool_options{}.size_class(10, 4).max_idle_time(10s).wait_timeout(2s));
    auto held = p.try_acquire(10);
    p.try_acquire(10).release();
    CHECK(p.size(10) == 2);
    test_clock::advance(10s);
    run(io);
    CHECK(p.size(10) == 1);
    std::vector<pool::lease> rest;
    while (auto one = p.try_acquire(10)) rest.push_back(std::move(one));
    error_code late, closed;
    p.async_acquire(10, [&](error_code ec, pool::lease) { late = ec; });
    test_clock::advance(2s);
    run(io);
    CHECK(late == error::deadline_exceeded);
    p.async_acquire(10, [&](error_code ec, pool::lease) { closed = ec; });
    p.close();
    run(io);
    CHECK(closed == error::closed);
    rest.clear();
    held.release();
    CHECK(p.size(10) == 0);
}

TEST_CASE("a pool without sizes, a bad one, and too large a request are refused by name") {
    using Catch::Matchers::ContainsSubstring;
    asio::io_context io;
    buffer_pool_options o;
    CHECK_THROWS_WITH(pool(io, o), ContainsSubstring("buffer_pool needs a size_class"));
    CHECK_THROWS_WITH(o.size_class(0, 1), ContainsSubstring("buffer_pool size_class bytes is 0"));
    CHECK_THROWS_WITH(o.size_class(1, 0), ContainsSubstring("buffer_pool size_class count is 0"));
    CHECK_THROWS_WITH(o.alignment(48), ContainsSubstring("buffer_pool alignment is 48"));
    CHECK_THROWS_WITH(o.alignment(0), ContainsSubstring("buffer_pool alignment is 0"));
    CHECK_THROWS_WITH(o.max_idle_time(0s), ContainsSubstring("max_idle_time in ns is 0"));
    o.size_class(10, 1);
    CHECK_THROWS_WITH(o.size_class(10, 2), ContainsSubstring("size_class is set twice for 10"));
    pool p(io, o);
    CHECK_THROWS_WITH(p.try_acquire(11),
                      ContainsSubstring("buffer_pool acquire bytes is 11, allowed is 0 to 10"));
}
