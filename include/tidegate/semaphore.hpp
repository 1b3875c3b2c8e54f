// SPDX-License-Identifier: BSL-1.0
// A counting semaphore for Asio: bounds how many operations run at once, and how many wait (a
// bulkhead).
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/core/line_pace.hpp>
#include <tidegate/core/queue_delay.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/fast_word.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Who is served next when permits come back.
enum class queue_order {
    /// First in, first out, always.
    fifo,
    /// First in, first out while the queue drains now and then. Under overload the newest waiter
    /// first, and those that have waited for longer than twice the target delay fail with
    /// `error::overloaded`: at more than the capacity somebody has to go without, and in a first
    /// in, first out line everybody is served when it is nearly too late.
    newest_first_under_overload,
};

/// Settings of a semaphore, with their defaults.
class semaphore_options {
public:
    /// All permits, 1 to 2^62; default 1.
    semaphore_options& capacity(std::size_t permits) {
        detail::check_option<std::size_t>("semaphore capacity", permits, 1, std::size_t{1} << 62);
        capacity_ = permits;
        return *this;
    }
    /// The most operations that may wait; one more fails with `error::queue_full`. 0: none may
    /// wait. Default: any number.
    semaphore_options& max_waiters(std::size_t operations) noexcept {
        max_waiters_ = operations;
        return *this;
    }
    /// How long an operation may wait, 0 or more, before it fails with `error::deadline_exceeded`;
    /// its own deadline counts too if that is earlier. See `refuse_hopeless`. Default
    /// `nanoseconds::max()`: as long as it takes.
    semaphore_options& max_wait(std::chrono::nanoseconds longest) {
        detail::check_option<std::int64_t>("semaphore max_wait in ns", longest.count(), 0,
                                           std::numeric_limits<std::int64_t>::max());
        max_wait_ = longest;
        return *this;
    }
    /// Refuses an operation with `error::queue_full`, at once, when it cannot be expected to get
    /// through the line within `max_wait` or its own deadline, if the line goes on as fast as of
    /// late: core::line_pace. Nobody is refused when nobody waits, nor before 16 waiters, and twice
    /// the capacity, have had their turn since somebody began to wait; so no permit lies idle, and
    /// a line that was held up is tried again as soon as it has cleared. The estimate counts heads:
    /// where some want far more permits than others it is rough. Costs a reading of the clock for
    /// each permit that comes back to waiters. For `queue_order::fifo` only. Default off: who
    /// cannot be served in time waits until it is over.
    semaphore_options& refuse_hopeless(bool on = true) noexcept {
        refuse_hopeless_ = on;
        return *this;
    }
    /// Default `queue_order::fifo`.
    semaphore_options& order(queue_order who_is_next) noexcept {
        order_ = who_is_next;
        return *this;
    }
    /// The delay that a queue may have all the time, 1 ns to 1 hour; default 5 ms. For
    /// `newest_first_under_overload` only. Choose it well below what callers have patience for,
    /// less the time that they then hold the permit.
    semaphore_options& queue_delay_target(std::chrono::nanoseconds delay) {
        check_time("semaphore queue_delay_target in ns", delay);
        queue_delay_target_ = delay;
        return *this;
    }
    /// How long the delay must be above the target to count as overload, and must not be above it
    /// to end that, 1 ns to 1 hour; default 100 ms. For `newest_first_under_overload` only. It is
    /// the length of bursts that are served in order.
    semaphore_options& queue_delay_interval(std::chrono::nanoseconds interval) {
        check_time("semaphore queue_delay_interval in ns", interval);
        queue_delay_interval_ = interval;
        return *this;
    }
    /// Sums up how long operations waited, for the statistics: two readings of the clock for each
    /// that waits. Default off; always on with `newest_first_under_overload`, which needs the time.
    semaphore_options& measure_waits(bool on = true) noexcept {
        measure_waits_ = on;
        return *this;
    }

    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t max_waiters() const noexcept { return max_waiters_; }
    std::chrono::nanoseconds max_wait() const noexcept { return max_wait_; }
    bool refuses_hopeless() const noexcept {
        return refuse_hopeless_ && order_ == queue_order::fifo;
    }
    queue_order order() const noexcept { return order_; }
    std::chrono::nanoseconds queue_delay_target() const noexcept { return queue_delay_target_; }
    std::chrono::nanoseconds queue_delay_interval() const noexcept { return queue_delay_interval_; }
    bool measures_waits() const noexcept {
        return measure_waits_ || order_ == queue_order::newest_first_under_overload;
    }

private:
    static void check_time(char const* option, std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>(option, time.count(), 1,
                                           std::chrono::nanoseconds(std::chrono::hours(1)).count());
    }

    std::size_t capacity_ = 1;
    std::size_t max_waiters_ = std::numeric_limits<std::size_t>::max();
    std::chrono::nanoseconds max_wait_ = std::chrono::nanoseconds::max();
    bool refuse_hopeless_ = false;
    queue_order order_ = queue_order::fifo;
    std::chrono::nanoseconds queue_delay_target_ = std::chrono::milliseconds(5);
    std::chrono::nanoseconds queue_delay_interval_ = std::chrono::milliseconds(100);
    bool measure_waits_ = false;
};

/// What has become of the operations that found no permits. Those that did not have to wait are not
/// counted: that would cost more than taking the permit.
template <class Duration>
struct basic_semaphore_statistics {
    std::uint64_t granted_after_waiting = 0;
    std::uint64_t refused_full = 0;       ///< `error::queue_full`: too many waited
    std::uint64_t refused_overloaded = 0; ///< `error::overloaded`: had waited for too long
    std::uint64_t timed_out = 0;          ///< `error::deadline_exceeded`
    std::uint64_t cancelled = 0;          ///< by their slot or by `cancel()`, not by `close()`
    std::size_t peak_waiting = 0;         ///< the most that waited at one moment
    /// Of the granted ones, in sum and at most. Zero unless waits are measured.
    Duration total_wait{};
    Duration longest_wait{};
};

namespace detail {
template <class Clock, class Executor, class Mutex>
class semaphore_state;
struct acquire_permits;
template <class>
class bulkhead_layer;
} // namespace detail

/// Permits taken from a semaphore, given back when this object goes. May outlive the semaphore and
/// its execution context; may be released on any thread (unless the semaphore is unsynchronised).
template <class Clock, class Executor, class Mutex>
class [[nodiscard]] basic_permit {
public:
    /// Holds nothing.
    basic_permit() noexcept = default;

    basic_permit(basic_permit&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), count_(other.count_) {}
    basic_permit& operator=(basic_permit&& other) noexcept {
        if (this != &other) {
            release();
            state_ = std::exchange(other.state_, nullptr);
            count_ = other.count_;
        }
        return *this;
    }
    ~basic_permit() { release(); }

    /// True while permits are held.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// How many permits are held.
    std::size_t count() const noexcept { return state_ ? count_ : 0; }

    /// Gives the permits back now; no effect when none are held. Wakes waiters by posting to their
    /// executors: runs none of their code. O(1), plus O(1) for each waiter woken or, under
    /// overload, failed.
    void release() noexcept;

private:
    template <class, class, class>
    friend class detail::semaphore_state;
    using state = detail::semaphore_state<Clock, Executor, Mutex>;

    basic_permit(state* s, std::size_t count) noexcept : state_(s), count_(count) {}

    // Not counted: a state lives until its last permit is back (see semaphore_state).
    state* state_ = nullptr;
    std::size_t count_ = 0;
};

/// A counting semaphore, and a bulkhead: with `semaphore_options` it bounds how many wait and for
/// how long, and keeps serving at full capacity under overload.
///
/// Guarantees: permits are handed out only where that leaves no more than `capacity()` of them out.
/// Unless set otherwise, waiters are served first in, first out: nobody overtakes, neither a
/// `try_acquire` nor a small request behind a large one. A permit that was granted to an operation
/// whose handler is destroyed uncalled comes back.
///
/// Coroutines take permits with
///
///     auto permit = co_await sem.acquire();
///
/// which does not suspend while permits are there, and everything else with `async_acquire` and a
/// completion token. A waiting operation holds work on the semaphore's executor and on its
/// handler's, so `io_context::run()` does not return while one waits.
///
/// Executors: a handler runs on its associated executor, by default the semaphore's, never inside
/// the call that started or released it. The deadline timer runs on the semaphore's executor.
///
/// Overload: with `queue_order::newest_first_under_overload` the order is turned round while the
/// oldest waiter's delay stays above a target (core::queue_delay, which is CoDel's rule: Nichols
/// and Jacobson, ACM Queue 2012, RFC 8289). Then the newest operation is next, and overtakes; one
/// that waits for longer than twice the target fails with `error::overloaded` as soon as a permit
/// comes back or another operation comes. Twice, since between one and two targets a waiter still
/// has its chance when permits come back in a bunch; facebook/folly's `Codel` sheds at the same
/// age. Newest first is the adaptive LIFO of Maurer, "Fail at Scale", ACM Queue 2015. Large
/// requests fare worst: while one cannot be served yet, newer ones go first.
///
/// Cancellation: total, partial and terminal cancellation all take a waiting operation out in O(1)
/// with `asio::error::operation_aborted`, and have no effect once it was granted. A signal is to be
/// emitted where the handler runs, as always in Asio; from elsewhere use deadlines, `cancel()` or
/// `close()`.
///
/// Destroying the semaphore closes it; its execution context may go before or after, and destroys
/// waiting handlers uncalled. As with Asio's own objects, the context of a waiting handler must not
/// go before the semaphore's.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. `unsynchronized_semaphore` is for one thread.
///
/// Time: the clock is not read unless an operation has to wait, and then only for deadlines,
/// `max_wait`, measured waits, the pace of the line and the order under overload.
///
/// Memory: `try_acquire` and `release` allocate nothing. A waiting operation allocates once, from
/// its handler's associated allocator, and gives that back before its handler runs.
///
/// `Clock` is the clock of deadlines, `Executor` the executor type, `Mutex` std::mutex or
/// null_mutex.
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor,
          class Mutex = std::mutex>
class basic_semaphore {
    using state = detail::semaphore_state<Clock, Executor, Mutex>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using permit = basic_permit<Clock, Executor, Mutex>;
    using signature = void(error_code, permit);
    using options = semaphore_options;
    using statistics_type = basic_semaphore_statistics<duration>;

    template <class OtherExecutor>
    struct rebind_executor {
        using other = basic_semaphore<Clock, OtherExecutor, Mutex>;
    };

    /// The most permits a semaphore can have.
    static constexpr std::size_t max_capacity = std::size_t{1} << 62;

    /// Starts with all of `capacity` permits available, 1 to `max_capacity`; otherwise throws
    /// std::invalid_argument.
    basic_semaphore(executor_type executor, std::size_t capacity)
        : basic_semaphore(executor, options().capacity(capacity)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_semaphore(Context& context, std::size_t capacity)
        : basic_semaphore(executor_type(context.get_executor()), capacity) {}

    /// Starts with all permits available.
    basic_semaphore(executor_type executor, options const& settings)
        : state_(state::make(executor, settings)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_semaphore(Context& context, options const& settings)
        : basic_semaphore(executor_type(context.get_executor()), settings) {}

    /// The moved-from semaphore may only be destroyed or assigned to.
    basic_semaphore(basic_semaphore&&) noexcept = default;
    basic_semaphore& operator=(basic_semaphore&& other) noexcept {
        if (this != &other) {
            if (state_) state_->abandon();
            state_ = std::move(other.state_);
        }
        return *this;
    }
    ~basic_semaphore() {
        if (state_) state_->abandon();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    // Without waiting ---------------------------------------------------------------------------

    /// Takes `n` permits if they are there and nobody waits; otherwise returns an empty permit.
    /// Also empty when closed, or when `n` is zero or more than the capacity. Never allocates.
    permit try_acquire(std::size_t n = 1) noexcept { return state_->try_acquire(n); }

    // Waiting -----------------------------------------------------------------------------------

    /// Takes `n` permits, waiting in line for them.
    ///
    /// Completion signature: `void(error_code, permit)`. Errors: `operation_aborted`,
    /// `error::closed`, `error::invalid_count` when `n` is zero or above the capacity, now or after
    /// a `resize`, `error::queue_full` when `max_waiters` wait already, or too many for its time
    /// (`refuse_hopeless`), `error::deadline_exceeded` after `max_wait`, and `error::overloaded`
    /// (see the class).
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(Token&& token = Token()) {
        return initiate<Token>(1, state::no_deadline, token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(std::size_t n, Token&& token = Token()) {
        return initiate<Token>(n, state::no_deadline, token);
    }

    /// As `async_acquire`, with `error::deadline_exceeded` if the permits were not there in time.
    /// Permits that are available are granted even when the time has passed already; one that would
    /// have to wait then fails without waiting. The deadline is part of the operation: it costs no
    /// timer of its own.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_for(duration limit, Token&& token = Token()) {
        return initiate<Token>(1, detail::deadline_in<Clock>(limit), token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_for(duration limit, std::size_t n, Token&& token = Token()) {
        return initiate<Token>(n, detail::deadline_in<Clock>(limit), token);
    }

    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_until(time_point deadline, Token&& token = Token()) {
        return initiate<Token>(1, deadline, token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_until(time_point deadline, std::size_t n, Token&& token = Token()) {
        return initiate<Token>(n, deadline, token);
    }

    /// For coroutines: tries first, and suspends only if it must. Throws
    /// boost::system::system_error with the errors of `async_acquire`. Since it may not suspend, a
    /// long loop over it alone keeps other coroutines of its thread from running.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<permit, CoroutineExecutor> acquire(std::size_t n = 1) {
        if (permit taken = state_->try_before_waiting(n)) co_return taken;
        co_return co_await async_acquire(n, boost::asio::deferred);
    }

    /// As `acquire`, with the error in `ec` and an empty permit instead of an exception. A full
    /// queue refuses without suspending: about as cheap as a `try_acquire`. `ec` must live until
    /// the awaiting coroutine goes on.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<permit, CoroutineExecutor> acquire(error_code& ec, std::size_t n = 1) {
        ec = {};
        if (permit taken = state_->try_before_waiting(n)) co_return taken;
        if (state_->refuse_if_full(n)) {
            ec = error::queue_full;
            co_return permit();
        }
        co_return co_await async_acquire(n, boost::asio::redirect_error(boost::asio::deferred, ec));
    }

    // Changing ----------------------------------------------------------------------------------

    /// Sets the number of permits, 1 to `max_capacity`; otherwise throws std::invalid_argument.
    /// Never waits. When raised, exactly the waiters that now fit are woken. When lowered below
    /// what is out, holders finish undisturbed, and nobody is let in until fewer than the new
    /// capacity are out; waiters that want more than it fail with `error::invalid_count`. Lowering
    /// looks at each waiter.
    void resize(std::size_t capacity) { state_->resize(capacity); }

    // Observers ---------------------------------------------------------------------------------

    /// All permits, taken or not; after a `resize` more may be out for a while.
    std::size_t capacity() const noexcept { return state_->capacity(); }

    /// Permits that nobody holds at this moment; those kept for the first waiter count.
    std::size_t available() const noexcept { return state_->available(); }

    /// Operations that wait at this moment.
    std::size_t waiting() const noexcept { return state_->waiting(); }

    bool is_open() const noexcept { return !state_->is_closed(); }

    /// True while newest first is in force, as of the last permit that came back to waiters or the
    /// last operation that began to wait.
    bool is_overloaded() const noexcept { return state_->is_overloaded(); }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: acquired, rejected, timed_out, cancelled.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("semaphore", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_semaphore_permits", "Permits there are",
                 static_cast<double>(capacity()));
        to.gauge("tidegate_semaphore_available_permits", "Permits that nobody has",
                 static_cast<double>(available()));
        to.gauge("tidegate_semaphore_waiting", "Who wait for permits",
                 static_cast<double>(waiting()));
        to.counter("tidegate_semaphore_granted_after_waiting", "Grants that were waited for",
                   static_cast<double>(all.granted_after_waiting));
        to.counter("tidegate_semaphore_refused_full", "Refused because too many waited",
                   static_cast<double>(all.refused_full));
        to.counter("tidegate_semaphore_refused_overloaded", "Given up under overload",
                   static_cast<double>(all.refused_overloaded));
        to.counter("tidegate_semaphore_timed_out", "Waits that took too long",
                   static_cast<double>(all.timed_out));
        to.counter("tidegate_semaphore_cancelled", "Waits that were cancelled",
                   static_cast<double>(all.cancelled));
    }

    /// Counted since construction.
    statistics_type statistics() const noexcept { return state_->statistics(); }

    // Ending ------------------------------------------------------------------------------------

    /// Completes all waiting operations with `operation_aborted`; the semaphore stays usable.
    void cancel() noexcept { state_->cancel(); }

    /// Completes all waiting operations, and all later ones, with `error::closed`. Permits that are
    /// out stay valid, and giving them back has no effect any more.
    void close() noexcept { state_->close(); }

private:
    template <class>
    friend class detail::bulkhead_layer;

    template <class Token>
    auto initiate(std::size_t n, time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::acquire_permits>(*state_), token, n, deadline);
    }

    std::shared_ptr<state> state_;
};

using semaphore = basic_semaphore<>;
using semaphore_statistics = semaphore::statistics_type;

/// For programs that use it from one thread, or one strand, alone.
using unsynchronized_semaphore =
    basic_semaphore<std::chrono::steady_clock, boost::asio::any_io_executor, null_mutex>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/semaphore.hpp>
