// SPDX-License-Identifier: BSL-1.0
// The state of a channel, and how values move.
#pragma once

#include <tidegate/channel.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct send_value {};
struct receive_value {};

/// A sender that waits for room, with what it sends.
template <class T>
class sending_waiter : public waiter_of<void(error_code)> {
public:
    T value;

protected:
    sending_waiter(waiter::finish_fn how, T&& v)
        : waiter_of<void(error_code)>(how), value(std::move(v)) {}
};

template <class T>
class receiving_waiter : public waiter_of<void(error_code, T)> {
protected:
    using waiter_of<void(error_code, T)>::waiter_of;
};

/// Senders wait only while the buffer is full, receivers only while it is empty, so never both;
/// and whoever makes room or brings a value serves the first who waits before letting go of the
/// lock. That is all there is to order, hand-over and no lost wake-ups.
template <class T, class Clock, class Executor, class Mutex>
class channel_state final : public waiting_room<Clock, Executor, Mutex> {
    static_assert(std::is_default_constructible_v<T>, "a channel's values need a default state");
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "a channel's values must move without throwing");

    using room = waiting_room<Clock, Executor, Mutex>;
    using sender = sending_waiter<T>;
    using receiver = receiving_waiter<T>;

public:
    using time_point = typename room::time_point;

    static std::shared_ptr<channel_state> make(Executor const& executor, std::size_t capacity) {
        check_option<std::size_t>("channel capacity", capacity, 0, std::size_t{1} << 32);
        auto state = std::make_shared<channel_state>(executor, capacity);
        state->enroll();
        return state;
    }

    channel_state(Executor const& executor, std::size_t capacity)
        : room(executor), buffer_(capacity) {}

    bool try_send(T&& value) {
        std::unique_lock lock(this->mutex_);
        if (this->closed_) return false;
        if (receiver* const r = pop_receiver()) {
            lock.unlock();
            r->complete({}, std::move(value));
            return true;
        }
        if (buffer_.full()) return false;
        buffer_.push(std::move(value));
        return true;
    }

    std::optional<T> try_receive() {
        std::unique_lock lock(this->mutex_);
        sender* served = nullptr;
        std::optional<T> value = take_under_lock(served);
        lock.unlock();
        if (served) served->complete({});
        return value;
    }

    /// `first` and up to `max - 1` more that are there.
    std::vector<T> take(T first, std::size_t max) {
        std::vector<T> values;
        values.push_back(std::move(first));
        while (values.size() < max) {
            auto next = try_receive();
            if (!next) break;
            values.push_back(std::move(*next));
        }
        return values;
    }

    template <class Handler>
    void start(send_value, Handler&& handler, T value, time_point deadline) {
        using op_type = wait_op<sender, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), std::move(value));
        auto* const cancel = this->connect(*op);
        receiver* served = nullptr;
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) {
                ec = error::closed;
            } else if ((served = pop_receiver()) == nullptr) {
                if (buffer_.full()) {
                    this->park(senders_, op, deadline, cancel);
                    return;
                }
                buffer_.push(std::move(op->value));
            }
        }
        if (served) served->complete({}, std::move(op->value));
        if (ec) op.release()->abort(ec);
        else op.release()->complete({});
    }

    template <class Handler>
    void start(receive_value, Handler&& handler, time_point deadline) {
        using op_type = wait_op<receiver, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        sender* served = nullptr;
        std::optional<T> value;
        {
            std::lock_guard lock(this->mutex_);
            value = take_under_lock(served);
            if (!value && !this->closed_) {
                this->park(receivers_, op, deadline, cancel);
                return;
            }
        }
        if (served) served->complete({});
        if (value) op.release()->complete({}, std::move(*value));
        else op.release()->abort(error::closed);
    }

    std::size_t capacity() const noexcept { return buffer_.capacity(); }
    std::size_t size() const noexcept {
        return locked([this] { return buffer_.size(); });
    }
    std::size_t waiting_senders() const noexcept {
        return locked([this] { return senders_.size(); });
    }
    std::size_t waiting_receivers() const noexcept {
        return locked([this] { return receivers_.size(); });
    }

private:
    // The next value, if any. If that lets a sender go on, `served` is for the caller to complete.
    std::optional<T> take_under_lock(sender*& served) noexcept {
        std::optional<T> value;
        if (!buffer_.empty()) value.emplace(buffer_.pop());
        served = pop_sender();
        if (!served) return value;
        if (value) buffer_.push(std::move(served->value));
        else value.emplace(std::move(served->value)); // capacity 0
        return value;
    }

    sender* pop_sender() noexcept { return static_cast<sender*>(pop(senders_)); }
    receiver* pop_receiver() noexcept { return static_cast<receiver*>(pop(receivers_)); }
    waiter* pop(waiter_list& list) noexcept {
        waiter* const first = list.front();
        if (first) this->unpark(*first);
        return first;
    }

    template <class Read>
    std::size_t locked(Read read) const noexcept {
        std::lock_guard lock(this->mutex_);
        return read();
    }

    void take_all(waiter_list& all) noexcept override {
        all.append(senders_);
        all.append(receivers_);
    }

    ring<T> buffer_;
    waiter_list senders_;
    waiter_list receivers_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
