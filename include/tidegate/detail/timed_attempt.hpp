// SPDX-License-Identifier: BSL-1.0
// Cancels an operation when its time is up, and tells that from its caller's cancellation.
#pragma once

#include <tidegate/detail/alarm_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/recycling_allocator.hpp>

#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Lives while one operation runs. Both ways of cancelling it meet in one signal, which is emitted
/// where the operation's handler runs, on an executor that runs one thing at a time: the alarm is
/// posted there, and the caller's slot is emitted there by Asio's rule. What is on its way when the
/// operation ends finds it over.
///
/// The caller's slot is touched only while the caller's coroutine runs. When that is destroyed the
/// slot may have gone before it, or stay when the context has gone: nothing of the operation's is
/// left in it then.
template <class Clock>
class timed_attempt {
public:
    timed_attempt(std::shared_ptr<alarm_room<Clock>> room, asio::any_io_executor const& executor,
                  typename Clock::time_point deadline, asio::cancellation_slot callers)
        : shared_(std::allocate_shared<shared>(asio::recycling_allocator<shared>())),
          callers_(callers),
          room_(std::move(room)) {
        if (callers_.is_connected()) callers_.template emplace<forwarder>(shared_);
        if (deadline != alarm_room<Clock>::no_deadline)
            alarm_ = room_->wait(asio::bind_executor(executor, ringer{shared_}), deadline);
    }
    timed_attempt(timed_attempt const&) = delete;
    timed_attempt& operator=(timed_attempt const&) = delete;

    ~timed_attempt() {
        if (!std::exchange(shared_->over, true)) shared_->signal.slot().clear();
        if (alarm_) room_->take_back(alarm_);
    }

    /// The operation has ended, and whoever waited for it goes on.
    void end() noexcept {
        shared_->over = true;
        callers_.clear();
    }

    asio::cancellation_slot slot() const noexcept { return shared_->signal.slot(); }

    /// The time was up before the operation ended or its caller cancelled it.
    bool expired() const noexcept { return shared_->expired; }

private:
    struct shared {
        asio::cancellation_signal signal;
        bool expired = false;
        bool cancelled = false;
        bool over = false;
    };

    struct ringer {
        std::shared_ptr<shared> to;

        void operator()(error_code ec) const {
            if (to->over || ec != error::deadline_exceeded) return;
            to->expired = !to->cancelled;
            to->signal.emit(asio::cancellation_type::all);
        }
    };

    struct forwarder {
        std::shared_ptr<shared> to;

        void operator()(asio::cancellation_type type) const {
            auto const kept = to; // the operation may end, and this with it
            if (kept->over) return;
            kept->cancelled = true;
            kept->signal.emit(type);
        }
    };

    std::shared_ptr<shared> shared_;
    asio::cancellation_slot callers_;
    std::shared_ptr<alarm_room<Clock>> room_;
    waiter_id alarm_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
