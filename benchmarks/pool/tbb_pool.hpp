// SPDX-License-Identifier: BSL-1.0
// An arena of oneTBB.
#pragma once

#include "coroutines.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <utility>

namespace bench {

template <class Function>
class basic_tbb_pool {
public:
    basic_tbb_pool(asio::io_context&, std::size_t threads)
        : control_(tbb::global_control::max_allowed_parallelism, threads + 1),
          arena_(static_cast<int>(threads), 0) {}

    // Nothing is lost: what was enqueued is waited for.
    ~basic_tbb_pool() {
        while (pending_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
    }

    void post(Function job) {
        pending_.fetch_add(1, std::memory_order_relaxed);
        // The arena copies its tasks, and a handler cannot be copied.
        arena_.enqueue([this, shared = std::make_shared<Function>(std::move(job))] {
            std::move (*shared)();
            pending_.fetch_sub(1, std::memory_order_release);
        });
    }

private:
    tbb::global_control control_;
    tbb::task_arena arena_;
    std::atomic<std::size_t> pending_{0};
};

} // namespace bench
