// SPDX-License-Identifier: BSL-1.0
// Coroutines that run beside each other and never outlive their scope.
#pragma once

#include <tidegate/detail/compat.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// What the failure of one task means to the others.
enum class on_task_failure {
    /// They are cancelled.
    cancel_others,
    /// Nothing.
    keep_going,
};

namespace detail {
class task_scope_state;
struct join_scope;

/// A callable without parameters that returns an awaitable<void>.
template <class Function>
concept starts_task = returns_awaitable<Function> &&
                      std::is_void_v<typename awaited_type<std::invoke_result_t<Function&>>::type>;
} // namespace detail

/// Structured concurrency for detached coroutines. Most often through `with_scope`:
///
///     co_await tidegate::with_scope([&](tidegate::task_scope& scope) -> asio::awaitable<void> {
///         co_await connection.connect();
///         scope.on_exit([&] { return connection.close(); });
///         scope.spawn([&] { return read_all(connection); });
///         scope.spawn([&] { return write_all(connection); });
///     });   // both have ended and the connection is closed, whatever happened
///
/// Guarantees: `join` completes when all tasks, those that they spawned too, and then all clean-ups
/// have ended. It reports the first failure of a task, by time, never the cancellations that
/// followed it; by default a failure cancels the other tasks. Clean-ups run when the last task has
/// ended, one after the other, the last one added first, and cannot be cancelled; each runs once,
/// on every way out: all tasks ended well, one failed, the scope was cancelled, or destroyed
/// without a join.
///
/// The destructor does not block: it cancels the tasks, which then end on their own, and the
/// clean-ups after them; that is the one case in which something outlives the scope object. What
/// tasks refer to has to outlive the join. Where there is no memory to begin the clean-ups, `join`
/// reports std::bad_alloc and none runs.
///
/// Executors: tasks run on the scope's executor, each on a strand of its own if that may run
/// functions at the same time (see `parallel_map`). Join handlers run on their associated executor,
/// by default the scope's.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. Cancelling a `join` operation ends that operation alone. Destroying the execution
/// context destroys tasks and clean-ups where they stand. One task allocates some eight
/// times: its coroutine, its entry, and what Asio needs to run that.
class task_scope {
    using state = detail::task_scope_state;

public:
    using executor_type = boost::asio::any_io_executor;
    using signature = void(std::exception_ptr);

    explicit task_scope(executor_type executor,
                        on_task_failure reaction = on_task_failure::cancel_others);

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    explicit task_scope(Context& context, on_task_failure reaction = on_task_failure::cancel_others)
        : task_scope(executor_type(context.get_executor()), reaction) {}

    /// The moved-from scope may only be destroyed.
    task_scope(task_scope&&) noexcept = default;
    task_scope& operator=(task_scope&&) = delete;
    ~task_scope();

    executor_type get_executor() const noexcept;

    /// Starts `co_await task()` beside the caller: called where the task is to run, that is, by a
    /// coroutine of the scope's executor if that runs one thing at a time, this returns when the
    /// task suspends for the first time or ends, elsewhere before it runs. So hold no lock across
    /// it; and tasks that each spawn the next one before they suspend nest on the stack. The
    /// callable is moved in and lives as long as its coroutine. False if the scope takes no more:
    /// it was closed, or cancelled, or all has ended after a `join`; the callable is then destroyed
    /// uncalled.
    template <class Function>
        requires detail::starts_task<std::decay_t<Function>>
    bool spawn(Function&& task);

    /// Runs `co_await cleanup()` once all tasks have ended. False, as `spawn`, if that has been
    /// already; after `close` and `cancel` clean-ups are still taken. What it throws is reported by
    /// `join` if no task failed before.
    template <class Function>
        requires detail::starts_task<std::decay_t<Function>>
    bool on_exit(Function&& cleanup);

    /// Takes no more tasks, and cancels those that run. Throws std::bad_alloc when there is no
    /// memory to tell one of them, after it has told the others; where a failure or the destructor
    /// cancels them, that one runs to its own end.
    void cancel();

    /// Takes no more tasks, but those that run may go on.
    void close() noexcept;

    /// Tasks that run.
    std::size_t size() const noexcept;

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_task_scope_running", "Tasks that run", static_cast<double>(size()));
    }

    /// True once there was a join and everything has ended.
    bool has_ended() const noexcept;

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: job_started and job_finished, where the task runs, the latter with what it threw;
    /// rejected, for a task that is not taken; and of those who join and leave: cancelled.
    /// Clean-ups are not told. The clock is read twice a task while somebody listens.
    void observe(std::shared_ptr<trace_observer> observer, std::string name);

    /// Completes when everything has ended. Completion signature: `void(std::exception_ptr)`, with
    /// the first failure. Several may join; until everything has ended, tasks may go on to spawn
    /// others. Cancellation: total, partial and terminal, with `operation_aborted`.
    template <
        boost::asio::completion_token_for<signature> Token = detail::default_token_t<executor_type>>
    auto async_join(Token&& token = Token());

    /// For coroutines: `async_join`, throwing what it reports.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<void, CoroutineExecutor> join();

private:
    std::shared_ptr<state> state_;
};

namespace detail {
template <class Body>
using scoped_result = typename awaited_type<std::invoke_result_t<Body&, task_scope&>>::type;

template <class Body>
boost::asio::awaitable<scoped_result<Body>> run_in_scope(Body body, on_task_failure reaction);
} // namespace detail

/// Runs `co_await body(scope)` and everything that it spawns, and returns what `body` returned when
/// all of it has ended. Throws the first failure, of the body or of a task: each is cancelled when
/// another one fails, unless `reaction` says otherwise. Cancelling the caller cancels them all,
/// waits for them, and throws boost::system::system_error with `operation_aborted`, unless all of
/// them ended well in spite of it.
template <class Body>
    requires detail::returns_awaitable<std::decay_t<Body>, task_scope&>
auto with_scope(Body&& body, on_task_failure reaction = on_task_failure::cancel_others) {
    static_assert(detail::survives_await_as_temporary<Body&&>,
                  "g++ before 12.3 destroys this temporary twice: name the body, and pass the name "
                  "or std::ref(name)");
    return detail::run_in_scope(std::decay_t<Body>(std::forward<Body>(body)), reaction);
}

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/task_scope.hpp>
