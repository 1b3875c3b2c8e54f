// SPDX-License-Identifier: BSL-1.0
// Measures how long named operations take, and what comes of them.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/compat.hpp>
#include <tidegate/detail/monitored_operation.hpp>
#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/monitor_report.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {
template <class Clock>
class monitor_state;
} // namespace detail

/// How a monitor is set, with the defaults.
class monitor_options {
public:
    /// How many operations have a name of their own, 1 to 100,000; default 1000. Those that come
    /// later share one named `(other)`: names made from user input cannot fill the memory.
    monitor_options& max_operations(std::size_t n) {
        detail::check_option<std::size_t>("monitor max_operations", n, 1, 100'000);
        max_operations_ = n;
        return *this;
    }
    /// How many of the last operations are kept one by one, 0 to 1 million; default 0. Costs a lock
    /// and a copy of the name each.
    monitor_options& keep_last(std::size_t n) {
        detail::check_option<std::size_t>("monitor keep_last", n, 0, 1'000'000);
        keep_last_ = n;
        return *this;
    }
    /// Told of what a sink throws. Must not throw. Default: one line on standard error.
    monitor_options& on_exception(std::function<void(std::exception_ptr)> handler) {
        on_exception_ = std::move(handler);
        return *this;
    }

    std::size_t max_operations() const noexcept { return max_operations_; }
    std::size_t keep_last() const noexcept { return keep_last_; }

private:
    template <class>
    friend class detail::monitor_state;

    std::size_t max_operations_ = 1000;
    std::size_t keep_last_ = 0;
    std::function<void(std::exception_ptr)> on_exception_;
};

/// Durations, outcomes, hits and misses of named operations.
///
///     auto timer = monitor.measure("decode");                       // ends with its scope
///     auto rows = co_await monitor.track("query", run_query);       // with its outcome
///     co_spawn(context, monitor.report_every(60s, print), detached);
///
/// Guarantees. Every run is counted once, by how it ended, on every way out. Count, total, minimum
/// and maximum are exact, percentiles off by at most 0.28 %; runs that failed, were cancelled or
/// timed out do not mix into the times of those that ended well. See `latency_recorder`, which
/// holds them: recording waits for nobody, and reading disturbs nobody. Windows are differences of
/// what was recorded in all, so no percentile is ever averaged.
///
/// An operation is made on first use and stays. By name it costs a lock and a look-up; keep what
/// `operation()` returns for hot paths, where a measurement costs two readings of the clock and
/// about 5 ns.
///
/// Thread-safe. Timers must not outlive the monitor: mind those in coroutines that the execution
/// context destroys. Handles, and what is tracked, may.
template <class Clock = std::chrono::steady_clock>
class basic_monitor {
    using state = detail::monitor_state<Clock>;
    using record_type = detail::monitored_operation<Clock>;

public:
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

    class operation_handle;

    /// Records the time from its start to its end, once. May be moved, live across `co_await` and
    /// end on another thread.
    class [[nodiscard]] scoped_timer {
    public:
        scoped_timer(scoped_timer&& other) noexcept
            : operation_(std::exchange(other.operation_, nullptr)),
              start_(other.start_),
              exceptions_(other.exceptions_),
              outcome_(other.outcome_) {}
        scoped_timer& operator=(scoped_timer&&) = delete;
        /// Ends as told, else with `ok`, or with `error` if an exception is on its way.
        ~scoped_timer() {
            if (!operation_) return;
            bool const thrown = std::uncaught_exceptions() > exceptions_;
            stop(thrown && outcome_ == operation_outcome::ok ? operation_outcome::error : outcome_);
        }

        /// What it ends with if it is not stopped.
        void set_outcome(operation_outcome outcome) noexcept { outcome_ = outcome; }

        /// Records now instead of at the end.
        void stop(operation_outcome outcome = operation_outcome::ok) noexcept {
            if (auto* const op = std::exchange(operation_, nullptr))
                op->record(Clock::now() - start_, outcome);
        }

        /// Records nothing.
        void discard() noexcept { operation_ = nullptr; }

    private:
        friend class operation_handle;
        friend class basic_monitor;
        scoped_timer(record_type& op, time_point start) noexcept
            : operation_(&op), start_(start), exceptions_(std::uncaught_exceptions()) {}

        record_type* operation_;
        time_point start_;
        int exceptions_;
        operation_outcome outcome_ = operation_outcome::ok;
    };

    /// Records by how much the process grew meanwhile, too.
    class [[nodiscard]] memory_scope {
    public:
        memory_scope(memory_scope&& other) noexcept
            : operation_(std::exchange(other.operation_, nullptr)), before_(other.before_) {}
        memory_scope& operator=(memory_scope&&) = delete;
        ~memory_scope() {
            if (operation_) operation_->record_memory(before_, read_memory_usage());
        }

    private:
        friend class operation_handle;
        friend class basic_monitor;
        explicit memory_scope(record_type& op) noexcept
            : operation_(&op), before_(read_memory_usage()) {}

        record_type* operation_;
        std::optional<memory_usage> before_;
    };

    /// An operation, looked up once. Copies are the same operation. Keeps what it records alive.
    class operation_handle {
    public:
        scoped_timer measure() const noexcept { return {*operation_, Clock::now()}; }
        /// From when it should have started: what waited in line counts from there.
        scoped_timer measure(time_point intended_start) const noexcept {
            return {*operation_, intended_start};
        }
        memory_scope measure_memory() const noexcept { return memory_scope(*operation_); }

        /// A duration measured elsewhere.
        void record(duration took,
                    operation_outcome outcome = operation_outcome::ok) const noexcept {
            operation_->record(took, outcome);
        }
        /// One of a load that calls again when the last call has ended, `expected` apart: adds the
        /// calls that could not be made meanwhile (coordinated omission).
        void record_corrected(duration took, duration expected) const noexcept {
            operation_->record_corrected(took, expected);
        }
        void hit() const noexcept { operation_->hit(); }
        void miss() const noexcept { operation_->miss(); }

        std::string const& name() const noexcept { return operation_->name(); }

        /// See `basic_monitor::track`.
        template <class CoroutineExecutor = boost::asio::any_io_executor, class Op>
        auto track(Op&& op) const {
            return track<CoroutineExecutor>(std::forward<Op>(op), Clock::now());
        }
        template <class CoroutineExecutor = boost::asio::any_io_executor, class Op>
        auto track(Op&& op, time_point intended_start) const {
            static_assert(detail::survives_await_as_temporary<Op&&>,
                          "g++ before 12.3 destroys this temporary twice: name the operation, and "
                          "pass the name or std::ref(name)");
            return run<CoroutineExecutor>(*this, intended_start,
                                          std::decay_t<Op>(std::forward<Op>(op)));
        }

    private:
        friend class basic_monitor;
        operation_handle(std::shared_ptr<state> owner, record_type& op) noexcept
            : owner_(std::move(owner)), operation_(&op) {}

        using context = basic_call_context<Clock>;
        template <class Op>
        using traits = detail::operation_traits<Op, context>;

        template <class CoroutineExecutor, class Op>
        static boost::asio::awaitable<typename traits<Op>::value, CoroutineExecutor>
        run(operation_handle operation, time_point start, Op op);

        std::shared_ptr<state> owner_;
        record_type* operation_;
    };

    explicit basic_monitor(monitor_options settings = {})
        : state_(std::make_shared<state>(std::move(settings))) {}
    basic_monitor(basic_monitor const&) = delete;
    basic_monitor& operator=(basic_monitor const&) = delete;

    // Recording ---------------------------------------------------------------------------------

    /// The operation of that name.
    operation_handle operation(std::string_view name) {
        return operation_handle(state_, state_->operation(name));
    }

    scoped_timer measure(std::string_view name) { return {state_->operation(name), Clock::now()}; }
    scoped_timer measure(std::string_view name, time_point intended_start) {
        return {state_->operation(name), intended_start};
    }
    memory_scope measure_memory(std::string_view name) {
        return memory_scope(state_->operation(name));
    }

    void record(std::string_view name, duration took,
                operation_outcome outcome = operation_outcome::ok) {
        state_->operation(name).record(took, outcome);
    }
    void record_corrected(std::string_view name, duration took, duration expected) {
        state_->operation(name).record_corrected(took, expected);
    }
    void hit(std::string_view name) { state_->operation(name).hit(); }
    void miss(std::string_view name) { state_->operation(name).miss(); }

    /// Runs `op` (a function that returns an awaitable or takes a completion token) from a
    /// coroutine, and records how long that took and how it ended: with its result, with a failure,
    /// cancelled, out of time, or not at all, its coroutine destroyed. Results and exceptions pass
    /// through. The operation is copied; use std::ref for one that must not be.
    template <class CoroutineExecutor = boost::asio::any_io_executor, class Op>
    auto track(std::string_view name, Op&& op) {
        return operation(name).template track<CoroutineExecutor>(std::forward<Op>(op));
    }
    template <class CoroutineExecutor = boost::asio::any_io_executor, class Op>
    auto track(std::string_view name, Op&& op, time_point intended_start) {
        return operation(name).template track<CoroutineExecutor>(std::forward<Op>(op),
                                                                 intended_start);
    }

    // Reading -----------------------------------------------------------------------------------

    /// All operations since the beginning, by name.
    std::vector<operation_summary> summary() const { return state_->summary(); }
    /// Of the last `window`, 1 s to 5 min: of up to 10 s to within a second, up to a minute to
    /// within 10 s, above to within a minute, and all that to within the time between two calls of
    /// any of these functions; `report_every` makes one each second.
    std::vector<operation_summary> summary(std::chrono::nanoseconds window) const {
        return state_->summary(window);
    }
    /// The durations of an operation that ended so; empty if there is none of that name.
    core::histogram durations(std::string_view name,
                              operation_outcome outcome = operation_outcome::ok) const {
        return state_->durations(name, outcome);
    }
    /// The last operations, the newest last.
    std::vector<finished_operation> last_operations() const { return state_->last_operations(); }

    /// Calls `sink(monitor_report const&)`, which may return an awaitable, every `period` (1 s to 5
    /// min), until it is cancelled, also after the monitor has gone. What a sink throws goes to
    /// `on_exception`, and the reports go on.
    template <class CoroutineExecutor = boost::asio::any_io_executor, class Sink>
    boost::asio::awaitable<void, CoroutineExecutor> report_every(std::chrono::nanoseconds period,
                                                                 Sink sink) {
        detail::check_option<std::int64_t>("monitor report_every period in ns", period.count(),
                                           1'000'000'000, 300'000'000'000);
        return state::template report_every<CoroutineExecutor>(state_, period, std::move(sink));
    }

private:
    std::shared_ptr<state> state_;
};

using monitor = basic_monitor<>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/monitor.hpp>
