// SPDX-License-Identifier: BSL-1.0
// What it costs to know a task by its id, and to say how far it is.
#include "bench.hpp"
#include "coroutines.hpp"

#include <tidegate/background_tasks.hpp>
#include <tidegate/task_scope.hpp>

#include <boost/asio/detached.hpp>

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace {

using namespace bench;

constexpr int tasks_a_lap = 100;

// Spawns, runs to the end and looks up; the time is that of one task.

void spawn_and_look_up(run& r) {
    asio::io_context context{1};
    tidegate::background_tasks<int> tasks(context);
    auto task = [](tidegate::task_context&) -> asio::awaitable<int> { co_return 1; };
    while (r.more(tasks_a_lap)) {
        tidegate::task_id last;
        for (int i = 0; i < tasks_a_lap; ++i) last = tasks.spawn("", task);
        context.restart();
        context.run();
        for (int i = 0; i < tasks_a_lap; ++i) {
            last.value -= i > 0;
            benchmark::DoNotOptimize(tasks.status(last));
        }
    }
}

// What people write: a detached coroutine, and a table with a mutex that it notes its end in.
void co_spawn_and_insert(run& r) {
    struct row_type {
        std::string name;
        int state = 0;
        int result = 0;
    };
    asio::io_context context{1};
    std::mutex mutex;
    std::unordered_map<std::uint64_t, row_type> table;
    std::uint64_t last = 0;
    auto task = [&](std::uint64_t id) -> asio::awaitable<void> {
        std::lock_guard lock(mutex);
        table[id].result = 1;
        table[id].state = 2;
        co_return;
    };
    while (r.more(tasks_a_lap)) {
        for (int i = 0; i < tasks_a_lap; ++i) {
            {
                std::lock_guard lock(mutex);
                table.emplace(++last, row_type{"", 1, 0});
            }
            asio::co_spawn(context, task(last), asio::detached);
        }
        context.restart();
        context.run();
        for (int i = 0; i < tasks_a_lap; ++i) {
            std::lock_guard lock(mutex);
            auto const found = table.find(last - static_cast<std::uint64_t>(i));
            benchmark::DoNotOptimize(found->second.state);
        }
        std::lock_guard lock(mutex);
        if (table.size() > 1000) table.clear(); // a history of some length, as ours
    }
}

void update_progress(run& r) {
    tidegate::detail::task_progress progress;
    tidegate::task_context const context(tidegate::task_id{1}, progress);
    double done = 0;
    while (r.more()) {
        context.progress(done += 1);
        benchmark::ClobberMemory();
    }
}

void spawn_in_scope(run& r) {
    asio::io_context context{1};
    auto task = []() -> asio::awaitable<void> { co_return; };
    while (r.more(tasks_a_lap)) {
        tidegate::task_scope scope(context);
        for (int i = 0; i < tasks_a_lap; ++i) scope.spawn(task);
        scope.async_join([](std::exception_ptr) {});
        context.restart();
        context.run();
    }
}

group const tasks{[] {
    row("task/tidegate", cpu_time, spawn_and_look_up);
    row("task/co_spawn_and_table", cpu_time, co_spawn_and_insert);
    row("task_scope/tidegate", cpu_time, spawn_in_scope);
    row("progress/tidegate", cpu_time, update_progress);
    claim("background_task", ratio_of("task/tidegate", "task/co_spawn_and_table"), at_most(1.5));
    claim("progress_ns", time_of("progress/tidegate"), at_most(5));
}};

} // namespace
