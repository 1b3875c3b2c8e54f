// SPDX-License-Identifier: BSL-1.0
// Sending values from one coroutine to another: through the buffer, in lockstep, across threads.
#include "asio_channel.hpp"
#include "bench.hpp"
#include "coroutines.hpp"
#include "small_stack.hpp"

#include <tidegate/channel.hpp>

#include <cstddef>
#include <thread>

namespace {

using namespace bench;

// Competitors are channels of int; send(v) and receive() return what a coroutine awaits.
using tidegate_channel = tidegate::channel<int>;

// One coroutine sends into the buffer and receives from it; nobody ever waits.

template <class Channel>
asio::awaitable<void> send_and_receive(run& r, Channel& channel) {
    int value = 0;
    while (r.more()) {
        co_await channel.send(++value);
        benchmark::DoNotOptimize(co_await channel.receive());
    }
}

template <class Channel>
void pair(run& r) {
    asio::io_context context{1};
    Channel channel(context.get_executor(), 64);
    drive(context, send_and_receive(r, channel));
}

group const pairs{[] {
    row("pair/tidegate", cpu_time, pair<tidegate_channel>);
    row("pair/asio_channel", cpu_time, pair<asio_channel>);
    row("pair/asio_concurrent_channel", cpu_time, pair<asio_concurrent_channel>);
    claim("pair", ratio_of("pair/tidegate", "pair/asio_concurrent_channel"), at_most(0.25));
    claim("pair_allocations", allocations_of("pair/tidegate"), at_most(0));
}};

// A producer and a consumer coroutine; the time is that of one item.

template <class Channel>
asio::awaitable<void> produce(Channel& channel) {
    for (int value = 0;; ++value) co_await channel.send(value);
}

template <class Channel>
asio::awaitable<void> consume(run& r, Channel& channel) {
    while (r.more()) benchmark::DoNotOptimize(co_await channel.receive());
}

template <class Channel, std::size_t capacity>
void pipe(run& r) {
    asio::io_context context{1};
    Channel channel(context.get_executor(), capacity);
    start(context, produce(channel));
    drive(context, consume(r, channel));
}

group const pipes{[] {
    row("pipe_64/tidegate", cpu_time, pipe<tidegate_channel, 64>);
    row("pipe_64/asio_channel", cpu_time, pipe<asio_channel, 64>);
    row("pipe_64/asio_concurrent_channel", cpu_time, pipe<asio_concurrent_channel, 64>);
    row("pipe_1/tidegate", cpu_time, pipe<tidegate_channel, 1>);
    row("pipe_1/asio_channel", cpu_time, pipe<asio_channel, 1>);
    row("pipe_1/asio_concurrent_channel", cpu_time, pipe<asio_concurrent_channel, 1>);
    row("pipe_0/tidegate", cpu_time, pipe<tidegate_channel, 0>);
    row("pipe_0/asio_channel", cpu_time, pipe<asio_channel, 0>);
    row("pipe_0/asio_concurrent_channel", cpu_time, pipe<asio_concurrent_channel, 0>);
    claim("pipe_64", ratio_of("pipe_64/tidegate", "pipe_64/asio_concurrent_channel"),
          at_most(0.25));
    claim("pipe_0", ratio_of("pipe_0/tidegate", "pipe_0/asio_concurrent_channel"), at_most(0.6));
    claim("pipe_1", ratio_of("pipe_1/tidegate", "pipe_1/asio_concurrent_channel"), at_most(0.6));
    claim("pipe_allocations", allocations_of("pipe_0/tidegate"), at_most(0));
}};

// The producer on an io_context and a thread of its own.

template <class Channel, std::size_t capacity>
void across_threads(run& r) {
    asio::io_context producer_context{1};
    asio::io_context context{1};
    Channel channel(context.get_executor(), capacity);
    start(producer_context, produce(channel));
    std::thread producer([&] { producer_context.run(); });
    drive(context, consume(r, channel));
    // The producer may be waiting for space: stopped, it goes with its context.
    producer_context.stop();
    producer.join();
}

group const threads{[] {
    row("threads_1024/tidegate", wall_time, across_threads<tidegate_channel, 1024>);
    row("threads_1024/asio_concurrent_channel", wall_time,
        across_threads<asio_concurrent_channel, 1024>);
    claim("threads_1024", ratio_of("threads_1024/tidegate", "threads_1024/asio_concurrent_channel"),
          at_most(0.05));
    row("threads_64/tidegate", wall_time, across_threads<tidegate_channel, 64>);
    row("threads_64/asio_concurrent_channel", wall_time,
        across_threads<asio_concurrent_channel, 64>);
}};

// Ready receives must not grow the stack.

constexpr int million = 1'000'000;

asio::awaitable<void> receive_a_million(int& received) {
    tidegate_channel channel(co_await asio::this_coro::executor, 1);
    while (received < million) {
        co_await channel.send(received);
        received += (co_await channel.receive()).has_value();
    }
}

group const small_stack{[] {
    row("million_receives_on_small_stack/tidegate", wall_time, [](run& r) {
        r.skip_warm_up();
        int received = 0;
        while (r.more(million)) {
            received = 0;
            on_a_stack_of(256 * 1024, [&] {
                asio::io_context context{1};
                drive(context, receive_a_million(received));
            });
        }
        r.report("received", received == million ? 1 : 0);
    });
    claim("million_receives_on_256_KiB",
          counter_of("million_receives_on_small_stack/tidegate", "received"), at_least(1));
}};

} // namespace
