// SPDX-License-Identifier: BSL-1.0
// A counting semaphore for Asio: bounds how many operations run at once (a bulkhead).
#pragma once

#include <tidegate/detail/check_option.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/fast_word.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class Clock, class Executor, class Mutex>
class semaphore_state;
struct acquire_permits;
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
    /// executors: runs none of their code. O(1), plus O(1) for each waiter woken.
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

/// A counting semaphore.
///
/// Guarantees: at most `capacity()` permits are out at any time. Waiters are served first in,
/// first out: nobody overtakes, neither a `try_acquire` nor a small request behind a large one. A
/// permit that was granted to an operation whose handler is destroyed uncalled comes back.
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

    template <class OtherExecutor>
    struct rebind_executor {
        using other = basic_semaphore<Clock, OtherExecutor, Mutex>;
    };

    /// The most permits a semaphore can have.
    static constexpr std::size_t max_capacity = std::size_t{1} << 62;

    /// Starts with all of `capacity` permits available, 1 to `max_capacity`; otherwise throws
    /// std::invalid_argument.
    basic_semaphore(executor_type executor, std::size_t capacity)
        : state_(state::make(executor, capacity)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_semaphore(Context& context, std::size_t capacity)
        : basic_semaphore(executor_type(context.get_executor()), capacity) {}

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
    /// `error::closed`, and `error::invalid_count` when `n` is zero or above the capacity.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(Token&& token = Token()) {
        return initiate<Token>(1, state::no_deadline, token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(std::size_t n, Token&& token = Token()) {
        return initiate<Token>(n, state::no_deadline, token);
    }

    /// As `async_acquire`, with `error::deadline_exceeded` if the permits were not there in time.
    /// Permits that are available are granted even when the time has passed already. The deadline
    /// is part of the operation: it costs no timer of its own.
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
        if (permit taken = try_acquire(n)) co_return taken;
        co_return co_await async_acquire(n, boost::asio::deferred);
    }

    // Observers ---------------------------------------------------------------------------------

    /// All permits, taken or not.
    std::size_t capacity() const noexcept { return state_->capacity(); }

    /// Permits that nobody holds at this moment; those kept for the first waiter count.
    std::size_t available() const noexcept { return state_->available(); }

    /// Operations that wait at this moment.
    std::size_t waiting() const noexcept { return state_->waiting(); }

    bool is_open() const noexcept { return !state_->is_closed(); }

    // Ending ------------------------------------------------------------------------------------

    /// Completes all waiting operations with `operation_aborted`; the semaphore stays usable.
    void cancel() noexcept { state_->cancel(); }

    /// Completes all waiting operations, and all later ones, with `error::closed`. Permits that are
    /// out stay valid, and giving them back has no effect any more.
    void close() noexcept { state_->close(); }

private:
    template <class Token>
    auto initiate(std::size_t n, time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::acquire_permits>(*state_), token, n, deadline);
    }

    std::shared_ptr<state> state_;
};

using semaphore = basic_semaphore<>;

/// For programs that use it from one thread, or one strand, alone.
using unsynchronized_semaphore =
    basic_semaphore<std::chrono::steady_clock, boost::asio::any_io_executor, null_mutex>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/semaphore.hpp>
