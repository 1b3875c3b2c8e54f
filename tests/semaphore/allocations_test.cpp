// SPDX-License-Identifier: BSL-1.0
// What deadlines allocate.
#include <tidegate/semaphore.hpp>

#include "support/counting_new.hpp"

#include <catch2/catch_test_macros.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <new>

namespace asio = boost::asio;
using namespace std::chrono_literals;

TEST_CASE("a timer that is set again while its last wait ends allocates nothing") {
    asio::io_context io;
    tidegate::semaphore s(io, 1);
    int granted = 0;
    auto const wait_and_get = [&] {
        auto one = s.try_acquire();
        s.async_acquire_for(
            1h, [&](tidegate::error_code ec, tidegate::semaphore::permit) { granted += !ec; });
        one.release();
        // The handler, behind which the idle timer is cancelled, and no more.
        int const before = granted;
        while (granted == before) io.run_one();
    };
    for (int i = 0; i < 1000; ++i) wait_and_get(); // what is kept for all has its size now
    auto const before = test::allocated();
    for (int i = 0; i < 100; ++i) wait_and_get();
    CHECK(test::allocated() == before);
    CHECK(granted == 1100);
}

TEST_CASE("a wait that finds no memory has not begun, and the next one may") {
    bool failed = true;
    for (std::size_t n = 1; failed; ++n) {
        INFO("allocation " << n);
        asio::io_context io;
        tidegate::semaphore s(io, 1);
        auto held = s.try_acquire();
        int granted = 0;
        auto const handler = [&](tidegate::error_code ec, tidegate::semaphore::permit) {
            granted += !ec;
        };
        asio::cancellation_signal signal;
        bool thrown = false;
        test::fail_allocation(n);
        try {
            s.async_acquire_for(1h, asio::bind_cancellation_slot(signal.slot(), handler));
        } catch (std::bad_alloc const&) {
            thrown = true;
        }
        failed = test::until_failure() == 0;
        test::fail_allocation(0);
        CHECK(thrown == failed);
        CHECK(s.waiting() == (thrown ? 0u : 1u));
        if (thrown) signal.emit(asio::cancellation_type::all); // nobody hears it
        s.async_acquire_for(1h, handler);
        held.release();
        io.restart(); // what could not wait was its last work
        io.poll();
        CHECK(granted == (thrown ? 1 : 2));
        CHECK(s.available() == 1);
    }
}
