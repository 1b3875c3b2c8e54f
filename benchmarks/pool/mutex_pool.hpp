// SPDX-License-Identifier: BSL-1.0
// The pool that everybody writes: a queue, a mutex and a condition variable.
#pragma once

#include "coroutines.hpp"

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>

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

// The same pool for coroutines: the worker posts the awaiting coroutine back to its executor.
class mutex_pool_post_back {
public:
    mutex_pool_post_back(asio::io_context& context, std::size_t threads)
        : pool_(context, threads) {}

    template <class Job>
    auto run(Job job) {
        return asio::async_initiate<asio::deferred_t const&, void()>(
            [this](auto handler, Job own_job) {
                auto work = asio::make_work_guard(asio::get_associated_executor(handler));
                pool_.post([handler = std::move(handler), work = std::move(work),
                            own_job = std::move(own_job)]() mutable {
                    own_job();
                    asio::post(work.get_executor(), std::move(handler));
                });
            },
            asio::deferred, std::move(job));
    }

private:
    // std::function cannot hold a handler, which cannot be copied.
    basic_mutex_pool<asio::any_completion_handler<void()>> pool_;
};

} // namespace bench
