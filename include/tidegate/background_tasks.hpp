// SPDX-License-Identifier: BSL-1.0
// Tasks that outlive the request that started them: looked up, watched and cancelled by id.
#pragma once

#include <tidegate/channel.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Names a task. Ids count up from 1 and are never used twice by one registry.
struct task_id {
    std::uint64_t value = 0; ///< 0: no task
    auto operator<=>(task_id const&) const = default;
};

enum class task_state { queued, running, done, failed, cancelled };

constexpr bool has_ended(task_state s) noexcept {
    return s != task_state::queued && s != task_state::running;
}

/// "queued", "running", "done", "failed" or "cancelled".
constexpr std::string_view to_string(task_state s) noexcept {
    switch (s) {
    case task_state::queued: return "queued";
    case task_state::running: return "running";
    case task_state::done: return "done";
    case task_state::failed: return "failed";
    case task_state::cancelled: break;
    }
    return "cancelled";
}

/// A task at one moment.
template <class TimePoint>
struct basic_task_status {
    task_id id;
    std::string name;
    task_state state = task_state::queued;
    double progress = 0; ///< what the task said last, of `progress_of`
    double progress_of = 1;
    std::exception_ptr failure; ///< if it failed
    TimePoint queued_at{};
    std::optional<TimePoint> started_at;
    std::optional<TimePoint> ended_at;
};

/// A task has come into a state.
struct task_event {
    task_id id;
    task_state state = task_state::queued;
};

/// Settings of a registry of tasks, with their defaults.
class background_tasks_options {
public:
    /// Tasks that run at once, 1 to 2^32; others are queued, first in, first out. Default: 2^32.
    background_tasks_options& max_running(std::size_t n) {
        detail::check_option<std::size_t>("background_tasks max_running", n, 1,
                                          std::size_t{1} << 32);
        max_running_ = n;
        return *this;
    }
    /// Ended tasks that are remembered, 0 to 2^32; default 1000. Those that ended first go first.
    background_tasks_options& history(std::size_t n) {
        detail::check_option<std::size_t>("background_tasks history", n, 0, std::size_t{1} << 32);
        history_ = n;
        return *this;
    }
    /// How long they are, 0 to 10 years; default 1 hour. What is older goes, with its result, when
    /// the next task is spawned, ends, or is asked for by id, or all are listed.
    background_tasks_options& history_age(std::chrono::nanoseconds age) {
        detail::check_option<std::int64_t>("background_tasks history_age in ns", age.count(), 0,
                                           315'576'000'000'000'000);
        history_age_ = age;
        return *this;
    }

    std::size_t max_running() const noexcept { return max_running_; }
    std::size_t history() const noexcept { return history_; }
    std::chrono::nanoseconds history_age() const noexcept { return history_age_; }

private:
    std::size_t max_running_ = std::size_t{1} << 32;
    std::size_t history_ = 1000;
    std::chrono::nanoseconds history_age_ = std::chrono::hours(1);
};

namespace detail {
template <class Result, class Clock>
class background_tasks_state;
struct wait_for_task;
struct wait_for_all_tasks;

/// What a task says of itself.
struct task_progress {
    std::atomic<double> done{0};
    std::atomic<double> of{1};
};
} // namespace detail

/// What a task may know and tell about itself. Lives as long as the task's coroutine.
class task_context {
public:
    task_context(task_id id, detail::task_progress& progress) noexcept
        : id_(id), progress_(&progress) {}

    task_id id() const noexcept { return id_; }

    /// `done` of `of` is behind; any thread, at any time. A relaxed store, and no lock.
    void progress(double done) const noexcept {
        progress_->done.store(done, std::memory_order_relaxed);
    }
    void progress(double done, double of) const noexcept {
        progress_->of.store(of, std::memory_order_relaxed);
        progress(done);
    }

private:
    task_id id_;
    detail::task_progress* progress_;
};

/// A registry of background tasks, all of which result in `Result` (or void).
///
///     task_id id = tasks.spawn("report", [](task_context& self) -> asio::awaitable<report> {...});
///     ...
///     auto status = tasks.status(id);            // any time, from any thread
///     auto result = co_await tasks.wait(id);     // shared_ptr<report const>
///
/// Guarantees: `spawn` returns before the task runs. Every task ends in exactly one of done, failed
/// and cancelled, and is remembered until the bounds on history are passed. Live tasks are never
/// forgotten. Cancelling a queued task ends it; one that runs is cancelled by Asio's means, all
/// types, and is `cancelled` if it then ends with `operation_aborted`, else what it ended as.
///
/// The destructor does not block: it closes the registry and cancels the tasks, which end on their
/// own. For an orderly end: `close()`, then `wait_all()`.
///
/// Executors: tasks run on the registry's executor, each on a strand of its own if that may run
/// functions at the same time (see `parallel_map`). Handlers run on their associated executor, by
/// default the registry's. Cancelling a wait ends the wait, not the task: total, partial, terminal.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. Looking up a task is O(1), but for those that are forgotten on the occasion. A task
/// allocates some eight times: its entry, its coroutine, and what Asio needs to run that.
template <class Result, class Clock = std::chrono::steady_clock>
class basic_background_tasks {
    using state = detail::background_tasks_state<Result, Clock>;

public:
    using executor_type = boost::asio::any_io_executor;
    using clock_type = Clock;
    using options = background_tasks_options;
    using status_type = basic_task_status<typename Clock::time_point>;
    using events = basic_channel<task_event>;
    /// A task's result, shared by all who ask for it; nothing for void.
    using result_pointer =
        std::shared_ptr<std::conditional_t<std::is_void_v<Result>, void const, Result const>>;
    using wait_signature = void(std::exception_ptr, result_pointer);
    using wait_all_signature = void(error_code);

    explicit basic_background_tasks(executor_type executor, options settings = {})
        : state_(state::make(executor, settings)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    explicit basic_background_tasks(Context& context, options settings = {})
        : basic_background_tasks(executor_type(context.get_executor()), settings) {}

    /// The moved-from registry may only be destroyed.
    basic_background_tasks(basic_background_tasks&&) noexcept = default;
    basic_background_tasks& operator=(basic_background_tasks&&) = delete;
    ~basic_background_tasks() {
        if (!state_) return;
        state_->take_no_more();
        static_cast<void>(state_->cancel_all());
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// Registers a task and returns its id; it starts when there is room for one more to run.
    /// `task(context)` returns an awaitable<Result>; it is moved in and lives as long as its
    /// coroutine. Throws boost::system::system_error with `error::closed` once closed.
    template <class Function>
        requires detail::returns_awaitable<std::decay_t<Function>, task_context&>
    task_id spawn(std::string name, Function&& task) {
        return state_->spawn(std::move(name), std::decay_t<Function>(std::forward<Function>(task)));
    }

    /// Nothing if there is no such task, or it was forgotten.
    std::optional<status_type> status(task_id id) const { return state_->status(id); }

    /// All that are known, in the order in which they were spawned. O(n log n).
    std::vector<status_type> list() const { return state_->list(); }

    /// The result of a task that is done, else null.
    result_pointer result(task_id id) const { return state_->result(id); }

    /// Asks a task to end. False if there is no such task or it has ended. More than once does no
    /// harm.
    bool cancel(task_id id) { return state_->cancel_task(id); }
    /// Asks all. Throws std::bad_alloc when there is no memory to tell one of them, after it has
    /// told the others; where the destructor does this, that one runs to its own end.
    void cancel_all() {
        if (auto failure = state_->cancel_all()) std::rethrow_exception(std::move(failure));
    }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: job_started; job_finished, once for each task, with what it threw, and for one that
    /// was cancelled with `operation_aborted`, without having started if it was queued; rejected,
    /// for a task that is not taken; and of those who wait for tasks and leave: cancelled.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("background_tasks", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_background_tasks_live", "Tasks that have not ended",
                 static_cast<double>(live()));
    }

    /// Tasks that are queued or run.
    std::size_t live() const noexcept { return state_->live(); }

    /// Waits for the end of a task. Completion signature: `void(std::exception_ptr,
    /// result_pointer)`. Failures: what the task threw, or a boost::system::system_error with
    /// `operation_aborted` (the task or this wait was cancelled), `error::not_found` or
    /// `error::closed`, when the context goes.
    template <boost::asio::completion_token_for<wait_signature> Token =
                  detail::default_token_t<executor_type>>
    auto async_wait(task_id id, Token&& token = Token()) {
        return boost::asio::async_initiate<Token, wait_signature>(
            detail::initiation<state, detail::wait_for_task>(*state_), token, id);
    }
    /// For coroutines: `async_wait`, throwing what it reports.
    boost::asio::awaitable<result_pointer> wait(task_id id) {
        co_return co_await async_wait(id, boost::asio::deferred);
    }

    /// Takes no more tasks; those that it has go on.
    void close() noexcept { state_->take_no_more(); }

    /// Completes when no task is queued or runs. Completion signature: `void(error_code)`. Errors:
    /// `operation_aborted`, and `error::closed` when the context goes.
    template <boost::asio::completion_token_for<wait_all_signature> Token =
                  detail::default_token_t<executor_type>>
    auto async_wait_all(Token&& token = Token()) {
        return boost::asio::async_initiate<Token, wait_all_signature>(
            detail::initiation<state, detail::wait_for_all_tasks>(*state_), token);
    }
    /// For coroutines: `async_wait_all`, throwing what it reports.
    boost::asio::awaitable<void> wait_all() { co_await async_wait_all(boost::asio::deferred); }

    /// Every change of state from now on, in its order for each task. A subscriber that lags more
    /// than `capacity` events behind loses the oldest, which the channel's `dropped()` counts; an
    /// event that there is no memory for is lost uncounted. It unsubscribes by destroying the
    /// channel, which is closed when the registry goes and all its tasks have ended.
    events subscribe(std::size_t capacity = 256) { return state_->subscribe(capacity); }

private:
    std::shared_ptr<state> state_;
};

template <class Result>
using background_tasks = basic_background_tasks<Result>;

TIDEGATE_END_NAMESPACE

template <>
struct std::hash<tidegate::task_id> {
    std::size_t operator()(tidegate::task_id id) const noexcept {
        return std::hash<std::uint64_t>()(id.value);
    }
};

#include <tidegate/impl/background_tasks.hpp>
