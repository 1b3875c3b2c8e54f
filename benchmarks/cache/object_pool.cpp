// SPDX-License-Identifier: BSL-1.0
// What it costs to borrow an object that nobody has, and to give it back.
#include "bench.hpp"

#include <tidegate/object_pool.hpp>

#include <boost/asio/io_context.hpp>

#include <memory>
#include <mutex>

namespace {

using namespace bench;
namespace asio = boost::asio;

tidegate::object_pool<int> pool_of(asio::io_context& context, std::size_t size) {
    return tidegate::object_pool<int>(context, size, [] { return std::make_unique<int>(1); });
}

group const borrowing{[] {
    row("borrow/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        auto pool = pool_of(context, 4);
        while (r.more()) {
            auto lease = pool.try_acquire();
            benchmark::DoNotOptimize(lease);
        }
    });
    row("borrow/std_mutex", cpu_time, [](run& r) {
        std::mutex mutex;
        while (r.more()) {
            mutex.lock();
            benchmark::ClobberMemory();
            mutex.unlock();
        }
    });
    claim("borrow", ratio_of("borrow/tidegate", "borrow/std_mutex"), at_most(2));
    claim("borrow_allocations", allocations_of("borrow/tidegate"), at_most(0));

    // Two at a time, of which one is not the last that came back. No claim.
    row("borrow_two/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        auto pool = pool_of(context, 4);
        while (r.more(2)) {
            auto first = pool.try_acquire();
            auto second = pool.try_acquire();
            benchmark::DoNotOptimize(first);
            benchmark::DoNotOptimize(second);
        }
    });
}};

} // namespace
