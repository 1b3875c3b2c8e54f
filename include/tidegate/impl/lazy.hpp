// SPDX-License-Identifier: BSL-1.0
// The state of a lazy value.
#pragma once

#include <tidegate/detail/one_run.hpp>
#include <tidegate/lazy.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct get_lazy {};

template <class T>
class lazy_waiter : public waiter_of<void(std::exception_ptr, std::shared_ptr<T>)> {
protected:
    using waiter_of<void(std::exception_ptr, std::shared_ptr<T>)>::waiter_of;
};

template <class T, class Executor>
class lazy_state final : public waiting_room<std::chrono::steady_clock, Executor, std::mutex> {
    using room = waiting_room<std::chrono::steady_clock, Executor, std::mutex>;
    using waiter_type = lazy_waiter<T>;

public:
    template <class Load>
    static std::shared_ptr<lazy_state> make(basic_worker_pool<Executor>& pool, Load load) {
        auto state = std::make_shared<lazy_state>(pool, std::move(load));
        state->enroll();
        return state;
    }

    template <class Load>
    lazy_state(basic_worker_pool<Executor>& pool, Load load)
        : room(pool.get_executor()), pool_(worker_pool_access::state_of(pool)) {
        load_ = [load = std::make_shared<Load>(std::move(load))]() -> std::shared_ptr<T> {
            if constexpr (std::is_convertible_v<std::invoke_result_t<Load&>, std::shared_ptr<T>>) {
                return (*load)();
            } else {
                return std::make_shared<T>((*load)());
            }
        };
    }

    std::shared_ptr<T> try_get() const noexcept {
        std::lock_guard lock(this->mutex_);
        return value_;
    }

    template <class Handler>
    void start(get_lazy, Handler&& handler) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        std::shared_ptr<T> value;
        bool begin = false;
        {
            std::lock_guard lock(this->mutex_);
            value = value_;
            if (!value && !this->closed_) {
                this->park(waiting_, op, room::no_deadline, cancel);
                begin = !std::exchange(loading_, true);
                if (!begin) return;
            }
        }
        if (begin) begin_load();
        else if (value) op.release()->complete(nullptr, std::move(value));
        else op.release()->abort(error::closed);
    }

private:
    void begin_load() {
        auto self = std::static_pointer_cast<lazy_state>(this->shared_from_this());
        one_run<lazy_state, &lazy_state::load, &lazy_state::never_loaded> job(std::move(self));
        static_cast<void>(pool_->post(std::move(job), true));
    }

    // The pool was closed, or has dropped the load to make room for a newer job.
    void never_loaded() noexcept {
        error const why = pool_->accepts() ? error::dropped : error::closed;
        finish(to_failure<std::exception_ptr>(why), nullptr);
    }

    void load() noexcept {
        std::exception_ptr failure;
        std::shared_ptr<T> value;
        try {
            value = load_();
            if (!value)
                throw std::logic_error("tidegate: the loader of a lazy value returned null");
        } catch (...) {
            failure = std::current_exception();
        }
        finish(std::move(failure), std::move(value));
    }

    void finish(std::exception_ptr failure, std::shared_ptr<T> value) noexcept {
        waiter_list all;
        {
            std::lock_guard lock(this->mutex_);
            loading_ = false;
            value_ = value;
            while (waiter* const w = waiting_.front()) {
                this->unpark(*w);
                all.push_back(*w);
            }
        }
        while (all.size() > 1) {
            static_cast<waiter_type*>(all.pop_front())->complete(failure, value);
        }
        // The last one takes the last reference: the exception ends where it is handled.
        if (auto* const last = static_cast<waiter_type*>(all.pop_front())) {
            last->complete(std::move(failure), std::move(value));
        }
    }

    void take_all(waiter_list& all) noexcept override { all.append(waiting_); }

    std::shared_ptr<worker_pool_state<Executor>> pool_;
    std::function<std::shared_ptr<T>()> load_;
    std::shared_ptr<T> value_;
    bool loading_ = false;
    waiter_list waiting_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
