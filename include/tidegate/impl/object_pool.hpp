// SPDX-License-Identifier: BSL-1.0
// The state of an object pool.
#pragma once

#include <tidegate/object_pool.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct acquire_object {};

template <class Lease>
class lease_waiter : public waiter_of<void(error_code, Lease)> {
protected:
    using waiter_of<void(error_code, Lease)>::waiter_of;
};

template <class T, class Clock, class Executor, class Mutex>
class object_pool_state final : public waiting_room<Clock, Executor, Mutex> {
    using room = waiting_room<Clock, Executor, Mutex>;
    using lease = basic_lease<T, Clock, Executor, Mutex>;
    using waiter_type = lease_waiter<lease>;

public:
    using time_point = typename room::time_point;

    template <class Factory>
    static std::shared_ptr<object_pool_state> make(Executor const& executor, std::size_t size,
                                                   Factory& factory) {
        check_option<std::size_t>("object_pool size", size, 1, std::size_t{1} << 24);
        auto state = std::make_shared<object_pool_state>(executor, size);
        for (std::size_t i = 0; i < size; ++i) state->idle_.push_back(factory());
        state->enroll();
        return state;
    }

    object_pool_state(Executor const& executor, std::size_t size) : room(executor), size_(size) {
        idle_.reserve(size);
    }

    lease try_acquire() noexcept {
        std::lock_guard lock(this->mutex_);
        return take_under_lock();
    }

    void give_back(std::unique_ptr<T> object) noexcept {
        std::unique_lock lock(this->mutex_);
        if (this->closed_) {
            lock.unlock(); // the object's destructor is the user's
            return;
        }
        auto* const first = static_cast<waiter_type*>(waiting_.front());
        if (!first) {
            idle_.push_back(std::move(object)); // within the reserved size
            return;
        }
        this->unpark(*first);
        lock.unlock();
        first->complete({}, lease(self(), std::move(object)));
    }

    template <class Handler>
    void start(acquire_object, Handler&& handler, time_point deadline) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        lease taken;
        {
            std::lock_guard lock(this->mutex_);
            taken = take_under_lock();
            if (!taken && !this->closed_) {
                this->park(waiting_, op, deadline, cancel);
                return;
            }
        }
        if (taken) op.release()->complete({}, std::move(taken));
        else op.release()->abort(error::closed);
    }

    void close() noexcept {
        room::close();
        std::vector<std::unique_ptr<T>> idle;
        std::lock_guard lock(this->mutex_);
        idle.swap(idle_);
    }

    std::size_t size() const noexcept { return size_; }
    std::size_t idle() const noexcept {
        std::lock_guard lock(this->mutex_);
        return idle_.size();
    }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        return waiting_.size();
    }

private:
    std::shared_ptr<object_pool_state> self() {
        return std::static_pointer_cast<object_pool_state>(this->shared_from_this());
    }

    // Objects are idle only while nobody waits.
    lease take_under_lock() noexcept {
        if (idle_.empty() || this->closed_) return {};
        lease taken(self(), std::move(idle_.back()));
        idle_.pop_back();
        return taken;
    }

    void take_all(waiter_list& all) noexcept override { all.append(waiting_); }

    std::size_t const size_;
    std::vector<std::unique_ptr<T>> idle_;
    waiter_list waiting_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
