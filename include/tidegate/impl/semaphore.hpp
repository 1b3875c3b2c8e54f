// SPDX-License-Identifier: BSL-1.0
// The state of a semaphore, and how permits move.
#pragma once

#include <boost/config.hpp>
#include <tidegate/semaphore.hpp>

#include <algorithm>
#include <atomic>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct acquire_permits {};

/// A waiter that wants a number of permits.
template <class Permit, class TimePoint>
class permit_waiter : public waiter_of<void(error_code, Permit)> {
public:
    std::size_t const count;
    TimePoint since{}; // when it began to wait, where that is measured

protected:
    permit_waiter(waiter::finish_fn how, std::size_t n)
        : waiter_of<void(error_code, Permit)>(how), count(n) {}
};

/// Waiters that were taken out under the lock, and fail when this goes, after it.
template <class State>
class failed_waiters : public waiter_list {
public:
    failed_waiters(State& state, error why) noexcept : state_(state), why_(why) {}
    ~failed_waiters() { finish(); }

    void finish() noexcept {
        if (empty()) return;
        state_.tell_refused(*this, why_);
        abort_all(why_);
    }

private:
    State& state_;
    error why_;
};

/// The time of one step: read when first asked for, if at all.
template <class Clock>
class time_of_step {
public:
    typename Clock::time_point operator()() noexcept {
        if (!read_) now_ = Clock::now();
        read_ = true;
        return now_;
    }

private:
    typename Clock::time_point now_{};
    bool read_ = false;
};

/// The word holds the number of available permits, and one bit that sends everybody to the lock:
///
///     word = available * 2 + locked_path
///
/// The bit is set while somebody waits, so that nobody barges; while permits are owed after
/// `resize`; and for ever once the semaphore is closed. While it is clear, taking and giving back
/// is one exchange of the word; while it is set, the word changes under the lock only. A waiter
/// sets the bit and then looks at the permits again; a release either came before, and is seen
/// then, or finds the bit and takes the lock: no wake-up is lost. Acquire and release on the
/// exchange order what the holders of a permit do.
///
/// Resizing: the capacity is not part of the word, and nothing on the fast path looks at it: more
/// than the capacity is never available. Lowering takes available permits away; what it does not
/// find it notes in `owed_`, under the lock, to be kept back from those that come back. Then
///
///     out = capacity + owed - available, and available is 0 while permits are owed.
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
    using duration = typename Clock::duration;
    using statistics_type = basic_semaphore_statistics<duration>;

    static std::shared_ptr<semaphore_state> make(Executor const& executor,
                                                 semaphore_options const& options) {
        auto state = std::make_shared<semaphore_state>(executor, options);
        state->enroll();
        return state;
    }

    semaphore_state(Executor const& executor, semaphore_options const& options)
        : room(executor),
          word_(std::uint64_t{options.capacity()} << 1),
          capacity_(options.capacity()),
          full_(options.max_waiters() == 0),
          max_waiters_(options.max_waiters()),
          max_wait_(to_clock(options.max_wait())),
          adaptive_(options.order() == queue_order::newest_first_under_overload),
          refuses_hopeless_(options.refuses_hopeless()),
          measures_waits_(options.measures_waits()),
          queue_delay_(to_clock(options.queue_delay_target()),
                       to_clock(options.queue_delay_interval())) {}

    permit try_acquire(std::size_t n) noexcept {
        // Looked at first: after the exchange the load would have to wait for it.
        if (this->trace_.is_heard()) [[unlikely]]
            return try_and_tell(n, true);
        return take(n);
    }

    /// For those who wait if there are none: it is no refusal.
    permit try_before_waiting(std::size_t n) noexcept {
        if (this->trace_.is_heard()) [[unlikely]]
            return try_and_tell(n, false);
        return take(n);
    }

    /// For an operation that would have to wait: true, and counted, if it may not.
    bool refuse_if_full(std::size_t n) noexcept {
        if (!full_.load(std::memory_order_relaxed) || n == 0 || n > capacity()) return false;
        refused_full_.fetch_add(1, std::memory_order_relaxed);
        this->trace_.emit(trace_event::rejected, n, error::queue_full);
        return true;
    }

    void tell_refused(waiter_list const& those, error why) noexcept {
        this->tell_all(those, trace_event::rejected, why);
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
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), n);
        auto* const cancel = this->connect(*op);
        waiter_list ready;
        failed_ones too_old(*this, error::overloaded);
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) {
                ec = error::closed;
            } else if (n == 0 || n > capacity()) {
                ec = error::invalid_count;
            } else {
                time_of_step<Clock> now;
                if (adaptive_) {
                    judge(now);
                    give_up(too_old, now);
                }
                ec = take_or_wait(op, deadline, cancel, now);
                // The order may just have turned round: another may be next now, and fit.
                if (adaptive_) grant(ready, now);
            }
        }
        too_old.finish();
        if (op) {
            this->trace_.emit(event_of(ec), n, ec);
            if (ec) op.release()->abort(ec);
            else op.release()->complete({}, permit(this, n));
        }
        if (!ready.empty()) complete(ready);
    }

    void resize(std::size_t capacity) {
        check_option<std::size_t>("semaphore capacity", capacity, 1, std::size_t{1} << 62);
        failed_ones too_large(*this, error::invalid_count);
        std::unique_lock lock(this->mutex_);
        std::size_t const before = this->capacity();
        capacity_.store(capacity, std::memory_order_relaxed);
        if (capacity >= before) {
            add_under_lock(capacity - before);
        } else {
            remove_under_lock(before - capacity);
            give_up_larger(too_large, capacity);
        }
        hand_out(lock);
    }

    std::size_t capacity() const noexcept { return capacity_.load(std::memory_order_relaxed); }
    std::size_t available() const noexcept { return word_.load() >> 1; }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        return waiting_.size();
    }

    bool is_overloaded() const noexcept {
        std::lock_guard lock(this->mutex_);
        return queue_delay_.overloaded();
    }

    statistics_type statistics() const noexcept {
        std::lock_guard lock(this->mutex_);
        statistics_type all = statistics_;
        all.refused_full = refused_full_.load(std::memory_order_relaxed);
        all.timed_out = this->timed_out_;
        all.cancelled = this->cancelled_;
        return all;
    }

    /// The semaphore object goes.
    void abandon() noexcept {
        this->close();
        std::lock_guard lock(this->mutex_);
        if (available() < capacity()) kept_by_permits_ = this->shared_from_this();
    }

private:
    using waiter_type = permit_waiter<permit, time_point>;
    using canceller = typename room::canceller;
    using failed_ones = failed_waiters<semaphore_state>;

    static constexpr std::uint64_t locked_path = 1;
    static constexpr std::uint64_t units(std::size_t n) noexcept { return std::uint64_t{n} << 1; }
    // The most waiters that one hold of the lock wakes.
    static constexpr std::size_t wake_group = 64;

    static duration to_clock(std::chrono::nanoseconds time) noexcept {
        if (time == std::chrono::nanoseconds::max()) return duration::max();
        return std::chrono::ceil<duration>(time);
    }

    static time_point later(time_point now, duration by) noexcept {
        return now > time_point::max() - by ? time_point::max() : now + by;
    }

    // Telling -----------------------------------------------------------------------------------

    static trace_event event_of(error_code const& ec) noexcept {
        if (!ec) return trace_event::acquired;
        return ec == error::deadline_exceeded ? trace_event::timed_out : trace_event::rejected;
    }

    BOOST_NOINLINE permit try_and_tell(std::size_t n, bool or_refused) noexcept {
        permit taken = take(n);
        if (taken) this->trace_.emit(trace_event::acquired, n);
        else if (or_refused) this->trace_.emit(trace_event::rejected, n, why_refused(n));
        return taken;
    }

    error_code why_refused(std::size_t n) const noexcept {
        if (n == 0 || n > capacity()) return error::invalid_count;
        if (this->is_closed()) return error::closed;
        return asio::error::would_block;
    }

    permit take(std::size_t n) noexcept {
        if (n == 0) return {};
        std::uint64_t seen = word_.load();
        while (!(seen & locked_path) && (seen >> 1) >= n) {
            if (word_.exchange(seen, seen - units(n))) return permit(this, n);
        }
        return {};
    }

    // Arriving ----------------------------------------------------------------------------------

    // Takes the permits that `op` wants, or parks it and leaves null, or returns why not.
    template <class Op>
    error_code take_or_wait(waiter_ptr<Op>& op, time_point deadline, canceller* cancel,
                            time_of_step<Clock>& now) {
        bool const may_wait = waiting_.size() < max_waiters_;
        if (take_under_lock(op->count, may_wait)) return {};
        if (!may_wait) return refused_as_full();
        if (max_wait_ != duration::max()) deadline = std::min(deadline, later(now(), max_wait_));
        // While the timer is set for an earlier time, it tells of this one soon enough.
        if (this->would_set_timer(deadline) && deadline <= now()) {
            settle();
            ++this->timed_out_;
            return error::deadline_exceeded;
        }
        if (refuses_hopeless_) {
            if (waiting_.empty()) pace_.begin(now());
            else if (is_hopeless(deadline, now)) return refused_as_full();
        }
        if (measures_waits_ || this->trace_.is_heard()) op->since = now();
        try {
            this->park(waiting_, op, deadline, cancel);
        } catch (...) {
            settle();
            throw;
        }
        statistics_.peak_waiting = std::max(statistics_.peak_waiting, waiting_.size());
        note_size();
        return {};
    }

    error_code refused_as_full() noexcept {
        refused_full_.fetch_add(1, std::memory_order_relaxed);
        return error::queue_full;
    }

    bool is_hopeless(time_point deadline, time_of_step<Clock>& now) const noexcept {
        return deadline != room::no_deadline &&
               pace_.takes_longer(waiting_.size() + 1, deadline - now());
    }

    // Takes `n` permits if nobody is ahead. Otherwise the bit is set if the caller is to wait.
    bool take_under_lock(std::size_t n, bool to_wait) noexcept {
        if (!waiting_.empty() && !queue_delay_.overloaded()) return false;
        std::uint64_t seen = word_.load();
        for (;;) {
            bool const enough = (seen >> 1) >= n;
            if (!enough && !to_wait) return false;
            if (word_.exchange(seen, enough ? seen - units(n) : seen | locked_path)) return enough;
        }
    }

    // Giving back -------------------------------------------------------------------------------

    // Not inline, so that the fast path is.
    BOOST_NOINLINE void release_under_lock(std::size_t n) noexcept {
        std::shared_ptr<room> kept; // dropped last, without the lock
        std::unique_lock lock(this->mutex_);
        add_under_lock(n);
        if (this->closed_) {
            if (available() == capacity()) kept = std::move(kept_by_permits_);
            lock.unlock();
            return;
        }
        hand_out(lock);
    }

    // Wakes all that fit, a group for each hold of the lock, and lets the lock go.
    void hand_out(std::unique_lock<Mutex>& lock) noexcept {
        std::shared_ptr<room> kept; // dropped last, without the lock
        failed_ones too_old(*this, error::overloaded);
        time_of_step<Clock> now;
        if (adaptive_) judge(now);
        for (;;) {
            waiter_list ready;
            bool const more = grant(ready, now);
            // Only now: without newer ones, an old one is better than a permit that lies idle.
            if (!more && adaptive_) give_up(too_old, now);
            if ((more || !too_old.empty()) && !kept) kept = this->shared_from_this();
            lock.unlock();
            // Until the last of them is completed their permits are out, which keeps the state.
            // With nobody to complete it may be gone already.
            if (!ready.empty()) wake(ready);
            if (!more) return;
            lock.lock();
        }
    }

    // The bit may have gone since the caller saw it, so another thread may change the word too.
    void add_under_lock(std::size_t n) noexcept {
        std::size_t const kept_back = std::min(n, owed_);
        owed_ -= kept_back;
        n -= kept_back;
        std::uint64_t const seen = word_.load();
        if (seen & locked_path) word_.store_alone(seen + units(n));
        else word_.update([&](std::uint64_t now) { return now + units(n); });
        if (kept_back != 0) settle();
    }

    void remove_under_lock(std::size_t n) noexcept {
        std::size_t found = 0;
        word_.update([&](std::uint64_t seen) {
            found = std::min(n, static_cast<std::size_t>(seen >> 1));
            return (seen - units(found)) | (found < n ? locked_path : 0);
        });
        owed_ += n - found;
    }

    // The line ----------------------------------------------------------------------------------

    waiter_type* oldest() const noexcept { return static_cast<waiter_type*>(waiting_.front()); }
    waiter_type* next() const noexcept {
        return static_cast<waiter_type*>(queue_delay_.overloaded() ? waiting_.back()
                                                                   : waiting_.front());
    }

    // Moves up to a group of waiters while they are next and their permits are there. True if there
    // may be more.
    bool grant(waiter_list& ready, time_of_step<Clock>& now) noexcept {
        if (waiting_.empty()) return false;
        std::uint64_t word = word_.load(); // somebody waits: the bit is set, nobody else changes it
        bool more = false;
        while (auto* const w = next()) {
            if ((word >> 1) < w->count) break;
            more = ready.size() == wake_group;
            if (more) break;
            word -= units(w->count);
            if (measures_waits_) record(now() - w->since);
            this->unpark(*w);
            ready.push_back(*w);
        }
        statistics_.granted_after_waiting += ready.size();
        if (refuses_hopeless_ && !ready.empty()) pace_.served(ready.size(), capacity(), now());
        word_.store_alone(needs_lock() ? word : word & ~locked_path);
        note_size();
        return more;
    }

    void record(duration wait) noexcept {
        statistics_.total_wait += wait;
        statistics_.longest_wait = std::max(statistics_.longest_wait, wait);
    }

    // Finds out whether the queue is overloaded.
    void judge(time_of_step<Clock>& now) noexcept {
        if (!waiting_.empty()) queue_delay_.sample(now(), now() - oldest()->since);
    }

    // Under overload, moves those that have waited for too long.
    void give_up(failed_ones& too_old, time_of_step<Clock>& now) noexcept {
        if (!queue_delay_.overloaded()) return;
        while (waiter_type* const w = oldest()) {
            if (now() - w->since <= 2 * queue_delay_.target()) break;
            this->unpark(*w);
            too_old.push_back(*w);
            ++statistics_.refused_overloaded;
        }
        settle();
    }

    void give_up_larger(failed_ones& too_large, std::size_t capacity) noexcept {
        for (std::size_t left = waiting_.size(); left != 0; --left) {
            waiter_type* const w = oldest();
            if (w->count > capacity) {
                this->unpark(*w);
                too_large.push_back(*w);
            } else {
                waiting_.erase(*w);
                waiting_.push_back(*w);
            }
        }
        settle();
    }

    // Clears the bit if nothing needs it any more.
    void settle() noexcept {
        note_size();
        std::uint64_t const word = word_.load();
        if ((word & locked_path) && !needs_lock()) word_.store_alone(word & ~locked_path);
    }

    void wake(waiter_list& ready) noexcept {
        this->tell_all(ready, trace_event::acquired);
        while (auto* const w = static_cast<waiter_type*>(ready.pop_front())) {
            std::size_t const n = w->count;
            w->complete({}, permit(this, n));
        }
    }

    bool needs_lock() const noexcept { return !waiting_.empty() || owed_ != 0 || this->closed_; }

    void note_size() noexcept {
        if (max_waiters_ == std::numeric_limits<std::size_t>::max()) return;
        full_.store(!this->closed_ && waiting_.size() >= max_waiters_, std::memory_order_relaxed);
    }

    // The waiting room asks ---------------------------------------------------------------------

    // Behind a full group there may be more.
    void complete(waiter_list& ready) noexcept override {
        if (ready.size() < wake_group) return wake(ready);
        auto const kept = this->shared_from_this();
        wake(ready);
        std::unique_lock lock(this->mutex_);
        hand_out(lock);
    }

    typename room::trace_of_wait traced(waiter const& w) const noexcept override {
        auto const& mine = static_cast<waiter_type const&>(w);
        return {mine.count, mine.since};
    }

    void take_all(waiter_list& all) noexcept override {
        all.append(waiting_);
        settle();
    }

    void on_close() noexcept override {
        note_size();
        word_.update([](std::uint64_t seen) { return seen | locked_path; });
    }

    // Behind a large request that left there may be smaller ones that fit; and the bit must go
    // with the last waiter. The queue's delay is not looked at: who left is not known any more.
    void after_departure(waiter_list& ready) noexcept override {
        time_of_step<Clock> now;
        if (waiting_.empty()) settle();
        else grant(ready, now);
    }

    fast_word<Mutex> word_;             // first: beside the room's trace_
    std::atomic<std::size_t> capacity_; // written under the lock
    std::atomic<bool> full_;            // as many wait as may; written under the lock
    std::size_t const max_waiters_;
    duration const max_wait_;
    bool const adaptive_;
    bool const refuses_hopeless_;
    bool const measures_waits_;
    core::queue_delay<time_point> queue_delay_; // never overloaded unless adaptive_
    core::line_pace<time_point> pace_;          // of those who wait, if it refuses_hopeless_
    std::size_t owed_ = 0;                      // permits to be kept back from those that return
    waiter_list waiting_;                       // the oldest first
    statistics_type statistics_;
    std::atomic<std::uint64_t> refused_full_{0};
    std::shared_ptr<room> kept_by_permits_;
};

} // namespace detail

template <class Clock, class Executor, class Mutex>
void basic_permit<Clock, Executor, Mutex>::release() noexcept {
    if (state* const s = std::exchange(state_, nullptr)) s->release(count_);
}

TIDEGATE_END_NAMESPACE
