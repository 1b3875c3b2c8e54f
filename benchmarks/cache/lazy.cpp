// SPDX-License-Identifier: BSL-1.0
// What a lazy value costs once it is there, in time and in memory.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/lazy.hpp>

#include <boost/asio/io_context.hpp>

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

namespace {

using namespace bench;

asio::awaitable<int> load() { co_return 1; }

tidegate::lazy<int> ready_value(asio::io_context& context) {
    tidegate::lazy<int> value(context, load);
    value.async_get([](std::exception_ptr, std::shared_ptr<int>) {});
    context.run();
    context.restart();
    return value;
}

asio::awaitable<int> ready_child() { co_return 1; }

asio::awaitable<void> await_ready_child(run& r) {
    while (r.more()) benchmark::DoNotOptimize(co_await ready_child());
}
asio::awaitable<void> await_value(run& r, tidegate::lazy<int>& value) {
    while (r.more()) {
        auto const got = co_await value.get();
        benchmark::DoNotOptimize(*got);
    }
}

group const ready{[] {
    row("lazy_ready/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        auto const value = ready_value(context);
        while (r.more()) {
            auto const got = value.get_if_ready();
            benchmark::DoNotOptimize(*got);
        }
    });
    row("lazy_ready/atomic_load_and_branch", cpu_time, [](run& r) {
        auto const value = std::make_unique<int>(1);
        std::atomic<int*> there{value.get()};
        while (r.more()) {
            if (int* const got = there.load(std::memory_order_acquire))
                benchmark::DoNotOptimize(*got);
        }
    });
    // What of it is the price of a value that its reader keeps. No claim.
    row("lazy_ready/copy_of_a_shared_ptr", cpu_time, [](run& r) {
        auto const value = std::make_shared<int>(1);
        while (r.more()) {
            auto const got = value;
            benchmark::DoNotOptimize(*got);
        }
    });
    claim("lazy_ready", ratio_of("lazy_ready/tidegate", "lazy_ready/atomic_load_and_branch"),
          at_most(1.5));

    row("await_lazy/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        auto value = ready_value(context);
        drive(context, await_value(r, value));
    });
    row("await_lazy/ready_child", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, await_ready_child(r));
    });
    claim("await_lazy", ratio_of("await_lazy/tidegate", "await_lazy/ready_child"), at_most(3));
    claim("await_lazy_allocations", allocations_of("await_lazy/tidegate"), at_most(0));
}};

group const memory{[] {
    row("lazy_memory/tidegate", wall_time,
        [](run& r) {
            r.skip_warm_up();
            while (r.more()) {
                constexpr std::size_t count = 10'000;
                asio::io_context context{1};
                auto const used = [] { return static_cast<double>(::mallinfo2().uordblks); };
                std::vector<tidegate::lazy<int>> values;
                values.reserve(count);
                double const before = used();
                for (std::size_t i = 0; i < count; ++i) values.emplace_back(context, load);
                r.report("bytes", sizeof(values[0]) + (used() - before) / count);
            }
        })
        ->Iterations(1)
        ->Repetitions(3);
    claim("lazy_bytes", counter_of("lazy_memory/tidegate", "bytes"), at_most(64));
}};

} // namespace
