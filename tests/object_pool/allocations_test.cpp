// SPDX-License-Identifier: BSL-1.0
// What the pools allocate once they have made their objects: nothing.
#include "support/counting_new.hpp"

#include <tidegate/buffer_pool.hpp>
#include <tidegate/object_pool.hpp>
#include <tidegate/testing/counting_allocator.hpp>

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <stdexcept>

namespace {

namespace asio = boost::asio;

// What one round of `use` allocates once its like has been done often.
template <class Use>
std::size_t allocations_of(Use use) {
    for (int i = 0; i < 100; ++i) use();
    std::size_t const before = test::allocated();
    for (int i = 0; i < 1000; ++i) use();
    return test::allocated() - before;
}

} // namespace

TEST_CASE("borrowing and giving back allocates nothing") {
    asio::io_context io;
    tidegate::object_pool<int> objects(
        io, tidegate::object_pool_options<int>{}.max_size(4).recycle([](int&) { return true; }),
        [] { return std::make_unique<int>(1); });
    CHECK(allocations_of([&] {
              auto const a = objects.try_acquire(), b = objects.try_acquire();
              if (!a || !b) throw std::logic_error("no object");
          }) == 0);
    tidegate::buffer_pool buffers(
        io, tidegate::buffer_pool_options{}.size_class(4096, 2).size_class(1 << 20, 2));
    CHECK(allocations_of([&] {
              auto const a = buffers.try_acquire(100), b = buffers.try_acquire(5000);
              if (!a || !b) throw std::logic_error("no buffer");
          }) == 0);
}

TEST_CASE("waiting allocates the operation, from its handler's allocator, and nothing else") {
    asio::io_context io;
    tidegate::object_pool<int> objects(io, 1, [] { return std::make_unique<int>(1); });
    tidegate::testing::allocation_counts counts;
    int served = 0;
    auto wait_once = [&] {
        auto held = objects.try_acquire();
        objects.async_acquire(asio::bind_allocator(
            tidegate::testing::counting_allocator<>(counts),
            [&](tidegate::error_code ec, tidegate::object_pool<int>::lease) { served += !ec; }));
        held.release();
        io.restart();
        io.poll();
    };
    std::size_t const in_all = allocations_of(wait_once);
    CHECK(served == 1100);
    CHECK(counts.live() == 0);
    // The operation, and its completion on the way through the scheduler.
    CHECK(in_all * 1100 == counts.allocated * 1000);
}
