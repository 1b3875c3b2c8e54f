// SPDX-License-Identifier: BSL-1.0
// The state of a channel, and how values move.
#pragma once

#include <tidegate/channel.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct send_value {};
struct reserve_room {};
struct receive_value {};

/// A parked operation of a channel.
class channel_waiter : public waiter {
public:
    enum class role : char { sends, reserves, receives };

    role const what;

protected:
    channel_waiter(waiter::finish_fn how, role r) noexcept : waiter(how), what(r) {}
};

/// A sender that waits for room, with what it sends.
template <class T>
class sending_waiter : public waiter_of<void(error_code), channel_waiter> {
public:
    T value;

protected:
    sending_waiter(waiter::finish_fn how, T&& v)
        : waiter_of<void(error_code), channel_waiter>(how, channel_waiter::role::sends),
          value(std::move(v)) {}
};

template <class Reservation>
class reserving_waiter : public waiter_of<void(error_code, Reservation), channel_waiter> {
protected:
    explicit reserving_waiter(waiter::finish_fn how)
        : waiter_of<void(error_code, Reservation), channel_waiter>(how,
                                                                   channel_waiter::role::reserves) {
    }
};

/// A receiver; with a value, when it got one from a sender that waited.
template <class T>
class receiving_waiter : public waiter_of<void(error_code, T), channel_waiter> {
public:
    std::optional<T> value;

protected:
    explicit receiving_waiter(waiter::finish_fn how)
        : waiter_of<void(error_code, T), channel_waiter>(how, channel_waiter::role::receives) {}
};

/// Senders wait only while there is no room, receivers only while the buffer is empty; and whoever
/// makes room or brings a value serves the first who waits before letting go of the lock. That is
/// all there is to order, hand-over and no lost wake-ups. Both wait at once only while all room is
/// reserved.
template <class T, class Clock, class Executor, class Mutex>
class channel_state final : public waiting_room<Clock, Executor, Mutex> {
    static_assert(std::is_default_constructible_v<T>, "a channel's values need a default state");
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "a channel's values must move without throwing");

    using room = waiting_room<Clock, Executor, Mutex>;
    using reservation = basic_reservation<T, Clock, Executor, Mutex>;
    using sender = sending_waiter<T>;
    using reserver = reserving_waiter<reservation>;
    using receiver = receiving_waiter<T>;
    using role = channel_waiter::role;

public:
    using time_point = typename room::time_point;

    static std::shared_ptr<channel_state> make(Executor const& executor,
                                               channel_options<T>&& settings) {
        if (settings.mode() == channel_mode::drop_oldest) {
            check_option<std::size_t>("channel capacity, with drop_oldest,", settings.capacity(), 1,
                                      std::size_t{1} << 32);
        }
        auto state = std::make_shared<channel_state>(executor, std::move(settings));
        state->enroll();
        return state;
    }

    channel_state(Executor const& executor, channel_options<T>&& settings)
        : room(executor), settings_(std::move(settings)), buffer_(settings_.capacity()) {}

    /// With `or_waits` finding no room is no refusal.
    bool try_send(T&& value, bool or_waits = false) {
        std::optional<T> dropped;
        receiver* r = nullptr;
        bool open = false;
        bool placed = false;
        {
            std::lock_guard lock(this->mutex_);
            open = !this->closed_;
            placed = open && place(value, r, dropped);
        }
        if (!placed) {
            error_code const why = open ? error_code(asio::error::would_block) : error::closed;
            if (!or_waits) this->trace_.emit(trace_event::rejected, 1, why);
            return false;
        }
        if (dropped) tell_dropped();
        if (r) r->complete({}, std::move(value));
        if (dropped) report(std::move(*dropped));
        return true;
    }

    std::optional<T> try_receive() {
        waiter_list ready;
        std::unique_lock lock(this->mutex_);
        std::optional<T> value = take_one(ready);
        lock.unlock();
        complete(ready);
        return value;
    }

    /// Adds to `values`, up to `max` of them, those that are there. Throws only if it has none.
    std::vector<T> take(std::vector<T> values, std::size_t max) {
        waiter_list ready;
        std::unique_lock lock(this->mutex_);
        std::size_t const there = buffer_.size() + senders_.size();
        lock.unlock();
        // What came in between may be left behind: allocating is not for the inside of a lock.
        try {
            values.reserve(std::min(max, values.size() + there));
        } catch (std::bad_alloc const&) {
            if (values.empty()) throw;
        }
        lock.lock();
        while (values.size() < std::min(max, values.capacity())) {
            auto next = take_one(ready);
            if (!next) break;
            values.push_back(std::move(*next));
        }
        lock.unlock();
        complete(ready);
        return values;
    }

    std::optional<reservation> try_reserve() {
        std::lock_guard lock(this->mutex_);
        if (this->closed_ || !senders_.empty() || !has_room()) return std::nullopt;
        ++reserved_;
        return reservation(self());
    }

    bool send_reserved(T&& value) noexcept {
        waiter_list ready;
        receiver* r = nullptr;
        bool open = false;
        {
            std::lock_guard lock(this->mutex_);
            --reserved_;
            open = !this->closed_;
            if (open) {
                r = pop_receiver();
                if (!r) buffer_.push(std::move(value));
                serve_senders(ready);
            }
        }
        if (r) r->complete({}, std::move(value));
        complete(ready);
        return open;
    }

    void give_back_room() noexcept {
        waiter_list ready;
        {
            std::lock_guard lock(this->mutex_);
            --reserved_;
            serve_senders(ready);
        }
        complete(ready);
    }

    template <class Handler>
    void start(send_value, Handler&& handler, T value, time_point deadline) {
        using op_type = wait_op<sender, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), std::move(value));
        auto* const cancel = this->connect(*op);
        std::optional<T> dropped;
        receiver* r = nullptr;
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) {
                ec = error::closed;
            } else if (!place(op->value, r, dropped)) {
                this->park(senders_, op, deadline, cancel);
                return;
            }
        }
        if (dropped) tell_dropped();
        if (ec) this->trace_.emit(trace_event::rejected, 1, ec);
        if (r) r->complete({}, std::move(op->value));
        if (dropped) ec = code_of_report(std::move(*dropped));
        if (ec) op.release()->abort(ec);
        else op.release()->complete({});
    }

    template <class Handler>
    void start(reserve_room, Handler&& handler, time_point deadline) {
        using op_type = wait_op<reserver, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) {
                ec = error::closed;
            } else if (senders_.empty() && has_room()) {
                ++reserved_;
            } else {
                this->park(senders_, op, deadline, cancel);
                return;
            }
        }
        if (ec) {
            this->trace_.emit(trace_event::rejected, 1, ec);
            op.release()->abort(ec);
        } else {
            op.release()->complete({}, reservation(self()));
        }
    }

    template <class Handler>
    void start(receive_value, Handler&& handler, time_point deadline) {
        using op_type = wait_op<receiver, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        waiter_list ready;
        std::optional<T> value;
        {
            std::lock_guard lock(this->mutex_);
            value = take_one(ready);
            if (!value && !this->closed_) {
                this->park(receivers_, op, deadline, cancel);
                return;
            }
        }
        complete(ready);
        if (value) op.release()->complete({}, std::move(*value));
        else op.release()->abort(error::closed);
    }

    std::size_t capacity() const noexcept { return buffer_.capacity(); }
    std::size_t size() const noexcept {
        return locked([this] { return buffer_.size(); });
    }
    std::size_t reserved() const noexcept {
        return locked([this] { return reserved_; });
    }
    std::uint64_t dropped() const noexcept {
        return locked([this] { return dropped_; });
    }
    std::size_t waiting_senders() const noexcept {
        return locked([this] { return senders_.size(); });
    }
    std::size_t waiting_receivers() const noexcept {
        return locked([this] { return receivers_.size(); });
    }

private:
    std::shared_ptr<channel_state> self() noexcept {
        return std::static_pointer_cast<channel_state>(this->shared_from_this());
    }

    bool has_room() const noexcept { return buffer_.size() + reserved_ < buffer_.capacity(); }

    // Puts `value` where it belongs: false if it has to wait. If `r` is set, `value` is still to be
    // given to it, without the lock. Who reserves waits for room, of which a receiver needs none:
    // it has priority only where a value can wait behind it.
    bool place(T& value, receiver*& r, std::optional<T>& dropped) noexcept {
        if (senders_.empty() || settings_.mode() != channel_mode::wait) {
            r = pop_receiver();
            if (r) return true;
            if (has_room()) {
                buffer_.push(std::move(value));
                return true;
            }
        }
        if (settings_.mode() == channel_mode::wait) return false;
        ++dropped_;
        if (settings_.mode() == channel_mode::drop_newest || buffer_.empty()) {
            dropped.emplace(std::move(value));
        } else {
            dropped.emplace(buffer_.pop());
            buffer_.push(std::move(value));
        }
        return true;
    }

    // The next value, if any. Operations that can go on because of that are moved to `ready`.
    std::optional<T> take_one(waiter_list& ready) noexcept {
        std::optional<T> value;
        if (!buffer_.empty()) {
            value.emplace(buffer_.pop());
            serve_senders(ready);
        } else if (auto* const first = static_cast<channel_waiter*>(senders_.front());
                   first && first->what == role::sends) { // there is no room at all
            value.emplace(std::move(static_cast<sender*>(first)->value));
            this->unpark(*first);
            ready.push_back(*first);
            serve_senders(ready);
        }
        return value;
    }

    // Lets senders go on while there is room for them, or a receiver.
    void serve_senders(waiter_list& ready) noexcept {
        while (auto* const first = static_cast<channel_waiter*>(senders_.front())) {
            bool const sends = first->what == role::sends;
            if (sends && !receivers_.empty()) {
                receiver* const r = pop_receiver();
                r->value.emplace(std::move(static_cast<sender*>(first)->value));
                ready.push_back(*r);
            } else if (!has_room()) {
                return;
            } else if (sends) {
                buffer_.push(std::move(static_cast<sender*>(first)->value));
            } else {
                ++reserved_;
            }
            this->unpark(*first);
            ready.push_back(*first);
        }
    }

    receiver* pop_receiver() noexcept {
        waiter* const first = receivers_.front();
        if (first) this->unpark(*first);
        return static_cast<receiver*>(first);
    }

    void after_departure(waiter_list& ready) noexcept override { serve_senders(ready); }

    void complete(waiter_list& ready) noexcept override {
        while (auto* const w = static_cast<channel_waiter*>(ready.pop_front())) {
            switch (w->what) {
            case role::sends: static_cast<sender*>(w)->complete({}); break;
            case role::reserves:
                static_cast<reserver*>(w)->complete({}, reservation(self()));
                break;
            case role::receives: {
                auto* const r = static_cast<receiver*>(w);
                r->complete({}, std::move(*r->value));
                break;
            }
            }
        }
    }

    void tell_dropped() noexcept { this->trace_.emit(trace_event::dropped, 1, error::dropped); }

    void report(T value) {
        if (settings_.on_drop()) settings_.on_drop()(std::move(value));
    }

    // An exception must not come out of an initiating function: a coroutine would not survive it.
    error_code code_of_report(T value) noexcept {
        try {
            report(std::move(value));
            return {};
        } catch (boost::system::system_error const& e) {
            return e.code();
        } catch (...) {
            return error::exception_thrown;
        }
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

    channel_options<T> const settings_;
    ring<T> buffer_;
    std::size_t reserved_ = 0;
    std::uint64_t dropped_ = 0;
    waiter_list senders_; // and those who reserve
    waiter_list receivers_;
};

/// For what is built on channels.
class channel_access {
public:
    template <class T, class Clock, class Executor, class Mutex>
    static auto const& state_of(basic_channel<T, Clock, Executor, Mutex>& channel) noexcept {
        return channel.state_;
    }
};

} // namespace detail
TIDEGATE_END_NAMESPACE
