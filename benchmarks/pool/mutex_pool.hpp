// SPDX-License-Identifier: BSL-1.0
// The pool that everybody writes: a queue, a mutex and a condition variable.
#pragma once

#include "coroutines.hpp"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

template <class Function>
class basic_mutex_pool {
public:
    basic_mutex_pool(asio::io_context&, std::size_t threads) {
        for (std::size_t i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
    }

    ~basic_mutex_pool() {
        {
            std::lock_guard lock(mutex_);
            stopped_ = true;
        }
        wanted_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    void post(Function job) {
        {
            std::lock_guard lock(mutex_);
            jobs_.push_back(std::move(job));
        }
        wanted_.notify_one();
    }

private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            wanted_.wait(lock, [this] { return stopped_ || !jobs_.empty(); });
            if (jobs_.empty()) return;
            auto job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            std::move(job)();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable wanted_;
    std::deque<Function> jobs_;
    bool stopped_ = false;
    std::vector<std::thread> workers_;
};

using mutex_pool = basic_mutex_pool<std::function<void()>>;

} // namespace bench
