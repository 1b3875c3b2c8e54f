// SPDX-License-Identifier: BSL-1.0
// One timer for all the timeouts and pauses of an execution context.
#pragma once

#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/load_graph.hpp>
#include <tidegate/detail/serial_executor.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/prefer.hpp>

#include <memory>
#include <mutex>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct await_time {};

class alarm_waiter : public waiter_of<void(error_code)> {
protected:
    using waiter_of<void(error_code)>::waiter_of;
};

/// Where those wait who want nothing but a time to come.
template <class Clock>
class alarm_room final : public waiting_room<Clock, asio::any_io_executor, std::mutex> {
    using room = waiting_room<Clock, asio::any_io_executor, std::mutex>;

public:
    using time_point = typename room::time_point;

    explicit alarm_room(asio::any_io_executor const& executor)
        : room(executor), context_runs_in_turn_(detail::runs_in_turn(executor)) {}

    /// The room of the context that `executor` belongs to.
    static std::shared_ptr<alarm_room> of(asio::any_io_executor const& executor) {
        auto& context = asio::query(executor, asio::execution::context);
        return asio::use_service<service>(context).room_for(executor);
    }

    /// As `detail::runs_in_turn`, for executors of this context: remembers what does not change.
    bool runs_in_turn(asio::any_io_executor const& executor) const noexcept {
        if (executor.target<asio::io_context::executor_type>()) return context_runs_in_turn_;
        if (auto const* const load = executor.target<load_executor>())
            return runs_in_turn(load->inner());
        return is_strand(executor);
    }

    /// Completes with `error::deadline_exceeded` when the time has come.
    template <class Token>
    auto async_wait_until(time_point at, Token&& token) {
        return asio::async_initiate<Token, void(error_code)>(
            initiation<alarm_room, await_time>(*this), token, at);
    }
    template <class Handler>
    void start(await_time, Handler&& handler, time_point at) {
        wait(std::forward<Handler>(handler), at);
    }

    /// As `async_wait_until`. The id takes the alarm back, until it rings.
    template <class Handler>
    waiter_id wait(Handler&& handler, time_point at) {
        using op_type = wait_op<alarm_waiter, std::decay_t<Handler>, asio::any_io_executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        {
            std::lock_guard lock(this->mutex_);
            if (!this->closed_) return this->park(waiting_, op, at, cancel);
        }
        op.release()->abort(error::closed);
        return {};
    }

    /// Takes an alarm back: its handler is destroyed uncalled. False if it rang already.
    bool take_back(waiter_id id) noexcept {
        waiter* w = nullptr;
        bool retire = false;
        {
            std::lock_guard lock(this->mutex_);
            w = this->remove(id);
            if (!w) return false;
            retire = this->timer_is_idle() && !std::exchange(retiring_, true);
        }
        w->destroy();
        if (retire) retire_soon();
        return true;
    }

private:
    // The last alarm is gone. Most often another one is set in the same turn of the event loop,
    // and can have the timer as it is; so it is looked at in the next.
    void retire_soon() {
        auto self = std::static_pointer_cast<alarm_room>(this->shared_from_this());
        posting_work<asio::any_io_executor>(this->executor())
            .post(
                [self = std::move(self)] {
                    {
                        std::lock_guard lock(self->mutex_);
                        self->retiring_ = false;
                    }
                    static_cast<after_handler&>(*self).handler_finished();
                },
                asio::recycling_allocator<void>());
    }

    class service final : public asio::execution_context::service {
    public:
        inline static asio::execution_context::id id;

        explicit service(asio::execution_context& context)
            : asio::execution_context::service(context) {}

        std::shared_ptr<alarm_room> room_for(asio::any_io_executor const& executor) {
            std::lock_guard lock(mutex_);
            if (!room_) {
                room_ = std::make_shared<alarm_room>(context_executor(executor));
                room_->enroll();
            }
            return room_;
        }

    private:
        void shutdown() noexcept override {
            std::lock_guard lock(mutex_);
            room_.reset();
        }

        std::mutex mutex_;
        std::shared_ptr<alarm_room> room_;
    };

    // The timer must not wait for somebody's strand, nor keep a load or somebody's work.
    static asio::any_io_executor context_executor(asio::any_io_executor executor) {
        for (;;) {
            auto inner = inside_strand(executor);
            if (auto const* const load = executor.target<load_executor>()) inner = load->inner();
            if (!inner) return asio::prefer(executor, asio::execution::outstanding_work.untracked);
            executor = std::move(inner);
        }
    }

    void take_all(waiter_list& all) noexcept override { all.append(waiting_); }

    bool const context_runs_in_turn_;
    waiter_list waiting_;
    bool retiring_ = false;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
