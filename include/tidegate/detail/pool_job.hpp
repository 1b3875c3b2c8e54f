// SPDX-License-Identifier: BSL-1.0
// What a worker pool queues: awaited jobs and detached ones.
#pragma once

#include <tidegate/detail/delivering_room.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

class pool_job : public result_waiter {
public:
    /// Runs the job and keeps its result. What it throws is kept too (awaited), or returned
    /// (detached).
    std::exception_ptr run() noexcept { return run_(this); }

    /// Nobody waits for it.
    bool is_detached = false;

protected:
    using run_fn = std::exception_ptr (*)(pool_job*) noexcept;

    pool_job(waiter::finish_fn how, run_fn call) noexcept : result_waiter(how), run_(call) {}

private:
    run_fn run_;
};

template <class Function, class Signature>
class awaited_job : public waiter_of<Signature, pool_job> {
    using base = waiter_of<Signature, pool_job>;

protected:
    awaited_job(waiter::finish_fn how, Function&& function)
        : base(how, &awaited_job::call), function_(std::move(function)) {}

private:
    static std::exception_ptr call(pool_job* job) noexcept {
        auto* const self = static_cast<awaited_job*>(job);
        try {
            if constexpr (std::is_void_v<std::invoke_result_t<Function&>>) {
                self->function_();
                self->outcome_.emplace(nullptr);
            } else {
                self->outcome_.emplace(nullptr, self->function_());
            }
        } catch (...) {
            self->outcome_.emplace();
            std::get<0>(*self->outcome_) = std::current_exception();
        }
        self->results_ = &*self->outcome_;
        return nullptr;
    }

    Function function_;
    std::optional<typename base::results> outcome_;
};

/// A job nobody waits for, with room for its callable. Finished ones are kept for the next.
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
        ::new (static_cast<void*>(storage_)) Function(std::move(function));
        invoke_ = [](void* f) { (*static_cast<Function*>(f))(); };
        destroy_ = [](void* f) noexcept { static_cast<Function*>(f)->~Function(); };
    }

    detached_job* next_free = nullptr;

private:
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

    // Aborted or destroyed before it ran: nobody asked to be told.
    static void drop(waiter* w, waiter::outcome, void*) {
        auto* const self = static_cast<detached_job*>(w);
        self->empty();
        delete self;
    }

    void empty() noexcept {
        if (destroy_) std::exchange(destroy_, nullptr)(storage_);
    }

    alignas(std::max_align_t) std::byte storage_[room];
    void (*invoke_)(void*) = nullptr;
    void (*destroy_)(void*) noexcept = nullptr;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
