// SPDX-License-Identifier: BSL-1.0
// A gate made of our semaphore: waiters acquire, waking is releasing.
#pragma once

#include "coroutines.hpp"

#include <tidegate/semaphore.hpp>

#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

namespace bench {

template <class Executor>
class tidegate_gate {
public:
    using executor_type = Executor;
    using semaphore = tidegate::basic_semaphore<std::chrono::steady_clock, Executor>;
    using permit = typename semaphore::permit;

    tidegate_gate(Executor executor, std::size_t waiters)
        : semaphore_(executor, waiters), all_(semaphore_.try_acquire(waiters)) {
        taken_.reserve(waiters);
        given_back_.reserve(waiters);
    }

    template <class Token>
    auto async_wait(Token&& token) {
        return semaphore_.async_acquire(std::forward<Token>(token));
    }

    // What a woken waiter was handed stays taken until the next waking.
    void keep(permit taken) { taken_.push_back(std::move(taken)); }

    void wake_all() {
        all_.release();
        given_back_.swap(taken_);
        given_back_.clear();
    }

    // While nobody waits: gathers all permits again, so that waking is one release.
    void rearm() {
        taken_.clear();
        all_ = semaphore_.try_acquire(semaphore_.capacity());
    }

protected:
    semaphore semaphore_;

private:
    permit all_;
    std::vector<permit> taken_;
    std::vector<permit> given_back_;
};

// Each wait with a deadline that is part of the operation.
template <class Executor>
class tidegate_deadline_gate : public tidegate_gate<Executor> {
public:
    using tidegate_gate<Executor>::tidegate_gate;

    template <class Token>
    auto async_wait(Token&& token) {
        return this->semaphore_.async_acquire_until(deadline_, std::forward<Token>(token));
    }

private:
    // A request's deadline, known before it waits.
    std::chrono::steady_clock::time_point const deadline_ =
        std::chrono::steady_clock::now() + std::chrono::hours(1);
};

// The same with a timeout: each wait reads the clock first.
template <class Executor>
class tidegate_timeout_gate : public tidegate_gate<Executor> {
public:
    using tidegate_gate<Executor>::tidegate_gate;

    template <class Token>
    auto async_wait(Token&& token) {
        return this->semaphore_.async_acquire_for(std::chrono::seconds(1),
                                                  std::forward<Token>(token));
    }
};

} // namespace bench
