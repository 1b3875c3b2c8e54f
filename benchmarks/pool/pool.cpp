// SPDX-License-Identifier: BSL-1.0
// Handing jobs to worker threads: awaited by coroutines, and fire and forget.
#include "asio_thread_pool.hpp"
#include "bench.hpp"
#include "coroutines.hpp"
#include "moodycamel_pool.hpp"
#include "mutex_pool.hpp"
#include "post_back.hpp"
#include "tbb_pool.hpp"
#include "tidegate_pool.hpp"

#include <atomic>
#include <cstddef>
#include <functional>
#include <stdexcept>

namespace {

using namespace bench;

struct empty_job {
    void operator()() const {}
};

using mutex_pool_post_back = post_back<basic_mutex_pool>;
using moodycamel_post_back = post_back<basic_moodycamel_pool>;
using tbb_post_back = post_back<basic_tbb_pool>;
using tbb_pool = basic_tbb_pool<std::function<void()>>;

// Coroutines that await an empty job each and resume on their own executor, again and again.

template <class Pool>
asio::awaitable<void> await_jobs(run& r, Pool& pool) {
    constexpr empty_job job;
    while (r.more()) co_await pool.run(job);
}

// Both hops in the coroutine itself.
template <>
asio::awaitable<void> await_jobs(run& r, asio_hop& pool) {
    constexpr empty_job job;
    while (r.more()) {
        co_await pool.there();
        job();
        co_await pool.back();
    }
}

template <class Pool, std::size_t workers, int in_flight>
void await_in_flight(run& r) {
    asio::io_context context{1};
    Pool pool(context, workers);
    for (int i = 0; i < in_flight; ++i) start(context, await_jobs(r, pool));
    context.run();
}

group const awaited_one_by_one{[] {
    row("await_1/tidegate", wall_time, await_in_flight<tidegate_pool, 1, 1>);
    row("await_1/tidegate_async", wall_time, await_in_flight<tidegate_pool_async, 1, 1>);
    row("await_1/asio_hop", wall_time, await_in_flight<asio_hop, 1, 1>);
    row("await_1/asio_hop_child", wall_time, await_in_flight<asio_hop_child, 1, 1>);
    row("await_1/asio_co_spawn", wall_time, await_in_flight<asio_co_spawn, 1, 1>);
    row("await_1/mutex_pool", wall_time, await_in_flight<mutex_pool_post_back, 1, 1>);
    row("await_1/moodycamel", wall_time, await_in_flight<moodycamel_post_back, 1, 1>);
    row("await_1/tbb", wall_time, await_in_flight<tbb_post_back, 1, 1>);

    claim("await_1",
          ratio_of(typical_time_of("await_1/tidegate"),
                   typical_fastest_of({"await_1/asio_hop", "await_1/asio_hop_child"})),
          at_most(1.1));

    row("await_1_on_2_workers/tidegate", wall_time, await_in_flight<tidegate_pool, 2, 1>);
    row("await_1_on_2_workers/asio_hop", wall_time, await_in_flight<asio_hop, 2, 1>);
    row("await_1_on_2_workers/asio_hop_child", wall_time, await_in_flight<asio_hop_child, 2, 1>);
    row("await_1_on_2_workers/asio_co_spawn", wall_time, await_in_flight<asio_co_spawn, 2, 1>);
    row("await_1_on_2_workers/mutex_pool", wall_time, await_in_flight<mutex_pool_post_back, 2, 1>);
}};

group const awaited_by_64{[] {
    row("await_64/tidegate", wall_time, await_in_flight<tidegate_pool, 1, 64>);
    row("await_64/tidegate_async", wall_time, await_in_flight<tidegate_pool_async, 1, 64>);
    row("await_64/asio_hop", wall_time, await_in_flight<asio_hop, 1, 64>);
    row("await_64/asio_hop_child", wall_time, await_in_flight<asio_hop_child, 1, 64>);
    row("await_64/asio_co_spawn", wall_time, await_in_flight<asio_co_spawn, 1, 64>);
    row("await_64/mutex_pool", wall_time, await_in_flight<mutex_pool_post_back, 1, 64>);
    row("await_64/moodycamel", wall_time, await_in_flight<moodycamel_post_back, 1, 64>);
    row("await_64/tbb", wall_time, await_in_flight<tbb_post_back, 1, 64>);

    claim("await_64_against_moodycamel",
          ratio_of(typical_time_of("await_64/tidegate"), typical_time_of("await_64/moodycamel")),
          at_most(1));
    claim("await_64_allocations", allocations_of("await_64/tidegate"), at_most(1));
    claim("await_64",
          ratio_of(typical_time_of("await_64/tidegate"),
                   typical_fastest_of({"await_64/asio_hop", "await_64/asio_hop_child"})),
          at_most(0.8));

    row("await_64_on_2_workers/tidegate", wall_time, await_in_flight<tidegate_pool, 2, 64>);
    row("await_64_on_2_workers/asio_hop", wall_time, await_in_flight<asio_hop, 2, 64>);
    row("await_64_on_2_workers/asio_hop_child", wall_time, await_in_flight<asio_hop_child, 2, 64>);
    row("await_64_on_2_workers/asio_co_spawn", wall_time, await_in_flight<asio_co_spawn, 2, 64>);
    row("await_64_on_2_workers/mutex_pool", wall_time,
        await_in_flight<mutex_pool_post_back, 2, 64>);
    claim("await_64_on_2_workers",
          ratio_of(typical_time_of("await_64_on_2_workers/tidegate"),
                   typical_fastest_of(
                       {"await_64_on_2_workers/asio_hop", "await_64_on_2_workers/asio_hop_child"})),
          at_most(0.95));
}};

// Jobs that nobody awaits. A lap posts many and waits until the last of them ran.

constexpr int jobs_a_lap = 20'000;

template <class Pool, std::size_t workers>
void detach(run& r) {
    asio::io_context context{1};
    std::atomic<bool> last_ran = false;
    std::atomic<bool> open = false;
    Pool pool(context, workers);
    auto const post_a_lap = [&] {
        last_ran = false;
        for (int i = 1; i < jobs_a_lap; ++i) pool.post(empty_job());
        pool.post([&] {
            last_ran = true;
            last_ran.notify_one();
        });
    };
    // Once behind jobs that hold up the workers: a pool in use has had a queue as long as this.
    for (std::size_t i = 0; i < workers; ++i) pool.post([&] { open.wait(false); });
    post_a_lap();
    open = true;
    open.notify_all();
    last_ran.wait(false);
    while (r.more(jobs_a_lap)) {
        post_a_lap();
        last_ran.wait(false);
    }
}

// A queue that is filled to its last place behind a job that runs, and emptied, again and again.
void fill_and_empty(run& r) {
    constexpr int places = 1024;
    asio::io_context context{1};
    std::atomic<bool> inside = false, open = false, last_ran = false;
    tidegate::worker_pool pool(context, tidegate::worker_pool_options().threads(1).queue(places));
    bool all_taken = true;
    while (r.more(places + 1)) {
        inside = open = last_ran = false;
        all_taken &= pool.post([&] {
            inside = true;
            inside.notify_one();
            open.wait(false);
        });
        inside.wait(false);
        for (int i = 1; i < places; ++i) all_taken &= pool.post(empty_job());
        all_taken &= pool.post([&] {
            last_ran = true;
            last_ran.notify_one();
        });
        open = true;
        open.notify_one();
        last_ran.wait(false);
    }
    if (!all_taken) throw std::runtime_error("the queue was meant to have room");
}

group const detached{[] {
    row("detached/tidegate", wall_time, detach<tidegate_pool, 1>);
    row("detached/asio_thread_pool", wall_time, detach<asio_hop, 1>);
    row("detached/mutex_pool", wall_time, detach<mutex_pool, 1>);
    row("detached/moodycamel", wall_time, detach<moodycamel_pool, 1>);
    row("detached/tbb", wall_time, detach<tbb_pool, 1>);

    claim("detached_against_mutex",
          ratio_of(typical_time_of("detached/tidegate"), typical_time_of("detached/mutex_pool")),
          at_most(1.15));
    row("detached_full_1024/tidegate", wall_time, fill_and_empty);
    claim("detached_allocations", allocations_of("detached/tidegate"), at_most(0));
    claim("detached_full_1024_allocations", allocations_of("detached_full_1024/tidegate"),
          at_most(0));
    claim("detached",
          ratio_of(typical_time_of("detached/tidegate"),
                   typical_time_of("detached/asio_thread_pool")),
          at_most(0.75));

    row("detached_on_2_workers/tidegate", wall_time, detach<tidegate_pool, 2>);
    row("detached_on_2_workers/asio_thread_pool", wall_time, detach<asio_hop, 2>);
    row("detached_on_2_workers/mutex_pool", wall_time, detach<mutex_pool, 2>);
}};

} // namespace
