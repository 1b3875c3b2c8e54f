// SPDX-License-Identifier: BSL-1.0
// Two translation units that include everything link, and agree on what an error is.
#include "other.hpp"

#include <boost/asio/io_context.hpp>

#include <cstdio>

int main() {
    boost::asio::io_context io;
    tidegate::semaphore sem(io, 1);
    tidegate::error_code const reported = closed_elsewhere(sem);

    tidegate::error_code awaited;
    sem.async_acquire([&](tidegate::error_code ec, tidegate::semaphore::permit) { awaited = ec; });
    io.run();

    std::printf("%s: %s\n", awaited.category().name(), awaited.message().c_str());
    return awaited == reported && &awaited.category() == &reported.category() ? 0 : 1;
}
