// SPDX-License-Identifier: BSL-1.0
// Taking and giving back permits, uncontended and contended.
#include "bench.hpp"
#include "coroutines.hpp"
#include "small_stack.hpp"

#include <tidegate/semaphore.hpp>

#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>

#include <cstddef>
#include <mutex>
#include <semaphore>

namespace {

using namespace bench;
using boost::system::error_code;

// One coroutine, permits always there. Competitors are functions that take and give back once.

asio::awaitable<int> empty_child() { co_return 1; }

asio::awaitable<void> await_empty_child(run& r) {
    while (r.more()) benchmark::DoNotOptimize(co_await empty_child());
}

asio::awaitable<void> acquire_and_release(run& r, tidegate::semaphore& semaphore) {
    while (r.more()) auto permit = co_await semaphore.acquire();
}

// A permit is a message in the channel.
template <class Channel>
asio::awaitable<void> receive_and_send_back(run& r, Channel& permits) {
    while (r.more()) {
        co_await permits.async_receive(asio::deferred);
        permits.try_send(error_code());
    }
}

using channel = asio::experimental::channel<void(error_code)>;
using concurrent_channel = asio::experimental::concurrent_channel<void(error_code)>;

template <class Channel>
void channel_as_semaphore(run& r) {
    asio::io_context context{1};
    Channel permits(context, 1);
    permits.try_send(error_code());
    drive(context, receive_and_send_back(r, permits));
}

group const uncontended{[] {
    row("uncontended/empty_child", cpu_time, [](run& r) {
        asio::io_context context{1};
        drive(context, await_empty_child(r));
    });
    row("uncontended/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        tidegate::semaphore semaphore(context, 1);
        drive(context, acquire_and_release(r, semaphore));
    });
    row("uncontended/asio_channel", cpu_time, channel_as_semaphore<channel>);
    row("uncontended/asio_concurrent_channel", cpu_time, channel_as_semaphore<concurrent_channel>);
    claim("uncontended", ratio_of("uncontended/tidegate", "uncontended/empty_child"), at_most(1.8));
    claim("uncontended_against_channel",
          ratio_of("uncontended/tidegate", "uncontended/asio_concurrent_channel"), at_most(0.15));
    claim("uncontended_allocations", allocations_of("uncontended/tidegate"), at_most(0));
}};

// Without waiting, from plain code.

template <class Channel>
void try_channel(run& r) {
    asio::io_context context{1};
    Channel permits(context, 1);
    permits.try_send(error_code());
    while (r.more()) {
        bool const taken = permits.try_receive([](auto&&...) {});
        benchmark::DoNotOptimize(taken);
        permits.try_send(error_code());
    }
}

group const trying{[] {
    row("try/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        tidegate::semaphore semaphore(context, 1);
        while (r.more()) {
            auto permit = semaphore.try_acquire();
            benchmark::DoNotOptimize(permit);
        }
    });
    row("try/std_mutex", cpu_time, [](run& r) {
        std::mutex mutex;
        while (r.more()) {
            mutex.lock();
            benchmark::ClobberMemory();
            mutex.unlock();
        }
    });
    row("try/std_counting_semaphore", cpu_time, [](run& r) {
        // With 1, each release would leave zero and pay for a system call.
        std::counting_semaphore<> semaphore(2);
        while (r.more()) {
            bool const taken = semaphore.try_acquire();
            benchmark::DoNotOptimize(taken);
            semaphore.release();
        }
    });
    row("try/asio_channel", cpu_time, try_channel<channel>);
    row("try/asio_concurrent_channel", cpu_time, try_channel<concurrent_channel>);
    claim("try_acquire", ratio_of("try/tidegate", "try/std_mutex"), at_most(2));
    claim("try_acquire_allocations", allocations_of("try/tidegate"), at_most(0));
}};

// 64 coroutines for one permit; who holds it goes once through the scheduler, so all others wait.

constexpr int rivals = 64;

asio::awaitable<void> hold_for_a_moment(run& r, tidegate::semaphore& semaphore) {
    while (r.more()) {
        auto permit = co_await semaphore.acquire();
        co_await asio::post(asio::deferred);
    }
}

template <class Channel>
asio::awaitable<void> hold_channel_for_a_moment(run& r, Channel& permits) {
    while (r.more()) {
        co_await permits.async_receive(asio::deferred);
        co_await asio::post(asio::deferred);
        permits.try_send(error_code());
    }
}

template <class Channel>
void contended_channel(run& r) {
    asio::io_context context{1};
    Channel permits(context, 1);
    permits.try_send(error_code());
    for (int i = 0; i < rivals; ++i) start(context, hold_channel_for_a_moment(r, permits));
    context.run();
}

group const contended{[] {
    row("contended_64/tidegate", cpu_time, [](run& r) {
        asio::io_context context{1};
        tidegate::semaphore semaphore(context, 1);
        for (int i = 0; i < rivals; ++i) start(context, hold_for_a_moment(r, semaphore));
        context.run();
    });
    row("contended_64/asio_channel", cpu_time, contended_channel<channel>);
    row("contended_64/asio_concurrent_channel", cpu_time, contended_channel<concurrent_channel>);
}};

// One release that lets so many go on; the time is that of one of them.

template <int waiters>
void wake_many(run& r) {
    asio::io_context context{1};
    tidegate::semaphore semaphore(context, waiters);
    while (r.more(waiters)) {
        auto all = semaphore.try_acquire(waiters);
        int woken = 0;
        for (int i = 0; i < waiters; ++i) {
            semaphore.async_acquire([&](error_code, tidegate::semaphore::permit) { ++woken; });
        }
        all.release();
        context.restart();
        context.run();
        benchmark::DoNotOptimize(woken);
    }
}

group const waking{[] {
    row("wake_100/tidegate", cpu_time, wake_many<100>);
    row("wake_10000/tidegate", cpu_time, wake_many<10'000>);
    // Linear, but for what the caches of 10,000 operations cost.
    claim("wake_10000_against_100", ratio_of("wake_10000/tidegate", "wake_100/tidegate"),
          at_most(3));
}};

// Ready acquires must not grow the stack.

constexpr int million = 1'000'000;

asio::awaitable<void> acquire_a_million(int& acquired) {
    asio::any_io_executor executor = co_await asio::this_coro::executor;
    tidegate::semaphore semaphore(executor, 1);
    while (acquired < million) {
        auto permit = co_await semaphore.acquire();
        ++acquired;
    }
}

group const small_stack{[] {
    row("million_on_small_stack/tidegate", wall_time, [](run& r) {
        r.skip_warm_up();
        int acquired = 0;
        while (r.more(million)) {
            acquired = 0;
            on_a_stack_of(256 * 1024, [&] {
                asio::io_context context{1};
                drive(context, acquire_a_million(acquired));
            });
        }
        r.report("completed", acquired == million ? 1 : 0);
    });
    claim("million_acquires_on_256_KiB", counter_of("million_on_small_stack/tidegate", "completed"),
          at_least(1));
}};

} // namespace
