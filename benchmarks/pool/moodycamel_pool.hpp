// SPDX-License-Identifier: BSL-1.0
// Threads on moodycamel's lock-free blocking queue.
#pragma once

#include "coroutines.hpp"

#include <concurrentqueue/blockingconcurrentqueue.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

template <class Function>
class basic_moodycamel_pool {
public:
    basic_moodycamel_pool(asio::io_context&, std::size_t threads) {
        for (std::size_t i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
    }

    ~basic_moodycamel_pool() {
        for (std::size_t i = 0; i < workers_.size(); ++i) jobs_.enqueue(std::nullopt);
        for (auto& worker : workers_) worker.join();
    }

    void post(Function job) { jobs_.enqueue(std::move(job)); }

private:
    void work() {
        std::optional<Function> job;
        for (;;) {
            jobs_.wait_dequeue(job);
            if (!job) return;
            std::move (*job)();
            job.reset();
        }
    }

    moodycamel::BlockingConcurrentQueue<std::optional<Function>> jobs_;
    std::vector<std::thread> workers_;
};

using moodycamel_pool = basic_moodycamel_pool<std::function<void()>>;

} // namespace bench
