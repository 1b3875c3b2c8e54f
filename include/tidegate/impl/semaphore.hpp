// SPDX-License-Identifier: BSL-1.0
// The state of a semaphore, and how permits move.
#pragma once

#include <tidegate/semaphore.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct acquire_permits {};

/// A waiter that wants a number of permits.
template <class Permit>
class permit_waiter : public waiter_of<void(error_code, Permit)> {
public:
    std::size_t const count;

protected:
    permit_waiter(waiter::finish_fn how, std::size_t n)
        : waiter_of<void(error_code, Permit)>(how), count(n) {}
};

/// The word holds the number of available permits, and one bit that sends everybody to the lock:
///
///     word = available * 2 + locked_path
///
/// The bit is set while somebody waits, so that nobody barges, and for ever once the semaphore is
/// closed. While it is clear, taking and giving back is one exchange of the word; while it is set,
/// the word changes under the lock only. A waiter sets the bit and then looks at the permits
/// again; a release either came before, and is seen then, or finds the bit and takes the lock: no
/// wake-up is lost. Acquire and release on the exchange order what the holders of a permit do.
///
/// Lifetime: permits point here without counting, since that would cost two more atomic operations
/// each. When the semaphore object goes while permits are out, the state keeps itself alive until
/// the last one is back; by then the semaphore is closed, and every return goes through the lock.
template <class Clock, class Executor, class Mutex>
class semaphore_state final : public waiting_room<Clock, Executor, Mutex> {
    using room = waiting_room<Clock, Executor, Mutex>;

public:
    using permit = basic_permit<Clock, Executor, Mutex>;
    using time_point = typename room::time_point;

    static std::shared_ptr<semaphore_state> make(Executor const& executor, std::size_t capacity) {
        check_option<std::size_t>("semaphore capacity", capacity, 1, std::size_t{1} << 62);
        auto state = std::make_shared<semaphore_state>(executor, capacity);
        state->enroll();
        return state;
    }

    semaphore_state(Executor const& executor, std::size_t capacity)
        : room(executor), capacity_(capacity), word_(std::uint64_t{capacity} << 1) {}

    permit try_acquire(std::size_t n) noexcept {
        if (n == 0 || n > capacity_) return {};
        std::uint64_t seen = word_.load();
        while (!(seen & locked_path) && (seen >> 1) >= n) {
            if (word_.exchange(seen, seen - units(n))) return permit(this, n);
        }
        return {};
    }

    void release(std::size_t n) noexcept {
        std::uint64_t seen = word_.load();
        while (!(seen & locked_path)) {
            if (word_.exchange(seen, seen + units(n))) return;
        }
        release_under_lock(n);
    }

    template <class Handler>
    void start(acquire_permits, Handler&& handler, std::size_t n, time_point deadline) {
        using op_type = wait_op<permit_waiter<permit>, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), n);
        auto* const cancel = this->connect(*op);
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) {
                ec = error::closed;
            } else if (n == 0 || n > capacity_) {
                ec = error::invalid_count;
            } else if (!take_under_lock(n)) {
                this->park(waiting_, op, deadline, cancel);
                return;
            }
        }
        if (ec) op.release()->abort(ec);
        else op.release()->complete({}, permit(this, n));
    }

    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t available() const noexcept { return word_.load() >> 1; }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        return waiting_.size();
    }

    /// The semaphore object goes.
    void abandon() noexcept {
        this->close();
        std::lock_guard lock(this->mutex_);
        if (available() < capacity_) kept_by_permits_ = this->shared_from_this();
    }

private:
    using waiter_type = permit_waiter<permit>;

    static constexpr std::uint64_t locked_path = 1;
    static constexpr std::uint64_t units(std::size_t n) noexcept { return std::uint64_t{n} << 1; }
    // The most waiters that one hold of the lock wakes.
    static constexpr std::size_t wake_group = 64;

    // Takes `n` permits if nobody is ahead. Otherwise the bit is set, for the caller to wait.
    bool take_under_lock(std::size_t n) noexcept {
        if (!waiting_.empty()) return false;
        std::uint64_t seen = word_.load();
        for (;;) {
            bool const enough = (seen >> 1) >= n;
            if (word_.exchange(seen, enough ? seen - units(n) : seen | locked_path)) return enough;
        }
    }

    void release_under_lock(std::size_t n) noexcept {
        std::shared_ptr<room> kept; // dropped last, without the lock
        std::unique_lock lock(this->mutex_);
        add_under_lock(n);
        if (this->closed_) {
            if (available() == capacity_) kept = std::move(kept_by_permits_);
            lock.unlock();
            return;
        }
        for (;;) {
            waiter_list ready;
            bool const more = grant(ready, wake_group);
            if (more && !kept) kept = this->shared_from_this();
            lock.unlock();
            // Until the last of them is completed their permits are out, which keeps the state.
            complete(ready);
            if (!more) return;
            lock.lock();
        }
    }

    // The bit may have gone since the caller saw it, so another thread may change the word too.
    void add_under_lock(std::size_t n) noexcept {
        std::uint64_t seen = word_.load();
        if (seen & locked_path) word_.store_alone(seen + units(n));
        else word_.update([&](std::uint64_t now) { return now + units(n); });
    }

    // Moves up to `limit` waiters from the front while their permits are there. True if there may
    // be more.
    bool grant(waiter_list& ready, std::size_t limit) noexcept {
        if (waiting_.empty()) return false;
        std::uint64_t word = word_.load(); // somebody waits: the bit is set, nobody else changes it
        bool more = false;
        while (auto* const w = static_cast<waiter_type*>(waiting_.front())) {
            if ((word >> 1) < w->count) break;
            more = ready.size() == limit;
            if (more) break;
            word -= units(w->count);
            this->unpark(*w);
            ready.push_back(*w);
        }
        word_.store_alone(waiting_.empty() ? word & ~locked_path : word);
        return more;
    }

    void complete(waiter_list& ready) noexcept override {
        while (auto* const w = static_cast<waiter_type*>(ready.pop_front())) {
            std::size_t const n = w->count;
            w->complete({}, permit(this, n));
        }
    }

    void take_all(waiter_list& all) noexcept override {
        all.append(waiting_);
        if (!this->closed_) word_.update([](std::uint64_t seen) { return seen & ~locked_path; });
    }

    void on_close() noexcept override {
        word_.update([](std::uint64_t seen) { return seen | locked_path; });
    }

    // Behind a large request that left there may be smaller ones that fit; and the bit must go
    // with the last waiter.
    void after_departure(waiter_list& ready) noexcept override {
        if (waiting_.empty()) word_.store_alone(word_.load() & ~locked_path);
        else grant(ready, waiting_.size());
    }

    std::size_t const capacity_;
    fast_word<Mutex> word_;
    waiter_list waiting_;
    std::shared_ptr<room> kept_by_permits_;
};

} // namespace detail

template <class Clock, class Executor, class Mutex>
void basic_permit<Clock, Executor, Mutex>::release() noexcept {
    if (state* const s = std::exchange(state_, nullptr)) s->release(count_);
}

TIDEGATE_END_NAMESPACE
