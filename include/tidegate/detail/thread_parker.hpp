// SPDX-License-Identifier: BSL-1.0
// Where a thread sleeps until it is called.
#pragma once

#include <tidegate/config.hpp>

#if defined(__APPLE__) || defined(_WIN32)
#include <semaphore>
#else
#include <semaphore.h>
#endif

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// One thread parks, any other unparks it; a call that comes first is kept. To call waits for
/// nobody, and to park neither spins nor yields, as other means do, which costs milliseconds on a
/// machine with all processors busy:
/// - A condition variable of glibc before 2.41 may lose a call (sourceware.org bug 25847), and to
///   notify it may wait until threads notified before have run.
/// - std::atomic::wait and the semaphores of libstdc++ call sched_yield() first, which gives the
///   rest of the time slice away: the thread comes late when it is called soon.
class thread_parker {
public:
#if defined(__APPLE__) || defined(_WIN32)
    void park() noexcept { calls_.acquire(); }
    void unpark() noexcept { calls_.release(); }

private:
    std::binary_semaphore calls_{0};
#else
    thread_parker() noexcept { sem_init(&calls_, 0, 0); }
    ~thread_parker() { sem_destroy(&calls_); }
    thread_parker(thread_parker const&) = delete;
    thread_parker& operator=(thread_parker const&) = delete;

    void park() noexcept {
        while (sem_wait(&calls_) != 0) continue; // a signal came
    }
    void unpark() noexcept { sem_post(&calls_); }

private:
    sem_t calls_;
#endif
};

} // namespace detail
TIDEGATE_END_NAMESPACE
