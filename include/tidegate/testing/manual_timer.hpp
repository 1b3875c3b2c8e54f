// SPDX-License-Identifier: BSL-1.0
// The timer that waits on a manual clock.
#pragma once

#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/waiting_room.hpp>
#include <tidegate/testing/manual_clock.hpp>
#include <tidegate/timer_for.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <optional>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct wait_for_alarm {};

/// A waiting room whose own deadlines are not used: the manual clock rings instead.
template <class Clock, class Executor>
class manual_timer_state final
    : public waiting_room<std::chrono::steady_clock, Executor, std::mutex>,
      public Clock::alarm {
    using room = waiting_room<std::chrono::steady_clock, Executor, std::mutex>;

public:
    using time_point = typename Clock::time_point;

    explicit manual_timer_state(Executor const& executor) : room(executor) {}

    static std::shared_ptr<manual_timer_state> make(Executor const& executor) {
        auto state = std::make_shared<manual_timer_state>(executor);
        state->enroll();
        return state;
    }

    void expires_at(time_point expiry) {
        this->cancel();
        std::lock_guard lock(this->mutex_);
        expiry_ = expiry;
    }

    template <class Handler>
    void start(wait_for_alarm, Handler&& handler) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        {
            std::lock_guard lock(this->mutex_);
            if (!this->closed_ && Clock::now() < expiry_) {
                this->park(waiting_, op, room::no_deadline, cancel);
                if (!alarm_) alarm_ = Clock::set_alarm(expiry_, weak_alarm());
                return;
            }
        }
        op.release()->complete({});
    }

private:
    class waiter_type : public waiter_of<void(error_code)> {
    protected:
        using waiter_of<void(error_code)>::waiter_of;
    };

    std::weak_ptr<typename Clock::alarm> weak_alarm() {
        auto self = std::static_pointer_cast<manual_timer_state>(this->shared_from_this());
        return std::shared_ptr<typename Clock::alarm>(std::move(self));
    }

    void ring() noexcept override {
        waiter_list due;
        {
            std::lock_guard lock(this->mutex_);
            alarm_.reset();
            while (waiter* const w = waiting_.front()) {
                this->unpark(*w);
                due.push_back(*w);
            }
        }
        while (waiter* const w = due.pop_front()) static_cast<waiter_type*>(w)->complete({});
    }

    void take_all(waiter_list& all) noexcept override {
        all.append(waiting_);
        if (alarm_) Clock::unset_alarm(*alarm_);
        alarm_.reset();
    }

    void after_departure(waiter_list&) noexcept override {
        if (waiting_.empty() && alarm_) {
            Clock::unset_alarm(*alarm_);
            alarm_.reset();
        }
    }

    time_point expiry_{};
    waiter_list waiting_;
    std::optional<typename Clock::alarm_id> alarm_; // set while somebody waits
};

} // namespace detail

namespace testing {

/// As `boost::asio::basic_waitable_timer`, on a manual clock. Completion signature:
/// `void(error_code)`; `operation_aborted` when cancelled or set anew, `error::closed` when its
/// context goes. Thread-safe.
template <class Clock = manual_clock, class Executor = boost::asio::any_io_executor>
class basic_manual_timer {
    using state = detail::manual_timer_state<Clock, Executor>;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using time_point = typename Clock::time_point;

    explicit basic_manual_timer(executor_type executor) : state_(state::make(executor)) {}
    basic_manual_timer(basic_manual_timer&&) noexcept = default;
    ~basic_manual_timer() {
        if (state_) state_->cancel();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    void expires_at(time_point expiry) { state_->expires_at(expiry); }
    void expires_after(typename Clock::duration d) { expires_at(Clock::now() + d); }
    void cancel() noexcept { state_->cancel(); }

    template <boost::asio::completion_token_for<void(error_code)> Token =
                  detail::default_token_t<Executor>>
    auto async_wait(Token&& token = Token()) {
        return boost::asio::async_initiate<Token, void(error_code)>(
            detail::initiation<state, detail::wait_for_alarm>(*state_), token);
    }

private:
    std::shared_ptr<state> state_;
};

using manual_timer = basic_manual_timer<>;

} // namespace testing

template <class Tag, class Executor>
struct timer_for<testing::basic_manual_clock<Tag>, Executor> {
    using type = testing::basic_manual_timer<testing::basic_manual_clock<Tag>, Executor>;
};

TIDEGATE_END_NAMESPACE
