// SPDX-License-Identifier: BSL-1.0
// Work that would block the event loop runs on a bounded pool; results come back to the coroutine.
#include <tidegate/worker_pool.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <stop_token>
#include <thread>

namespace asio = boost::asio;

std::uint64_t collatz_steps(std::uint64_t n) {
    if (n == 0) throw std::invalid_argument("0 never reaches 1");
    std::uint64_t steps = 0;
    for (; n != 1; ++steps) n = n % 2 ? 3 * n + 1 : n / 2;
    return steps;
}

//! [ask]
asio::awaitable<void> ask(tidegate::worker_pool& pool, std::uint64_t n) {
    auto const loop_thread = std::this_thread::get_id();
    auto const job = [n] { return collatz_steps(n); }; // named: see docs/compilers.md
    try {
        std::uint64_t const steps = co_await pool.submit(job);
        bool const home = std::this_thread::get_id() == loop_thread;
        std::cout << n << " takes " << steps << " steps" << (home ? "\n" : ", elsewhere\n");
    } catch (std::exception const& e) {
        std::cout << n << ": " << e.what() << "\n";
    }
}
//! [ask]

// Stops early when the pool does, or when whoever waits for it cancels.
void count_primes(std::stop_token const& stop) {
    std::uint64_t found = 0;
    for (std::uint64_t n = 2; n < 50'000 && !stop.stop_requested(); ++n) {
        std::uint64_t d = 2;
        while (d * d <= n && n % d != 0) ++d;
        found += d * d > n;
    }
    std::cout << found << " primes\n";
}

int main() {
    asio::io_context io;
    tidegate::worker_pool pool(io,
                               tidegate::worker_pool_options{}.threads(2).queue(4).name("math"));
    if (!pool.post(tidegate::job_priority::background, &count_primes)) return 1;
    for (std::uint64_t n : {27u, 0u, 837799u, 63728127u}) {
        asio::co_spawn(io, ask(pool, n), asio::detached);
    }
    io.run();
    pool.drain();
    pool.join();
    auto const seen = pool.statistics();
    std::cout << seen.started << " jobs\n";
}
