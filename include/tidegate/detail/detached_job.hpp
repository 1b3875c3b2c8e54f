// SPDX-License-Identifier: BSL-1.0
// Jobs that nobody waits for, and where they are kept for the next.
#pragma once

#include <tidegate/detail/lock_patiently.hpp>
#include <tidegate/detail/pool_job.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

class detached_jobs;

/// A job nobody waits for, with room for its callable.
class detached_job final : public pool_job {
public:
    static constexpr std::size_t room = 64;

    template <class Function>
    static constexpr bool fits =
        sizeof(Function) <= room && alignof(Function) <= alignof(std::max_align_t) &&
        std::is_nothrow_move_constructible_v<Function>;

    detached_job() noexcept : pool_job(&detached_job::drop, &detached_job::call) {
        is_detached = true;
    }

    template <class Function>
    void hold(Function function) noexcept {
        static_assert(fits<Function>);
        this->stop = source_of(function);
        ::new (static_cast<void*>(storage_)) Function(std::move(function));
        invoke_ = [](void* f) { (*static_cast<Function*>(f))(); };
        destroy_ = [](void* f) noexcept { static_cast<Function*>(f)->~Function(); };
    }

private:
    friend class detached_jobs;

    static std::exception_ptr call(pool_job* job) noexcept {
        auto* const self = static_cast<detached_job*>(job);
        std::exception_ptr thrown;
        try {
            self->invoke_(self->storage_);
        } catch (...) {
            thrown = std::current_exception();
        }
        self->empty();
        return thrown;
    }

    static void drop(waiter* w, waiter::outcome, void*) noexcept;

    void empty() noexcept {
        if (destroy_) std::exchange(destroy_, nullptr)(storage_);
    }

    detached_jobs* store_ = nullptr;
    detached_job* next_free_ = nullptr;
    alignas(std::max_align_t) std::byte storage_[room];
    void (*invoke_)(void*) = nullptr;
    void (*destroy_)(void*) noexcept = nullptr;
};

/// Has as many of them as were ever held at once. They are made by the block, so that a queue that
/// gets longer than before costs one allocation for many jobs.
class detached_jobs {
public:
    /// `guard` is the lock that `take` and `keep` are called under.
    explicit detached_jobs(std::mutex& guard) noexcept : guard_(guard) {}
    detached_jobs(detached_jobs const&) = delete;
    detached_jobs& operator=(detached_jobs const&) = delete;

    detached_job& take() {
        if (!free_) make_some();
        detached_job& job = *free_;
        free_ = job.next_free_;
        return job;
    }

    /// For the next. It has run, or was emptied.
    void keep(detached_job& job) noexcept {
        job.is_running = false;
        job.stop = std::stop_source(std::nostopstate);
        job.since.reset();
        job.waited = {};
        job.next_free_ = std::exchange(free_, &job);
    }

    /// As `keep`, without the lock.
    void keep_dropped(detached_job& job) noexcept {
        auto const lock = lock_patiently(guard_);
        keep(job);
    }

private:
    static constexpr std::size_t first_block = 16;
    static constexpr std::size_t largest_block = 128;

    void make_some() {
        std::size_t const n = std::clamp(made_, first_block, largest_block);
        blocks_.push_back(std::make_unique<detached_job[]>(n));
        made_ += n;
        for (std::size_t i = n; i > 0; --i) {
            detached_job& job = blocks_.back()[i - 1];
            job.store_ = this;
            job.next_free_ = std::exchange(free_, &job);
        }
    }

    std::mutex& guard_;
    detached_job* free_ = nullptr;
    std::size_t made_ = 0;
    std::vector<std::unique_ptr<detached_job[]>> blocks_;
};

// Aborted or destroyed before it ran: nobody asked to be told.
inline void detached_job::drop(waiter* w, waiter::outcome, void*) noexcept {
    auto* const self = static_cast<detached_job*>(w);
    self->empty();
    self->store_->keep_dropped(*self);
}

} // namespace detail
TIDEGATE_END_NAMESPACE
