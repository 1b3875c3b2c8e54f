// SPDX-License-Identifier: BSL-1.0
// Brings results from worker threads to the event loop.
#pragma once

#include <tidegate/detail/one_block_allocator.hpp>
#include <tidegate/detail/posting_work.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A waiter that carries its results until they are delivered.
class result_waiter : public waiter {
public:
    /// Completes with the results it carries.
    void deliver() noexcept { this->finish(results_); }
    void deliver_here() { this->finish_here(results_); }

    /// What was to be done after its handler is the caller's now. True if there was anything.
    bool take_afterwards() noexcept { return std::exchange(this->afterwards_, nullptr) != nullptr; }

    /// The handler runs on the primitive's own executor.
    bool at_home = false;

protected:
    using waiter::waiter;

    void* results_ = nullptr;

private:
    friend class finished_stack;
    result_waiter* below_ = nullptr;
};

/// Finished operations on their way to the event loop. Any thread pushes, one takes all.
class finished_stack {
public:
    enum class pushed { onto_others, as_first, not_at_all };

    /// `as_first`: see to it that somebody takes. `not_at_all`: it was shut.
    pushed push(result_waiter& w) noexcept {
        result_waiter* top = top_.load(std::memory_order_relaxed);
        do {
            if (top == shut_mark()) return pushed::not_at_all;
            w.below_ = top;
        } while (!top_.compare_exchange_weak(top, &w, std::memory_order_acq_rel,
                                             std::memory_order_relaxed));
        return top ? pushed::onto_others : pushed::as_first;
    }

    /// Appends all to `oldest_first`.
    void take(waiter_list& oldest_first) noexcept { unload(nullptr, oldest_first); }

    /// As `take`; from now on nothing is pushed any more.
    void shut(waiter_list& oldest_first) noexcept { unload(shut_mark(), oldest_first); }

private:
    // An address that no waiter has.
    result_waiter* shut_mark() noexcept { return reinterpret_cast<result_waiter*>(this); }

    void unload(result_waiter* leave, waiter_list& oldest_first) noexcept {
        result_waiter* top = top_.exchange(leave, std::memory_order_acq_rel);
        if (top == shut_mark()) return;
        result_waiter* oldest = nullptr;
        while (top) {
            result_waiter* const below = top->below_;
            top->below_ = oldest;
            oldest = top;
            top = below;
        }
        for (; oldest; oldest = oldest->below_) oldest_first.push_back(*oldest);
    }

    std::atomic<result_waiter*> top_{nullptr};
};

/// A waiting room whose operations are finished by other threads. Handlers that run on the
/// primitive's own executor are delivered together: one posted function for all that have finished
/// until it runs. That saves wake-ups of the event loop, and frees the operations' memory on the
/// thread that allocated it, where Asio uses it again.
template <class Clock, class Executor>
class delivering_room : public waiting_room<Clock, Executor, std::mutex> {
    using room = waiting_room<Clock, Executor, std::mutex>;

protected:
    using room::room;

    /// Delivers `one`, which carries its results. Call without the lock.
    void deliver(result_waiter& one) noexcept {
        if (!one.at_home) {
            one.deliver();
            return;
        }
        switch (finished_.push(one)) {
        case finished_stack::pushed::onto_others: break; // whoever was first has posted
        case finished_stack::pushed::as_first: post_delivery(); break;
        case finished_stack::pushed::not_at_all: one.destroy(); break;
        }
    }

    void deliver(waiter_list& done) noexcept {
        while (waiter* const w = done.pop_front()) deliver(static_cast<result_waiter&>(*w));
    }

    /// For the end of the context: what was not delivered by now, and all that would be, is
    /// destroyed.
    void drop_undelivered() noexcept {
        waiter_list undelivered; // destroys them
        finished_.shut(undelivered);
    }

private:
    void post_delivery() {
        auto self = std::static_pointer_cast<delivering_room>(this->shared_from_this());
        posting_work<Executor>(this->executor())
            .post([self = std::move(self)] { self->deliver_finished(); },
                  one_block_allocator<void>(delivery_memory_));
    }

    void deliver_finished() {
        waiter_list batch;
        finished_.take(batch);
        // A handler that throws leaves the rest for another delivery. The timer is looked at once,
        // after all: in between it would be cancelled and set again, if a handler starts a wait.
        struct at_end {
            delivering_room& self;
            waiter_list& rest;
            bool timer_too = false;
            ~at_end() {
                self.deliver(rest);
                if (timer_too) static_cast<after_handler&>(self).handler_finished();
            }
        } end{*this, batch};
        while (auto* const w = static_cast<result_waiter*>(batch.pop_front())) {
            end.timer_too |= w->take_afterwards();
            w->deliver_here();
        }
    }

    finished_stack finished_;
    one_block delivery_memory_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
