// SPDX-License-Identifier: BSL-1.0
// Brings results from worker threads to the event loop.
#pragma once

#include <tidegate/detail/one_block_allocator.hpp>
#include <tidegate/detail/posting_work.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <mutex>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A waiter that carries its results until they are delivered.
class result_waiter : public waiter {
public:
    /// Completes with the results it carries.
    void deliver() noexcept { this->finish(results_); }
    void deliver_here() { this->finish_here(results_); }

    /// The handler runs on the primitive's own executor.
    bool at_home = false;

protected:
    using waiter::waiter;

    void* results_ = nullptr;
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

    /// Delivers all of `done`, which carry their results. Call without the lock.
    void deliver(waiter_list& done) noexcept {
        waiter_list at_home;
        while (auto* const w = static_cast<result_waiter*>(done.pop_front())) {
            if (w->at_home) at_home.push_back(*w);
            else w->deliver();
        }
        if (at_home.empty()) return;
        {
            std::lock_guard lock(this->mutex_);
            if (context_gone_) return; // with the lock released, `at_home` destroys them
            finished_.append(at_home);
            if (delivery_posted_) return;
            delivery_posted_ = true;
        }
        post_delivery();
    }

    void deliver(result_waiter& one) noexcept {
        waiter_list done;
        done.push_back(one);
        deliver(done);
    }

    /// For the end of the context: what was not delivered by now, and all that would be, is
    /// destroyed.
    void drop_undelivered() noexcept {
        waiter_list undelivered; // destroyed after the lock is released
        std::lock_guard lock(this->mutex_);
        undelivered.append(finished_);
        context_gone_ = true;
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
        {
            std::lock_guard lock(this->mutex_);
            batch.append(finished_);
            delivery_posted_ = false;
        }
        // A handler that throws leaves the rest for another delivery.
        struct leave_the_rest {
            delivering_room& self;
            waiter_list& rest;
            ~leave_the_rest() {
                if (!rest.empty()) self.deliver(rest);
            }
        } const guard{*this, batch};
        while (auto* const w = static_cast<result_waiter*>(batch.pop_front())) w->deliver_here();
    }

    waiter_list finished_;
    bool delivery_posted_ = false;
    bool context_gone_ = false;
    one_block delivery_memory_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
