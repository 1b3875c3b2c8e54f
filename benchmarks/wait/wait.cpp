// SPDX-License-Identifier: BSL-1.0
// What it costs to park, wake and cancel waiters.
#include "asio_channel.hpp"
#include "bench.hpp"
#include "coroutines.hpp"
#include "tidegate_semaphore.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <cstddef>
#include <memory>
#include <vector>

namespace {

using namespace bench;
using any_executor = asio::any_io_executor;
using concrete_executor = asio::io_context::executor_type;

template <class Gate>
using routine = asio::awaitable<void, typename Gate::executor_type>;

template <class Gate>
concept hands_out_permits = requires { typename Gate::permit; };

constexpr std::size_t waiters = 1000;

// Waking alone: coroutines are woken at the gate and go to rest; parking them again is not timed.

template <class Gate>
routine<Gate> wait_and_rest(Gate& gate, lay_by& rest) {
    for (;;) {
        if constexpr (hands_out_permits<Gate>) gate.keep(co_await gate.async_wait(asio::deferred));
        else co_await gate.async_wait(asio::deferred);
        co_await rest.async_rest(asio::deferred);
    }
}

template <class Gate>
routine<Gate> wake_laps(run& r, Gate& gate, lay_by& rest) {
    co_await asio::post(asio::deferred); // the waiters park
    while (r.more(waiters)) {
        gate.wake_all();
        co_await rest.async_until_full(asio::deferred);
        r.pause();
        gate.rearm();
        rest.resume_all();
        r.resume();
    }
}

template <class Gate>
void wake(run& r) {
    asio::io_context context{1};
    typename Gate::executor_type const executor = context.get_executor();
    lay_by rest(executor, waiters);
    Gate gate(executor, waiters);
    for (std::size_t i = 0; i < waiters; ++i) start(context, wait_and_rest(gate, rest));
    drive(context, wake_laps(r, gate, rest));
}

group const waking{[] {
    row("wake_1000/tidegate", cpu_time, wake<tidegate_gate<any_executor>>);
    row("wake_1000/asio_channel", cpu_time, wake<asio_channel_gate<any_executor>>);
    claim("wake_1000", ratio_of("wake_1000/tidegate", "wake_1000/asio_channel"), at_most(0.5));
    claim("wake_1000_allocations", allocations_of("wake_1000/tidegate"), at_most(1));

    row("wake_1000_concrete/tidegate", cpu_time, wake<tidegate_gate<concrete_executor>>);
    row("wake_1000_concrete/asio_channel", cpu_time, wake<asio_channel_gate<concrete_executor>>);
    claim("wake_1000_concrete",
          ratio_of("wake_1000_concrete/tidegate", "wake_1000_concrete/asio_channel"), at_most(0.5));
    claim("wake_1000_concrete_allocations", allocations_of("wake_1000_concrete/tidegate"),
          at_most(0));
}};

// Waking and parking again, with and without a deadline for the wait.

template <class Gate>
routine<Gate> wait_again_and_again(Gate& gate, std::size_t& woken) {
    for (;;) {
        if constexpr (hands_out_permits<Gate>) gate.keep(co_await gate.async_wait(asio::deferred));
        else co_await gate.async_wait(asio::deferred);
        ++woken;
    }
}

template <class Gate>
routine<Gate> park_and_wake_laps(run& r, Gate& gate, std::size_t& woken) {
    co_await asio::post(asio::deferred); // the waiters park
    while (r.more(waiters)) {
        woken = 0;
        gate.wake_all();
        while (woken < waiters) co_await asio::post(asio::deferred);
    }
}

template <class Gate>
void park_and_wake(run& r) {
    asio::io_context context{1};
    typename Gate::executor_type const executor = context.get_executor();
    std::size_t woken = 0;
    Gate gate(executor, waiters);
    for (std::size_t i = 0; i < waiters; ++i) start(context, wait_again_and_again(gate, woken));
    drive(context, park_and_wake_laps(r, gate, woken));
}

group const deadlines{[] {
    row("park_and_wake/tidegate", cpu_time, park_and_wake<tidegate_gate<any_executor>>);
    row("park_and_wake/asio_channel", cpu_time, park_and_wake<asio_channel_gate<any_executor>>);
    row("park_and_wake_deadline/tidegate", cpu_time,
        park_and_wake<tidegate_deadline_gate<any_executor>>);
    row("park_and_wake_deadline/tidegate_cancel_after", cpu_time,
        park_and_wake<cancel_after_gate<tidegate_gate<any_executor>>>);
    row("park_and_wake_deadline/asio_channel_cancel_after", cpu_time,
        park_and_wake<cancel_after_gate<asio_channel_gate<any_executor>>>);
    claim("deadline", ratio_of("park_and_wake_deadline/tidegate", "park_and_wake/tidegate"),
          at_most(1.2));

    // A timeout has to read the clock first, as cancel_after does.
    row("park_and_wake_deadline_for/tidegate", cpu_time,
        park_and_wake<tidegate_timeout_gate<any_executor>>);
    claim("deadline_for", ratio_of("park_and_wake_deadline_for/tidegate", "park_and_wake/tidegate"),
          at_most(1.2));
}};

// Cancelling one waiter of a queue. There are 20,000 waiters in both cases, in one queue or in
// 1,000 queues of 20, and every lap cancels and parks again the same hundred of them: only the
// length of the queue differs, not how warm the caches are.

constexpr std::size_t population = 20'000;
constexpr std::size_t cancels_a_lap = 100;

template <class Gate>
class cancellable_population {
public:
    cancellable_population(typename Gate::executor_type executor, std::size_t queue_length)
        : signals_(population), queue_length_(queue_length) {
        for (std::size_t i = 0; i < population / queue_length; ++i)
            gates_.push_back(std::make_unique<Gate>(executor, queue_length));
        for (std::size_t i = 0; i < population; ++i) park(i);
    }

    void park(std::size_t waiter) {
        gates_[waiter / queue_length_]->async_wait(asio::bind_cancellation_slot(
            signals_[waiter].slot(), [this](auto&&...) { ++cancelled; }));
    }

    void cancel(std::size_t waiter) { signals_[waiter].emit(asio::cancellation_type::terminal); }

    std::size_t cancelled = 0;

private:
    std::vector<asio::cancellation_signal> signals_;
    std::size_t queue_length_;
    std::vector<std::unique_ptr<Gate>> gates_;
};

template <class Gate>
routine<Gate> cancel_laps(run& r, cancellable_population<Gate>& parked) {
    constexpr std::size_t stride = population / cancels_a_lap;
    while (r.more(cancels_a_lap)) {
        parked.cancelled = 0;
        for (std::size_t waiter = 0; waiter < population; waiter += stride) parked.cancel(waiter);
        while (parked.cancelled < cancels_a_lap) co_await asio::post(asio::deferred);
        r.pause();
        for (std::size_t waiter = 0; waiter < population; waiter += stride) parked.park(waiter);
        r.resume();
    }
}

template <class Gate, std::size_t queue_length>
void cancel_one(run& r) {
    asio::io_context context{1};
    cancellable_population<Gate> parked(context.get_executor(), queue_length);
    drive(context, cancel_laps(r, parked));
}

group const cancelling{[] {
    using ours = tidegate_gate<any_executor>;
    using channel = asio_channel_gate<any_executor>;
    row("cancel_one_of_20/tidegate", cpu_time, cancel_one<ours, 20>);
    row("cancel_one_of_20000/tidegate", cpu_time, cancel_one<ours, population>);
    row("cancel_one_of_20/asio_channel", cpu_time, cancel_one<channel, 20>);
    row("cancel_one_of_20000/asio_channel", cpu_time, cancel_one<channel, population>);
    claim("cancel_20000_against_20",
          ratio_of("cancel_one_of_20000/tidegate", "cancel_one_of_20/tidegate"), at_most(2));
}};

} // namespace
