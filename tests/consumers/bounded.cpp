// SPDX-License-Identifier: BSL-1.0
// Ten coroutines, of which a semaphore lets two work at once.
#include <tidegate/semaphore.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <cstdio>

namespace asio = boost::asio;

namespace {

struct tally {
    int working = 0;
    int most = 0;
    int finished = 0;
};

asio::awaitable<void> work(tidegate::semaphore& places, tally& seen) {
    auto place = co_await places.acquire();
    seen.most = std::max(seen.most, ++seen.working);
    co_await asio::post(asio::use_awaitable);
    --seen.working;
    ++seen.finished;
}

} // namespace

int main() {
    asio::io_context io;
    tidegate::semaphore places(io.get_executor(), 2);
    tally seen;
    for (int i = 0; i < 10; ++i) asio::co_spawn(io, work(places, seen), asio::detached);
    io.run();
    std::printf("%d finished, at most %d at once\n", seen.finished, seen.most);
    return seen.finished == 10 && seen.most == 2 && places.available() == 2 ? 0 : 1;
}
