// SPDX-License-Identifier: BSL-1.0
// A test finds a call that blocks an event loop, however short it is.
#include <tidegate/testing/blocking_guard.hpp>
#include <tidegate/watched_executor.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <iostream>
#include <unistd.h>

namespace asio = boost::asio;

namespace {

void run_the_code_under_test() {
    asio::io_context io;
    auto executor = tidegate::watched(io.get_executor(), "requests");
    asio::post(executor, [] { usleep(1); });
    io.run();
}

} // namespace

int main() {
    //! [guard]
    tidegate::testing::blocking_guard guard;
    run_the_code_under_test(); // on tidegate::watched(...), or with asio_tracking.hpp
    for (auto const& call : guard.calls()) std::cout << to_string(call) << "\n";
    bool const blocks = !guard.calls().empty(); // in a test: CHECK(guard.calls().empty())
    //! [guard]
    return blocks ? 0 : 1;
}
