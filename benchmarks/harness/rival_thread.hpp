// SPDX-License-Identifier: BSL-1.0
// A second thread that does the same all the time.
#pragma once

#include <atomic>
#include <thread>

namespace bench {

/// Runs `operation` over and over on another thread while this object lives.
class rival_thread {
public:
    template <class Operation>
    explicit rival_thread(Operation operation)
        : thread_([this, operation]() mutable {
              while (!stop_.load(std::memory_order_relaxed)) operation();
          }) {}
    ~rival_thread() {
        stop_ = true;
        thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

} // namespace bench
