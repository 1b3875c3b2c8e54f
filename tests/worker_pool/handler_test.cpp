// SPDX-License-Identifier: BSL-1.0
// Handlers of exceptions that throw themselves.
#include "worker_pool/support.hpp"

#include "support/captured_stderr.hpp"

#include <boost/asio/io_context.hpp>

#include <exception>
#include <future>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
using tidegate::worker_pool;
using options = tidegate::worker_pool_options;

TEST_CASE("what on_exception throws is said on stderr, and the pool goes on") {
    asio::io_context io;
    test::captured_stderr const said;
    std::promise<void> after;
    {
        worker_pool pool(io, options{}
                                 .threads(1)
                                 .queue(2)
                                 .full(tidegate::when_full::caller_runs)
                                 .on_thread_start([](std::size_t) { throw 1; })
                                 .on_exception([](std::exception_ptr const& e) {
                                     try {
                                         std::rethrow_exception(e);
                                     } catch (std::exception const& x) {
                                         throw std::runtime_error(std::string("again ") + x.what());
                                     }
                                 }));
        test::held_thread held(pool);
        CHECK(pool.post([] { throw std::runtime_error("on the pool"); }));
        CHECK(pool.post([&] { after.set_value(); }));
        CHECK(pool.post([] { throw std::runtime_error("here"); })); // the queue is full
        held.open();
        REQUIRE(test::comes(after));
    }
    std::string const text = said.text();
    CHECK(text == "tidegate: a worker pool's on_exception threw an unknown exception\n"
                  "tidegate: a worker pool's on_exception threw: again here\n"
                  "tidegate: a worker pool's on_exception threw: again on the pool\n");
}
