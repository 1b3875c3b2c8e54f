// SPDX-License-Identifier: BSL-1.0
// Connections that are opened when needed, checked before use, and closed when old.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/attempt.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/thread_random.hpp>
#include <tidegate/detail/trace_source.hpp>
#include <tidegate/object_pool.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of a connection_pool, with their defaults. Durations are 1 ns to 10 years.
class connection_pool_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// Connections that are kept at most, 1 to 2^20; default 10.
    connection_pool_options& max_size(std::size_t n) {
        detail::check_option<std::size_t>("connection_pool max_size", n, 1, std::size_t{1} << 20);
        max_size_ = n;
        return *this;
    }
    /// Connections beyond those that are opened while all are in use, and closed when they come
    /// back and nobody waits; 0 to 2^20, default 0.
    connection_pool_options& max_overflow(std::size_t n) {
        detail::check_option<std::size_t>("connection_pool max_overflow", n, 0,
                                          std::size_t{1} << 20);
        max_overflow_ = n;
        return *this;
    }
    /// Connections that idle time closes not, and `warm_up` opens; 0 to `max_size`, default 0.
    connection_pool_options& min_size(std::size_t n) {
        detail::check_option<std::size_t>("connection_pool min_size", n, 0, std::size_t{1} << 20);
        min_size_ = n;
        return *this;
    }
    /// How long a caller waits for a connection in use to come back. Default: 30 s.
    connection_pool_options& wait_timeout(nanoseconds time) {
        return set("connection_pool wait_timeout in ns", wait_timeout_, time);
    }
    /// How long opening one may take. Default: 10 s.
    connection_pool_options& connect_timeout(nanoseconds time) {
        return set("connection_pool connect_timeout in ns", connect_timeout_, time);
    }
    /// How long the check of one may take; a check that takes longer has failed. Default: 1 s.
    connection_pool_options& validate_timeout(nanoseconds time) {
        return set("connection_pool validate_timeout in ns", validate_timeout_, time);
    }
    /// A connection that was used within this time is not checked. Default: 500 ms.
    connection_pool_options& validate_after(nanoseconds time) {
        return set("connection_pool validate_after in ns", validate_after_, time);
    }
    /// A connection older than this is not used again, less a random part of up to a tenth, so that
    /// those opened together are not all replaced together. Default: 30 minutes.
    connection_pool_options& max_lifetime(nanoseconds time) {
        return set("connection_pool max_lifetime in ns", max_lifetime_, time);
    }
    /// A connection that nobody used for so long is closed. The context has work while there are
    /// some beyond `min_size`, so that a program whose work is done ends only after that time, or
    /// when the pool is closed. Default: it is not closed, but checked before it is used.
    connection_pool_options& max_idle_time(nanoseconds time) {
        nanoseconds checked{};
        set("connection_pool max_idle_time in ns", checked, time);
        max_idle_time_ = checked;
        return *this;
    }

    std::size_t max_size() const noexcept { return max_size_; }
    std::size_t max_overflow() const noexcept { return max_overflow_; }
    std::size_t min_size() const noexcept { return min_size_; }
    nanoseconds wait_timeout() const noexcept { return wait_timeout_; }
    nanoseconds connect_timeout() const noexcept { return connect_timeout_; }
    nanoseconds validate_timeout() const noexcept { return validate_timeout_; }
    nanoseconds validate_after() const noexcept { return validate_after_; }
    nanoseconds max_lifetime() const noexcept { return max_lifetime_; }
    std::optional<nanoseconds> max_idle_time() const noexcept { return max_idle_time_; }

private:
    connection_pool_options& set(char const* option, nanoseconds& to, nanoseconds time) {
        detail::check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
        to = time;
        return *this;
    }

    std::size_t max_size_ = 10;
    std::size_t max_overflow_ = 0;
    std::size_t min_size_ = 0;
    nanoseconds wait_timeout_ = std::chrono::seconds(30);
    nanoseconds connect_timeout_ = std::chrono::seconds(10);
    nanoseconds validate_timeout_ = std::chrono::seconds(1);
    nanoseconds validate_after_ = std::chrono::milliseconds(500);
    nanoseconds max_lifetime_ = std::chrono::minutes(30);
    std::optional<nanoseconds> max_idle_time_;
};

/// What a connection_pool has, and did so far.
struct connection_pool_statistics {
    std::size_t open = 0;
    std::size_t idle = 0;
    std::size_t waiting = 0;
    std::uint64_t connected = 0;
    std::uint64_t connect_failures = 0;
    std::uint64_t validation_failures = 0;
    std::uint64_t discarded = 0; ///< by users, as broken
    std::uint64_t too_old = 0;   ///< closed because of their age
};

/// A connection that somebody has, since when, and where he asked for it.
template <class TimePoint>
struct held_connection {
    TimePoint since;
    std::source_location where;
};

namespace detail {
template <class T, class Clock, class Executor>
class connection_pool_state;
template <class T, class Clock>
struct connection_slot;
} // namespace detail

/// A connection on loan. It goes back to the pool when this goes, on any thread, unless it was
/// discarded.
template <class T, class Clock, class Executor>
class [[nodiscard]] basic_connection {
public:
    basic_connection() noexcept = default;
    basic_connection(basic_connection&&) noexcept = default;
    basic_connection& operator=(basic_connection&& other) noexcept {
        if (this != &other) {
            release();
            state_ = std::move(other.state_);
            slot_ = std::move(other.slot_);
        }
        return *this;
    }
    ~basic_connection() { release(); }

    explicit operator bool() const noexcept { return slot_ && slot_->connection; }
    T& operator*() const noexcept { return *slot_->connection; }
    T* operator->() const noexcept { return slot_->connection.get(); }

    /// It is broken: it is closed now, and another one will be opened when somebody needs it.
    void discard() noexcept {
        if (!slot_) return;
        state_->note_discarded(*slot_);
        release();
    }
    /// Gives it back now.
    void release() noexcept {
        auto const kept = std::move(state_); // recycling needs it
        if (kept) kept->note_released(*slot_);
        slot_.release();
    }

private:
    friend class detail::connection_pool_state<T, Clock, Executor>;
    using state = detail::connection_pool_state<T, Clock, Executor>;
    using slot_lease = basic_lease<detail::connection_slot<T, Clock>, Clock, Executor, std::mutex>;

    basic_connection(std::shared_ptr<state> s, slot_lease slot) noexcept
        : state_(std::move(s)), slot_(std::move(slot)) {}

    std::shared_ptr<state> state_;
    slot_lease slot_;
};

/// A pool of connections, or of whatever else is opened asynchronously.
///
///     auto open = [&]() -> awaitable<session> { ... };
///     auto ping = [](session& s) -> awaitable<bool> { ... };
///     tidegate::connection_pool<session> sessions(context, options, open, ping);
///     auto session = co_await sessions.acquire();       // goes back by itself
///     if (failed) session.discard();
///
/// Guarantees: never more connections than `max_size` and `max_overflow` together, each with at
/// most one user; waiters first in, first out; the connection that came back last is used first.
/// One that has not been used for a while is checked before it is handed out, and replaced if it
/// does not pass; one that cannot be opened frees its place for the next in line. Waiting, opening
/// and checking have time limits of their own.
///
/// Executors: opening and checking run in the coroutine of the caller, and are cancelled with it.
/// Thread safety, cancellation and destruction are those of `basic_object_pool`, on which this is
/// built. Connections are destroyed with no lock held, on the thread that gives them up.
template <class T, class Clock = std::chrono::steady_clock,
          class Executor = boost::asio::any_io_executor>
class basic_connection_pool {
    using state = detail::connection_pool_state<T, Clock, Executor>;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using time_point = typename Clock::time_point;
    using connection = basic_connection<T, Clock, Executor>;

    /// `open()` returns an awaitable of a T, or of a std::unique_ptr<T>; `validate(T&)` one of
    /// whether it can be used. Throws std::invalid_argument for options against each other.
    template <class Open, class Validate>
    basic_connection_pool(executor_type executor, connection_pool_options options, Open open,
                          Validate validate)
        : state_(state::make(executor, options, std::move(open), std::move(validate))) {}
    template <class Context, class Open, class Validate>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_connection_pool(Context& context, connection_pool_options options, Open open,
                          Validate validate)
        : basic_connection_pool(executor_type(context.get_executor()), options, std::move(open),
                                std::move(validate)) {}

    /// The moved-from pool may only be destroyed.
    basic_connection_pool(basic_connection_pool&&) noexcept = default;
    basic_connection_pool& operator=(basic_connection_pool&&) = delete;
    ~basic_connection_pool() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// A connection, opened or checked if need be. Throws boost::system::system_error with
    /// `error::deadline_exceeded` for each of the time limits, `operation_aborted` or
    /// `error::closed`; and what `open` throws. `where` is what `held_longer_than` reports. Does
    /// not suspend where nothing is to be waited for, opened or checked: a long loop over it alone
    /// keeps other coroutines of its thread from running.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<connection, CoroutineExecutor>
    acquire(std::source_location where = std::source_location::current()) {
        return state::template acquire<CoroutineExecutor>(state_, where);
    }

    /// Opens connections, one after the other, until there are `min_size`, in use or not. Waits for
    /// no place: whoever has one opens a connection in it. Throws what `acquire` does.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<void, CoroutineExecutor> warm_up() {
        return state::template warm_up<CoroutineExecutor>(state_);
    }

    /// Who has had a connection for longer than that: leaks, mostly.
    std::vector<held_connection<time_point>> held_longer_than(typename Clock::duration time) const {
        return state_->held_longer_than(time);
    }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: for each `acquire` one of acquired, timed_out, cancelled and rejected
    /// (`error::closed`, or what `open` threw), with the time it took, opening and checking
    /// included; created, a connection, with the time it took to open; destroyed, a connection,
    /// whatever for.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe(std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_connection_pool_open", "Connections there are",
                 static_cast<double>(all.open));
        to.gauge("tidegate_connection_pool_idle", "Connections that nobody has",
                 static_cast<double>(all.idle));
        to.gauge("tidegate_connection_pool_waiting", "Who wait for one",
                 static_cast<double>(all.waiting));
        to.counter("tidegate_connection_pool_connected", "Connections made",
                   static_cast<double>(all.connected));
        to.counter("tidegate_connection_pool_connect_failures", "Attempts that failed",
                   static_cast<double>(all.connect_failures));
        to.counter("tidegate_connection_pool_validation_failures", "Connections found broken",
                   static_cast<double>(all.validation_failures));
        to.counter("tidegate_connection_pool_discarded", "Connections given back as broken",
                   static_cast<double>(all.discarded));
        to.counter("tidegate_connection_pool_too_old", "Connections closed for their age",
                   static_cast<double>(all.too_old));
    }

    connection_pool_statistics statistics() const noexcept { return state_->statistics(); }

    /// Fails all who wait, and all later calls, with `error::closed`; closes what is idle now, and
    /// the others as they come back.
    void close() noexcept { state_->close(); }

private:
    std::shared_ptr<state> state_;
};

template <class T>
using connection_pool = basic_connection_pool<T>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/connection_pool.hpp>
