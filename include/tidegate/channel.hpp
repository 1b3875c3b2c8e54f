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
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What a channel does with a value that finds no room.
enum class channel_mode {
    /// Its sender waits in line.
    wait,
    /// It is dropped.
    drop_newest,
    /// The value that has been in the buffer longest is dropped, and the new one takes its place.
    drop_oldest,
};

/// Settings of a channel, with their defaults.
template <class T>
class channel_options {
public:
    /// Values that can wait without a receiver, 0 to 2^32; default 0: from hand to hand.
    channel_options& capacity(std::size_t n) {
        detail::check_option<std::size_t>("channel capacity", n, 0, std::size_t{1} << 32);
        capacity_ = n;
        return *this;
    }
    /// Default: wait. `drop_oldest` needs a capacity of at least 1, or the channel's constructor
    /// throws std::invalid_argument.
    channel_options& mode(channel_mode m) {
        mode_ = m;
        return *this;
    }
    /// Gets each value that was dropped, within the call that sent the newer one, after that one
    /// was sent and with no lock held. What it throws comes out of `try_send` and `send`;
    /// `async_send` reports the code of a boost::system::system_error, and
    /// `error::exception_thrown` for everything else. Default: nothing.
    channel_options& on_drop(std::function<void(T)> receiver) {
        if (!receiver) throw std::invalid_argument("tidegate: channel on_drop is empty");
        on_drop_ = std::move(receiver);
        return *this;
    }

    std::size_t capacity() const noexcept { return capacity_; }
    channel_mode mode() const noexcept { return mode_; }
    std::function<void(T)> const& on_drop() const noexcept { return on_drop_; } ///< may be empty

private:
    std::size_t capacity_ = 0;
    channel_mode mode_ = channel_mode::wait;
    std::function<void(T)> on_drop_;
};

namespace detail {
template <class T, class Clock, class Executor, class Mutex>
class channel_state;
class channel_access;
struct send_value;
struct reserve_room;
struct receive_value;
} // namespace detail

/// Room for one value in a channel. Given back when it goes unused, on any thread.
template <class T, class Clock, class Executor, class Mutex>
class [[nodiscard]] basic_reservation {
public:
    /// Holds nothing.
    basic_reservation() noexcept = default;
    basic_reservation(basic_reservation&&) noexcept = default;
    basic_reservation& operator=(basic_reservation&& other) noexcept {
        if (this != &other) {
            release();
            state_ = std::move(other.state_);
        }
        return *this;
    }
    ~basic_reservation() { release(); }

    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// Sends `value` into the room, which is used up. False, with `value` left alone, if the
    /// channel was closed or the reservation holds nothing.
    bool send(T&& value) noexcept {
        auto const channel = std::move(state_);
        return channel && channel->send_reserved(std::move(value));
    }

    /// Gives the room back now; no effect when none is held.
    void release() noexcept {
        if (auto const channel = std::move(state_)) channel->give_back_room();
    }

private:
    template <class, class, class, class>
    friend class detail::channel_state;
    using state = detail::channel_state<T, Clock, Executor, Mutex>;

    explicit basic_reservation(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}

    std::shared_ptr<state> state_;
};

/// A bounded queue of values for many senders and many receivers.
///
/// Guarantees: values arrive in the order in which they were sent. Waiting senders and waiting
/// receivers are each served first in, first out, and nobody overtakes them. Every value whose
/// sending succeeded is received once, dropped by the channel's mode (and counted), or destroyed
/// with the channel. A receive that is cancelled, or whose deadline passes, takes no value. With
/// capacity 0 a value passes from hand to hand.
///
/// Coroutines write
///
///     co_await frames.send(std::move(frame));
///     while (auto frame = co_await frames.receive()) use(*frame);
///
/// which do not suspend while the channel can go on at once. When making a value costs much, or
/// must not be lost to a cancelled send, reserve the room first:
///
///     auto room = co_await frames.reserve();
///     room.send(decode());
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
    using options = channel_options<T>;
    using reservation = basic_reservation<T, Clock, Executor, Mutex>;
    using send_signature = void(error_code);
    using reserve_signature = void(error_code, reservation);
    using receive_signature = void(error_code, T);
    using receive_some_signature = void(error_code, std::vector<T>);

    template <class OtherExecutor>
    struct rebind_executor {
        using other = basic_channel<T, Clock, OtherExecutor, Mutex>;
    };

    /// Allocates the memory for all values that can wait without a receiver.
    basic_channel(executor_type executor, options settings)
        : state_(state::make(executor, std::move(settings))) {}

    /// A channel in which `capacity` values can wait without a receiver, and senders wait in line:
    /// 0 to 2^32, otherwise throws std::invalid_argument.
    basic_channel(executor_type executor, std::size_t capacity)
        : basic_channel(executor, options().capacity(capacity)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_channel(Context& context, options settings)
        : basic_channel(executor_type(context.get_executor()), std::move(settings)) {}
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

    /// Sends `value` if there is a waiting receiver or room, or the mode makes room; otherwise, and
    /// when closed, or in `wait` mode behind others who send or reserve, returns false and leaves
    /// `value` alone. In `drop_newest` a value that was dropped counts as sent.
    bool try_send(T&& value) { return state_->try_send(std::move(value)); }
    bool try_send(T const& value) { return state_->try_send(T(value)); }

    /// Room for one value, if there is any and nobody waits for it.
    std::optional<reservation> try_reserve() { return state_->try_reserve(); }

    /// The next value if there is one.
    std::optional<T> try_receive() { return state_->try_receive(); }

    /// Up to `max` values that are there. O(values), allocates the vector.
    std::vector<T> try_receive_some(std::size_t max) { return state_->take({}, max); }

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

    /// Waits in line, as senders do, for room for one value: whatever the mode, nothing is dropped
    /// for it. Completion signature: `void(error_code, reservation)`; errors as `async_send`. With
    /// capacity 0 there is no room to reserve: throws std::invalid_argument.
    template <boost::asio::completion_token_for<reserve_signature> Token = default_token>
    auto async_reserve(Token&& token = Token()) {
        return start_reserve<Token>(state::no_deadline, token);
    }
    template <boost::asio::completion_token_for<reserve_signature> Token = default_token>
    auto async_reserve_for(duration limit, Token&& token = Token()) {
        return start_reserve<Token>(detail::deadline_in<Clock>(limit), token);
    }
    template <boost::asio::completion_token_for<reserve_signature> Token = default_token>
    auto async_reserve_until(time_point deadline, Token&& token = Token()) {
        return start_reserve<Token>(deadline, token);
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
    /// `void(error_code, std::vector<T>)`; errors as `async_receive`. O(values taken). Allocates
    /// the vector: for one value at once, for the others when it has come; without memory for these
    /// they stay.
    template <boost::asio::completion_token_for<receive_some_signature> Token = default_token>
    auto async_receive_some(std::size_t max, Token&& token = Token()) {
        std::vector<T> room;
        room.reserve(1); // once the value is here it is too late to fail
        auto take_more = [kept = state_, max, values = std::move(room)](error_code ec,
                                                                        T first) mutable {
            if (!ec) {
                values.push_back(std::move(first));
                values = kept->take(std::move(values), max);
            }
            return boost::asio::deferred.values(ec, std::move(values));
        };
        return async_receive(boost::asio::deferred(std::move(take_more)))(
            std::forward<Token>(token));
    }

    /// For coroutines: sends, and suspends only if it must. Throws boost::system::system_error with
    /// the errors of `async_send`.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<void, CoroutineExecutor> send(T value) {
        if (state_->try_send(std::move(value), true)) co_return;
        // Not moved from: try_send left it alone. NOLINTNEXTLINE(bugprone-use-after-move)
        co_await async_send(std::move(value), boost::asio::deferred);
    }

    /// For coroutines: room for one value. Suspends only if it must. Throws
    /// boost::system::system_error with the errors of `async_reserve`.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<reservation, CoroutineExecutor> reserve() {
        if (auto room = try_reserve()) co_return std::move(*room);
        co_return co_await async_reserve(boost::asio::deferred);
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

    /// For coroutines: waits for one value and takes up to `max` (at least 1) that are there;
    /// nothing once the channel is closed and empty. Throws boost::system::system_error when
    /// cancelled.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<std::vector<T>, CoroutineExecutor> receive_some(std::size_t max) {
        std::vector<T> values = try_receive_some(max);
        if (!values.empty()) co_return values;
        values.reserve(1); // once the value is here it is too late to fail
        if (auto first = co_await receive<CoroutineExecutor>()) {
            values.push_back(std::move(*first));
            values = state_->take(std::move(values), max);
        }
        co_return values;
    }

    // Observers ---------------------------------------------------------------------------------

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: dropped; rejected, of what could not be sent, and of everyone who waits when it is
    /// closed; timed_out and cancelled.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("channel", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_channel_capacity", "Values there is room for",
                 static_cast<double>(capacity()));
        to.gauge("tidegate_channel_values", "Values in it", static_cast<double>(size()));
        to.gauge("tidegate_channel_reserved", "Places reserved", static_cast<double>(reserved()));
        to.counter("tidegate_channel_dropped", "Values dropped", static_cast<double>(dropped()));
        to.gauge("tidegate_channel_waiting_senders", "Who wait to send",
                 static_cast<double>(waiting_senders()));
        to.gauge("tidegate_channel_waiting_receivers", "Who wait to receive",
                 static_cast<double>(waiting_receivers()));
    }

    std::size_t capacity() const noexcept { return state_->capacity(); }
    /// Values that wait for a receiver in the buffer at this moment.
    std::size_t size() const noexcept { return state_->size(); }
    /// Room that is reserved and not used yet.
    std::size_t reserved() const noexcept { return state_->reserved(); }
    /// Values that were dropped to keep to the capacity.
    std::uint64_t dropped() const noexcept { return state_->dropped(); }
    std::size_t waiting_senders() const noexcept { return state_->waiting_senders(); }
    std::size_t waiting_receivers() const noexcept { return state_->waiting_receivers(); }
    bool is_open() const noexcept { return !state_->is_closed(); }

    // Ending ------------------------------------------------------------------------------------

    /// Completes all waiting operations with `operation_aborted`; the channel stays usable.
    void cancel() noexcept { state_->cancel(); }

    /// Refuses further values. What is in the buffer can still be received; after that receiving
    /// reports `error::closed`. Waiting senders and receivers complete with `error::closed`; what
    /// they were sending is destroyed. Reservations send no more.
    void close() noexcept { state_->close(); }

private:
    friend class detail::channel_access;

    template <class Token>
    auto start_send(T value, time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, send_signature>(
            detail::initiation<state, detail::send_value>(*state_), token, std::move(value),
            deadline);
    }

    template <class Token>
    auto start_reserve(time_point deadline, std::remove_reference_t<Token>& token) {
        detail::check_option<std::size_t>("channel capacity, where room is to be reserved,",
                                          capacity(), 1, std::size_t{1} << 32);
        return boost::asio::async_initiate<Token, reserve_signature>(
            detail::initiation<state, detail::reserve_room>(*state_), token, deadline);
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
