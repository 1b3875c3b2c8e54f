// SPDX-License-Identifier: BSL-1.0
// A bounded set of objects that are lent and come back: buffers, decoders, sessions.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/waiting_room.hpp>
#include <tidegate/null_mutex.hpp>
#include <tidegate/object_pool_options.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class T, class Clock, class Executor, class Mutex>
class object_pool_state;
struct acquire_object;

inline std::size_t pool_size(std::size_t size) {
    check_option<std::size_t>("object_pool size", size, 1, std::size_t{1} << 24);
    return size;
}
} // namespace detail

/// An object on loan. It goes back to its pool when this goes, on any thread; if the pool has gone
/// by then, the object is destroyed.
template <class T, class Clock, class Executor, class Mutex>
class [[nodiscard]] basic_lease {
public:
    /// Holds nothing.
    basic_lease() noexcept = default;
    basic_lease(basic_lease&& other) noexcept = default;
    basic_lease& operator=(basic_lease&& other) noexcept {
        if (this != &other) {
            release();
            state_ = other.state_;
            object_ = std::move(other.object_);
        }
        return *this;
    }
    ~basic_lease() { release(); }

    explicit operator bool() const noexcept { return object_ != nullptr; }
    T& operator*() const noexcept { return *object_; }
    T* operator->() const noexcept { return object_.get(); }
    T* get() const noexcept { return object_.get(); }

    /// Gives the object back now; no effect when none is held. Wakes the first waiter by posting.
    void release() noexcept {
        if (object_) state_->give_back(std::move(object_));
    }

private:
    template <class, class, class, class>
    friend class detail::object_pool_state;
    using state = detail::object_pool_state<T, Clock, Executor, Mutex>;

    basic_lease(state& s, std::unique_ptr<T> object) noexcept
        : state_(&s), object_(std::move(object)) {}

    state* state_ = nullptr; // which lives as long as it has objects out
    std::unique_ptr<T> object_;
};

/// A pool of objects, made at the start or when they are needed.
///
/// Guarantees: never more objects than the bound, and each with at most one lease. Waiters are
/// served first in, first out. The object that came back last is lent first, while it is in the
/// caches. An object that cannot be made, or not be made fit for use again, frees its place, and
/// the next one in line has it. Steady state allocates nothing but the waiting operations. Objects
/// are made, recycled and destroyed with no lock held.
///
/// Objects whose making takes time are made by a coroutine: a factory that returns an awaitable.
/// The coroutine runs detached on the executor of the pool. Whoever waits has the object that is
/// there first, be it the one that was begun for him or one that came back; he may leave alone, and
/// what was begun becomes idle. If making fails, the first in line fails with it. Recycling may be
/// a coroutine too. Waiting, making and recycling have time limits of their own, see
/// `object_pool_options`; closing the pool cancels the coroutines. Each costs the allocations of a
/// detached coroutine.
///
/// For what one coroutine opens for itself, checks before it uses it, and replaces with age, see
/// `connection_pool`.
///
/// Executors, cancellation, deadlines, destruction and thread safety are those of
/// `basic_semaphore`. A lease that was granted to an operation whose handler is destroyed uncalled
/// comes back. Destroying the pool does not wait for a factory or a `recycle` that runs, on its
/// executor or on the thread that gives an object back.
template <class T, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor, class Mutex = std::mutex>
class basic_object_pool {
    using state = detail::object_pool_state<T, Clock, Executor, Mutex>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using lease = basic_lease<T, Clock, Executor, Mutex>;
    using signature = void(error_code, lease);

    /// Calls `make()` `size` times (1 to 2^24, otherwise throws std::invalid_argument) for a
    /// std::unique_ptr<T> each; what it throws passes through.
    template <class Factory>
    basic_object_pool(executor_type executor, std::size_t size, Factory make)
        : state_(state::make(
              executor, object_pool_options<T>{}.max_size(detail::pool_size(size)).min_size(size),
              make)) {}

    template <class Context, class Factory>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_object_pool(Context& context, std::size_t size, Factory make)
        : basic_object_pool(executor_type(context.get_executor()), size, std::move(make)) {}

    /// Calls `make()` when an object is needed and there is none. It returns a std::unique_ptr<T>
    /// and is called on the thread that asks, or, for one in line, on the one that frees a place;
    /// or it returns an awaitable of a T or of a std::unique_ptr<T>. Throws std::invalid_argument
    /// for options that contradict each other.
    template <class Factory>
    basic_object_pool(executor_type executor, object_pool_options<T> options, Factory make)
        : state_(state::make(executor, std::move(options), make)) {}
    template <class Context, class Factory>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_object_pool(Context& context, object_pool_options<T> options, Factory make)
        : basic_object_pool(executor_type(context.get_executor()), std::move(options),
                            std::move(make)) {}

    /// The moved-from pool may only be destroyed.
    basic_object_pool(basic_object_pool&&) noexcept = default;
    basic_object_pool& operator=(basic_object_pool&&) = delete;
    ~basic_object_pool() {
        if (state_) state_->abandon();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// An object if one is there, or can be made at once, and nobody waits; otherwise an empty
    /// lease. Throws what making it throws.
    lease try_acquire() { return state_->try_acquire(); }

    /// Borrows an object, waiting in line for one. Completion signature: `void(error_code, lease)`.
    /// Errors: `operation_aborted`, `error::closed`; with a deadline or `wait_timeout` also
    /// `error::deadline_exceeded`; where it had to be made and could not, the code of the
    /// boost::system::system_error thrown, or `error::exception_thrown`.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(Token&& token = Token()) {
        return initiate<Token>(state_->usual_deadline(), token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_for(duration limit, Token&& token = Token()) {
        return initiate<Token>(detail::deadline_in<Clock>(limit), token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_until(time_point deadline, Token&& token = Token()) {
        return initiate<Token>(deadline, token);
    }

    /// For coroutines: tries first, and suspends only if it must. Throws
    /// boost::system::system_error with the errors of `async_acquire`, and what a factory throws
    /// that makes one at once.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<lease, CoroutineExecutor> acquire() {
        if (lease taken = state_->try_before_waiting()) co_return taken;
        co_return co_await async_acquire(boost::asio::deferred);
    }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: acquired, rejected, timed_out, cancelled; created and destroyed, of objects.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("object_pool", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_object_pool_objects", "Objects there are", static_cast<double>(size()));
        to.gauge("tidegate_object_pool_idle", "Objects that nobody has",
                 static_cast<double>(idle()));
        to.gauge("tidegate_object_pool_waiting", "Who wait for one",
                 static_cast<double>(waiting()));
    }

    /// All objects there are, or are being made, lent or not.
    std::size_t size() const noexcept { return state_->size(); }
    /// Objects that are not lent at this moment.
    std::size_t idle() const noexcept { return state_->idle(); }
    std::size_t waiting() const noexcept { return state_->waiting(); }

    /// Completes all waiting operations, and all later ones, with `error::closed`, and destroys
    /// the objects: the idle ones now, the others as they come back. Cancels what is made or
    /// recycled by coroutines.
    void close() noexcept { state_->close(); }

private:
    template <class Token>
    auto initiate(time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::acquire_object>(*state_), token, deadline);
    }

    std::shared_ptr<state> state_;
};

template <class T>
using object_pool = basic_object_pool<T>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/object_pool.hpp>
