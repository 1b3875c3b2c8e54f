// SPDX-License-Identifier: BSL-1.0
// Where the operations of a primitive wait: the one place that knows about cancellation slots,
// deadlines, timers and the end of the execution context.
#pragma once

#include <tidegate/detail/deadline_queue.hpp>
#include <tidegate/detail/one_block_allocator.hpp>
#include <tidegate/detail/shutdown.hpp>
#include <tidegate/detail/trace_source.hpp>
#include <tidegate/detail/wait_op.hpp>
#include <tidegate/timer_for.hpp>

#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/query.hpp>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// The base of every primitive's shared state. The primitive decides, under `mutex_`, who waits in
/// which list and who is next; this class parks operations and takes them out early.
///
/// The rules that all of it rests on:
/// - A waiter is finished by whoever unlinked it under the lock, after releasing the lock.
/// - Nothing of the user's runs or is destroyed under the lock.
/// - What becomes of a waiter is told to observers before any of those it is told of with is
///   finished: the room may go with the last one's handler.
/// - One timer serves all deadlines. It is armed for the earliest, is not moved when that waiter
///   leaves, and is cancelled once nobody with a deadline waits.
template <class Clock, class Executor, class Mutex>
class waiting_room : public shutdown_member,
                     public after_handler,
                     public std::enable_shared_from_this<waiting_room<Clock, Executor, Mutex>> {
public:
    using clock_type = Clock;
    using time_point = typename Clock::time_point;
    using executor_type = Executor;

    /// The deadline of an operation that waits as long as it takes.
    static constexpr time_point no_deadline = time_point::max();

    Executor const& executor() const noexcept { return executor_; }

    /// Completes everything that waits with `operation_aborted`; later operations wait as usual.
    void cancel() noexcept { finish_all(asio::error::operation_aborted, false); }

    /// Completes everything that waits, and every later operation, with `error::closed`.
    void close() noexcept { finish_all(error::closed, true); }

    /// See trace.hpp. `primitive` must live for ever.
    void observe(std::string_view primitive, std::shared_ptr<trace_observer> observer,
                 std::string name) {
        trace_.attach(primitive, std::move(observer), std::move(name));
    }

    bool is_closed() const noexcept {
        std::lock_guard lock(mutex_);
        return closed_;
    }

protected:
    explicit waiting_room(Executor const& executor)
        : executor_(executor),
          registry_(
              shutdown_service::registry_of(asio::query(executor, asio::execution::context))) {}

    ~waiting_room() { registry_->leave(*this); }

    /// To be called by whoever made the shared state, before anything waits in it.
    void enroll() { registry_->enroll(*this); }

    /// Moves everything that waits to `all`. Called under the lock.
    virtual void take_all(waiter_list& all) noexcept = 0;

    /// True if `w`, which was cancelled, cannot be taken out any more, in which case this has dealt
    /// with that, and may have released the lock. Called under the lock.
    virtual bool stays(waiter& w, std::unique_lock<Mutex>& lock) noexcept {
        static_cast<void>(w);
        static_cast<void>(lock);
        return false;
    }

    /// `w` leaves early, and is unlinked already. Called under the lock, before `after_departure`.
    virtual void on_departure(waiter& w) noexcept { static_cast<void>(w); }

    /// A waiter left early, and others may be able to go on now: moves them to `ready`, having
    /// given them what they waited for. Called under the lock.
    virtual void after_departure(waiter_list& ready) noexcept { static_cast<void>(ready); }

    /// Completes what `after_departure` chose. Called without the lock.
    virtual void complete(waiter_list& ready) noexcept { static_cast<void>(ready); }

    /// What observers are told of an operation that waited.
    struct trace_of_wait {
        std::uint64_t count = 1;
        time_point since{}; ///< when it began to wait, if that is known
    };
    virtual trace_of_wait traced(waiter const& w) const noexcept {
        static_cast<void>(w);
        return {};
    }

    /// Tells observers what became of `w`, which is not finished yet. Call without the lock.
    void tell_of(waiter const& w, trace_event event, error_code const& ec = {}) noexcept {
        if (trace_.is_heard()) [[unlikely]]
            tell_one(w, event, ec);
    }
    /// Tells observers what became of `gone`, none of which is finished yet. Call without the lock.
    void tell_all(waiter_list const& gone, trace_event event, error_code const& ec = {}) noexcept {
        if (trace_.is_heard()) [[unlikely]]
            tell_each(gone, event, ec);
    }

    /// The room was closed. Called under the lock.
    virtual void on_close() noexcept {}

    /// The time given to `set_alarm` has come; moves to `ready` as `after_departure` does. Called
    /// under the lock, which is released before `complete`.
    virtual void on_alarm(time_point now, waiter_list& ready) noexcept {
        static_cast<void>(now);
        static_cast<void>(ready);
    }

    /// Calls `on_alarm` at `at`, instead of at the time set before; `no_deadline` for never. Call
    /// with the lock held. The context stays at work until then, or until `retire_timer_after`
    /// found the timer idle.
    void set_alarm(time_point at) {
        alarm_ = at;
        if (at == no_deadline || (armed_ && armed_for_ <= at)) return;
        if (!timer_) timer_.emplace(executor_);
        arm(at);
    }

    /// If nobody needs the timer any more, sees to it once the handler of `w` has run. To be
    /// called, with the lock held, for an operation that leaves after the alarm was taken back.
    void retire_timer_after(waiter& w) noexcept {
        if (timer_is_idle()) w.afterwards_ = this->shared_from_this();
    }

    /// An operation on its way into a list: connected to its cancellation slot, not yet parked.
    /// Slots may outlive contexts, which the room's executor must not. A room that nobody owns any
    /// more is closed: nobody waits there.
    struct canceller {
        std::weak_ptr<waiting_room> room;
        waiter_id id;

        void operator()(asio::cancellation_type_t type) {
            if (type == asio::cancellation_type::none) return;
            waiter_id const which = id; // the completion may clear the slot, and this with it
            if (auto const kept = room.lock()) kept->leave_early(which);
        }
    };

    /// Installs the cancellation handler, whose id `park` fills in. Call without the lock.
    template <class Op>
    canceller* connect(Op& op) {
        auto slot = op.cancellation_slot();
        if (!slot.is_connected()) return nullptr;
        op.clear_slot_on_completion();
        return &slot.template emplace<canceller>(this->weak_from_this(), waiter_id{});
    }

    /// Puts `op` at the end of `list`; returns its id if it can be cancelled or has a deadline.
    /// Call with the lock held. If this throws, the operation is not parked.
    template <class Op>
    waiter_id park(waiter_list& list, waiter_ptr<Op>& op, time_point deadline, canceller* cancel) {
        waiter_id id;
        if (deadline != no_deadline || cancel) {
            id = directory_.enlist(*op);
            try {
                if (deadline != no_deadline) watch(*op, deadline);
            } catch (...) {
                directory_.strike(*op);
                throw;
            }
            if (cancel) cancel->id = id;
        }
        list.push_back(*op.release());
        return id;
    }

    /// Unlinks the operation with that id; null if it does not wait any more. Call with the lock
    /// held; afterwards it is the caller's to finish.
    waiter* remove(waiter_id id) noexcept {
        waiter* const w = directory_.find(id);
        if (w) unpark(*w);
        return w;
    }

    /// True if parking with that deadline would set the timer: a good moment to ask whether it has
    /// passed already, since setting it costs ten times a reading of the clock. Call with the lock
    /// held.
    bool would_set_timer(time_point deadline) const noexcept {
        return deadline != no_deadline && !(armed_ && armed_for_ <= deadline);
    }

    /// True if the timer is set and nobody needs it. Call with the lock held.
    bool timer_is_idle() const noexcept { return armed_ && !timer_needed(); }

    /// Unlinks `w` from its list. Call with the lock held; afterwards it is the caller's to finish.
    void unpark(waiter& w) noexcept {
        w.home_->erase(w);
        forget(w);
    }

    // The context is being destroyed: nothing may run any more, and the timer has to go while its
    // service still exists.
    void shutdown() noexcept override {
        waiter_list all;
        std::optional<timer> last_timer;
        {
            std::lock_guard lock(mutex_);
            empty_into(all, true);
            if (timer_) last_timer.emplace(std::move(*timer_));
            timer_.reset();
            armed_ = false;
            ++arming_;
        }
    }

    mutable Mutex mutex_;
    bool closed_ = false;
    // How many operations have left early so far, for rooms that keep statistics. Closing counts
    // as neither.
    std::uint64_t cancelled_ = 0;
    std::uint64_t timed_out_ = 0;

private:
    using timer = timer_for_t<Clock, Executor>;

    BOOST_NOINLINE void tell_each(waiter_list const& gone, trace_event event,
                                  error_code const& ec) noexcept {
        for (waiter const* w = gone.front(); w; w = w->next_) tell_one(*w, event, ec);
    }
    BOOST_NOINLINE void tell_one(waiter const& w, trace_event event,
                                 error_code const& ec) noexcept {
        trace_of_wait const wait = traced(w);
        auto const waited =
            wait.since == time_point() ? typename Clock::duration(0) : Clock::now() - wait.since;
        trace_.emit(event, wait.count, ec,
                    std::chrono::duration_cast<std::chrono::nanoseconds>(waited));
    }

    void forget(waiter& w) noexcept {
        bool const had_deadline = std::exchange(w.has_deadline_, false);
        directory_.strike(w);
        if (!had_deadline) return;
        deadlines_.forget_one(directory_);
        // The last one to leave sees to the timer, once its handler has run (handler_finished).
        retire_timer_after(w);
    }

    void leave_early(waiter_id id) noexcept {
        waiter_list ready;
        std::unique_lock lock(mutex_);
        waiter* const w = directory_.find(id);
        if (!w || stays(*w, lock)) return;
        unpark(*w);
        ++cancelled_;
        on_departure(*w);
        after_departure(ready);
        retire_timer_after(*w);
        lock.unlock();
        tell_of(*w, trace_event::cancelled, asio::error::operation_aborted);
        w->abort(asio::error::operation_aborted);
        complete(ready);
    }

    void finish_all(error_code ec, bool close) noexcept {
        auto const kept = keep_alive(); // by what is destroyed here the owner may be, too
        waiter_list all;
        {
            std::lock_guard lock(mutex_);
            empty_into(all, close);
            if (!close) cancelled_ += all.size();
            if (!all.empty()) retire_timer_after(*all.front());
        }
        tell_all(all, close ? trace_event::rejected : trace_event::cancelled, ec);
        all.abort_all(ec);
    }

    void empty_into(waiter_list& all, bool close) noexcept {
        waiter_list unparked;
        take_all(unparked);
        while (waiter* w = unparked.pop_front()) {
            forget(*w);
            all.push_back(*w);
        }
        if (close && !closed_) {
            closed_ = true;
            on_close();
        }
    }

    std::shared_ptr<void> keep_alive() noexcept override { return this->weak_from_this().lock(); }

    // Deadlines -------------------------------------------------------------------------------

    void watch(waiter& w, time_point deadline) {
        if (!timer_) timer_.emplace(executor_);
        deadlines_.add(deadline, w.id_);
        w.has_deadline_ = true;
        if (armed_ && armed_for_ <= deadline) return;
        try {
            arm(deadline);
        } catch (...) {
            w.has_deadline_ = false;
            deadlines_.forget_one(directory_);
            throw;
        }
    }

    void arm(time_point deadline) {
        timer_->expires_at(deadline);
        armed_ = false;
        std::uint64_t const arming = ++arming_;
        timer_->async_wait(asio::bind_allocator(
            one_block_allocator<void>(timer_memory_[next_block_]),
            [room = this->shared_from_this(), arming](error_code) { room->timer_fired(arming); }));
        next_block_ = 1 - next_block_;
        armed_ = true;
        armed_for_ = deadline;
    }

    void timer_fired(std::uint64_t arming) noexcept {
        time_point const now = Clock::now();
        waiter_list expired;
        waiter_list ready;
        {
            std::lock_guard lock(mutex_);
            if (arming != arming_) return;  // armed again, or cancelled, since
            armed_for_ = time_point::min(); // nobody need arm it before all is done here
            // First those who get what they wait for: a deadline that the same moment meets holds.
            if (alarm_ <= now) {
                alarm_ = no_deadline;
                on_alarm(now, ready);
            }
            // Where that has more to do at once, they are not all through yet.
            while (waiter* w = alarm_ <= now ? nullptr : deadlines_.due(now, directory_)) {
                unpark(*w);
                ++timed_out_;
                on_departure(*w);
                expired.push_back(*w);
            }
            if (!expired.empty()) after_departure(ready);
            armed_ = false;
            if (timer_ && timer_needed()) arm(next_need());
        }
        tell_all(expired, trace_event::timed_out, error::deadline_exceeded);
        expired.abort_all(error::deadline_exceeded);
        complete(ready);
    }

    bool timer_needed() const noexcept { return deadlines_.any() || alarm_ != no_deadline; }

    time_point next_need() {
        return deadlines_.any() ? std::min(alarm_, deadlines_.earliest(directory_)) : alarm_;
    }

    // An idle timer would keep the context running. It is looked at after the handler of the last
    // operation with a deadline: mostly that starts the next wait, and the timer stays as it is.
    void handler_finished() noexcept override {
        std::lock_guard lock(mutex_);
        if (!timer_is_idle()) return;
        armed_ = false;
        ++arming_;
        timer_->cancel();
    }

    Executor executor_;
    std::shared_ptr<shutdown_registry> registry_;
    waiter_directory directory_;
    deadline_queue<time_point> deadlines_;
    std::optional<timer> timer_;
    // For its waits, of which one may be on its way out. Set on one thread and fired on another,
    // Asio would recycle nothing.
    std::array<one_block, 2> timer_memory_;
    std::size_t next_block_ = 0;
    time_point alarm_ = no_deadline;
    bool armed_ = false;
    time_point armed_for_{};
    std::uint64_t arming_ = 0;

protected:
    // At the end, beside what comes first in a derived state: the word of its fast path.
    [[no_unique_address]] trace_source trace_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
