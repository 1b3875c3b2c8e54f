// SPDX-License-Identifier: BSL-1.0
// A bounded queue between coroutines: senders wait while it is full, receivers while it is empty.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/ring.hpp>
#include <tidegate/detail/waiting_room.hpp>
#include <tidegate/null_mutex.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class T, class Clock, class Executor, class Mutex>
class channel_state;
struct send_value;
struct receive_value;
} // namespace detail

/// A bounded queue of values for many senders and many receivers.
///
/// Guarantees: values arrive in the order in which they were sent. Waiting senders and waiting
/// receivers are each served first in, first out, and nobody overtakes them. Every value whose
/// sending succeeded is received once, or destroyed with the channel. A receive that is cancelled,
/// or whose deadline passes, takes no value. With capacity 0 a value passes from hand to hand.
///
/// Coroutines write
///
///     co_await frames.send(std::move(frame));
///     while (auto frame = co_await frames.receive()) use(*frame);
///
/// which do not suspend while the channel can go on at once.
///
/// `T` must be default constructible and nothrow move constructible. Values move under the
/// channel's lock, so a move constructor must not use the channel.
///
/// Executors, cancellation, thread safety and destruction are those of `basic_semaphore`. Memory:
/// the buffer is allocated once; `try_send`, `try_receive` and the coroutine calls that do not wait
/// allocate nothing; a waiting operation allocates once from its handler's associated allocator.
///
/// All calls are O(1), unless said otherwise.
template <class T, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor, class Mutex = std::mutex>
class basic_channel {
    using state = detail::channel_state<T, Clock, Executor, Mutex>;
    using default_token = detail::default_token_t<Executor>;

public:
    using value_type = T;
    using executor_type = Executor;
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using send_signature = void(error_code);
    using receive_signature = void(error_code, T);
    using receive_some_signature = void(error_code, std::vector<T>);

    template <class OtherExecutor>
    struct rebind_executor {
        using other = basic_channel<T, Clock, OtherExecutor, Mutex>;
    };

    /// `capacity` values can wait without a receiver, 0 to 2^32; otherwise throws
    /// std::invalid_argument. Their memory is allocated here.
    basic_channel(executor_type executor, std::size_t capacity)
        : state_(state::make(executor, capacity)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_channel(Context& context, std::size_t capacity)
        : basic_channel(executor_type(context.get_executor()), capacity) {}

    /// The moved-from channel may only be destroyed or assigned to.
    basic_channel(basic_channel&&) noexcept = default;
    basic_channel& operator=(basic_channel&& other) noexcept {
        if (this != &other) {
            if (state_) state_->close();
            state_ = std::move(other.state_);
        }
        return *this;
    }
    ~basic_channel() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    // Without waiting ---------------------------------------------------------------------------

    /// Sends `value` if there is a waiting receiver or room; otherwise, and when closed, returns
    /// false and leaves `value` alone.
    bool try_send(T&& value) { return state_->try_send(std::move(value)); }
    bool try_send(T const& value) { return state_->try_send(T(value)); }

    /// The next value if there is one.
    std::optional<T> try_receive() { return state_->try_receive(); }

    // Waiting -----------------------------------------------------------------------------------

    /// Sends `value`, waiting in line for room. Completion signature: `void(error_code)`. Errors:
    /// `operation_aborted` and `error::closed`, with which the value is destroyed.
    template <boost::asio::completion_token_for<send_signature> Token = default_token>
    auto async_send(T value, Token&& token = Token()) {
        return start_send<Token>(std::move(value), state::no_deadline, token);
    }

    /// As `async_send`, with `error::deadline_exceeded` when there was no room in time.
    template <boost::asio::completion_token_for<send_signature> Token = default_token>
    auto async_send_for(duration limit, T value, Token&& token = Token()) {
        return start_send<Token>(std::move(value), detail::deadline_in<Clock>(limit), token);
    }
    template <boost::asio::completion_token_for<send_signature> Token = default_token>
    auto async_send_until(time_point deadline, T value, Token&& token = Token()) {
        return start_send<Token>(std::move(value), deadline, token);
    }

    /// Receives the next value. Completion signature: `void(error_code, T)`. Errors:
    /// `operation_aborted`, and `error::closed` once the channel is closed and empty.
    template <boost::asio::completion_token_for<receive_signature> Token = default_token>
    auto async_receive(Token&& token = Token()) {
        return start_receive<Token>(state::no_deadline, token);
    }

    /// As `async_receive`, with `error::deadline_exceeded` when nothing came in time. No value is
    /// lost to a race with the deadline.
    template <boost::asio::completion_token_for<receive_signature> Token = default_token>
    auto async_receive_for(duration limit, Token&& token = Token()) {
        return start_receive<Token>(detail::deadline_in<Clock>(limit), token);
    }
    template <boost::asio::completion_token_for<receive_signature> Token = default_token>
    auto async_receive_until(time_point deadline, Token&& token = Token()) {
        return start_receive<Token>(deadline, token);
    }

    /// Waits for one value and takes up to `max` (at least 1) that are there. Completion signature:
    /// `void(error_code, std::vector<T>)`; errors as `async_receive`. O(values taken), allocates
    /// the vector.
    template <boost::asio::completion_token_for<receive_some_signature> Token = default_token>
    auto async_receive_some(std::size_t max, Token&& token = Token()) {
        auto take_more = [kept = state_, max](error_code ec, T first) {
            return boost::asio::deferred.values(ec, ec ? std::vector<T>()
                                                       : kept->take(std::move(first), max));
        };
        return async_receive(boost::asio::deferred(std::move(take_more)))(
            std::forward<Token>(token));
    }

    /// For coroutines: sends, and suspends only if it must. Throws boost::system::system_error with
    /// the errors of `async_send`.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<void, CoroutineExecutor> send(T value) {
        if (try_send(std::move(value))) co_return;
        // Not moved from: try_send left it alone. NOLINTNEXTLINE(bugprone-use-after-move)
        co_await async_send(std::move(value), boost::asio::deferred);
    }

    /// For coroutines: the next value, or nothing once the channel is closed and empty. Suspends
    /// only if it must. Throws boost::system::system_error when cancelled.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::optional<T>, CoroutineExecutor> receive() {
        if (auto value = try_receive()) co_return value;
        error_code ec;
        T value = co_await async_receive(boost::asio::redirect_error(boost::asio::deferred, ec));
        if (ec == error::closed) co_return std::nullopt;
        if (ec) throw boost::system::system_error(ec);
        co_return value;
    }

    // Observers ---------------------------------------------------------------------------------

    std::size_t capacity() const noexcept { return state_->capacity(); }
    /// Values that wait for a receiver in the buffer at this moment.
    std::size_t size() const noexcept { return state_->size(); }
    std::size_t waiting_senders() const noexcept { return state_->waiting_senders(); }
    std::size_t waiting_receivers() const noexcept { return state_->waiting_receivers(); }
    bool is_open() const noexcept { return !state_->is_closed(); }

    // Ending ------------------------------------------------------------------------------------

    /// Completes all waiting operations with `operation_aborted`; the channel stays usable.
    void cancel() noexcept { state_->cancel(); }

    /// Refuses further values. What is in the buffer can still be received; after that receiving
    /// reports `error::closed`. Waiting senders and receivers complete with `error::closed`.
    void close() noexcept { state_->close(); }

private:
    template <class Token>
    auto start_send(T value, time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, send_signature>(
            detail::initiation<state, detail::send_value>(*state_), token, std::move(value),
            deadline);
    }

    template <class Token>
    auto start_receive(time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, receive_signature>(
            detail::initiation<state, detail::receive_value>(*state_), token, deadline);
    }

    std::shared_ptr<state> state_;
};

template <class T>
using channel = basic_channel<T>;

/// For programs that use it from one thread, or one strand, alone.
template <class T>
using unsynchronized_channel =
    basic_channel<T, std::chrono::steady_clock, boost::asio::any_io_executor, null_mutex>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/channel.hpp>
