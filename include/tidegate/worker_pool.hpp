// SPDX-License-Identifier: BSL-1.0
// A bounded pool of threads for work that would block an event loop.
#pragma once

#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/pool_job.hpp>
#include <tidegate/detail/worker_pool_fwd.hpp>
#include <tidegate/worker_pool_options.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {

struct submit_job;

template <class Result>
struct submit_signature {
    using type = void(std::exception_ptr, Result);
};
template <>
struct submit_signature<void> {
    using type = void(std::exception_ptr);
};

/// How a job is submitted.
struct submission {
    job_priority priority = job_priority::normal;
    bool may_wait = true; // for room in the queue, if that is the pool's policy
};

} // namespace detail

/// A bounded pool of threads with a bounded queue, for CPU-bound and blocking work.
///
///     auto image = co_await pool.submit(decode);   // runs on the pool, resumes here
///
/// Guarantees: jobs of one priority start in the order in which they were submitted, and more
/// urgent ones before others, within the bounds of `patience`. At most `queue()` jobs are queued. A
/// job that was cancelled, dropped or refused never starts; one that started runs to its end, and
/// its result is delivered. No call blocks the calling thread, apart from `join`, the destructor
/// and the job itself under `when_full::caller_runs`, so a job that submits to its own full pool
/// cannot deadlock it.
///
/// A job is a callable without parameters, or one that takes a std::stop_token; that is asked to
/// stop by cancelling its operation while it runs, by `stop()` and by the pool's end. It ends when
/// it likes, with a result or an exception, which is delivered as ever.
///
/// Executors: the job runs on a thread of the pool, the handler on its associated executor, by
/// default the pool's, never inside a call of this class. A submitted job holds work on both
/// executors until its handler runs. Handlers on the pool's executor run in bursts: all that are
/// due run one after the other, by one of the threads that run an io_context, and one that blocks
/// there until a later one has run waits for ever. Those with another executor, such as a strand
/// each, run on their own.
///
/// Cancellation: total, partial and terminal cancellation take a waiting or queued job out in O(1)
/// with `operation_aborted`; of a job that runs on the pool, they ask its stop token to stop, if it
/// has one.
///
/// Failures arrive as std::exception_ptr: what the job threw, or a boost::system::system_error
/// with `error::queue_full`, `error::dropped`, `error::closed` or `operation_aborted`.
///
/// Destroying the pool, or the execution context of its executor, refuses what is queued, asks what
/// runs to stop, and waits for it. The child of a fork() has no threads to wait for: there neither
/// may be used or destroyed.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. Memory: one allocation for an awaited job, from its handler's associated allocator;
/// none for a detached one of at most 64 bytes that moves without throwing, once the pool has held
/// as many (until then one for up to 128; it keeps room for the most that it ever held); one more
/// for a job that takes a stop token, and for a result that may throw when it is moved. The
/// statistics grow when a time is longer than all before, and lose it when there is no memory for
/// that.
template <class Executor = boost::asio::any_io_executor>
class basic_worker_pool {
    using state = detail::worker_pool_state<Executor>;
    using default_token = detail::default_token_t<Executor>;

    template <class Function>
    using result_of = typename detail::job_result<std::decay_t<Function>>::type;
    template <class Function>
    using signature_of = typename detail::submit_signature<result_of<Function>>::type;

public:
    using executor_type = Executor;
    using options = worker_pool_options;

    template <class OtherExecutor>
    struct rebind_executor {
        using other = basic_worker_pool<OtherExecutor>;
    };

    /// Starts the threads. Throws std::system_error when the system refuses one.
    explicit basic_worker_pool(executor_type executor, options settings = {})
        : state_(state::make(executor, std::move(settings))) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    explicit basic_worker_pool(Context& context, options settings = {})
        : basic_worker_pool(executor_type(context.get_executor()), std::move(settings)) {}

    /// The moved-from pool may only be destroyed.
    basic_worker_pool(basic_worker_pool&&) noexcept = default;
    basic_worker_pool& operator=(basic_worker_pool&&) = delete;

    /// `stop()`, then waits for the jobs that run; on a thread of the pool it does not wait. The
    /// callable of an awaited job goes when its result is delivered, which may be later.
    ~basic_worker_pool() {
        if (!state_) return;
        state_->stop();
        state_->join();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    // Submitting --------------------------------------------------------------------------------
    // Each takes the job's priority as an optional first argument, and throws std::invalid_argument
    // where that is a number which is none of them.

    /// Runs `job()` on the pool. Completion signature: `void(std::exception_ptr, R)` for a job that
    /// returns `R`, `void(std::exception_ptr)` for void. `R` must be default constructible and move
    /// constructible, both without throwing; `submit` takes any that can be moved.
    template <class Function,
              boost::asio::completion_token_for<signature_of<Function>> Token = default_token>
    auto async_submit(Function&& job, Token&& token = Token()) {
        return initiate<Function, Token>(std::forward<Function>(job), {}, token);
    }
    template <class Function,
              boost::asio::completion_token_for<signature_of<Function>> Token = default_token>
    auto async_submit(job_priority priority, Function&& job, Token&& token = Token()) {
        return initiate<Function, Token>(std::forward<Function>(job),
                                         {detail::known(priority), true}, token);
    }

    /// As `async_submit`, but never waits for room: where the others would wait in line, this one
    /// fails with `error::queue_full`.
    template <class Function,
              boost::asio::completion_token_for<signature_of<Function>> Token = default_token>
    auto async_try_submit(Function&& job, Token&& token = Token()) {
        return initiate<Function, Token>(std::forward<Function>(job), {job_priority::normal, false},
                                         token);
    }
    template <class Function,
              boost::asio::completion_token_for<signature_of<Function>> Token = default_token>
    auto async_try_submit(job_priority priority, Function&& job, Token&& token = Token()) {
        return initiate<Function, Token>(std::forward<Function>(job),
                                         {detail::known(priority), false}, token);
    }

    /// For coroutines: runs `job()` on the pool and returns what it returns, or throws what it
    /// throws, or what moving the result throws. With g++ 12.2 a lambda written directly into the
    /// awaited call would be destroyed twice: it has to be named first (a static_assert says so).
    template <class CoroutineExecutor = executor_type, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor> submit(Function&& job) {
        return submit_named<CoroutineExecutor>(std::forward<Function>(job), {});
    }
    template <class CoroutineExecutor = executor_type, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor> submit(job_priority priority,
                                                                          Function&& job) {
        return submit_named<CoroutineExecutor>(std::forward<Function>(job),
                                               {detail::known(priority), true});
    }

    /// For coroutines: `async_try_submit`, throwing what it reports.
    template <class CoroutineExecutor = executor_type, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor> try_submit(Function&& job) {
        return submit_named<CoroutineExecutor>(std::forward<Function>(job),
                                               {job_priority::normal, false});
    }
    template <class CoroutineExecutor = executor_type, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor> try_submit(job_priority priority,
                                                                              Function&& job) {
        return submit_named<CoroutineExecutor>(std::forward<Function>(job),
                                               {detail::known(priority), false});
    }

    /// Runs `job()` on the pool and nobody waits for it; what it throws goes to `on_exception`.
    /// False if it was not taken: the pool is closed, or its queue is full and the policy is to
    /// wait or to reject.
    template <class Function>
    [[nodiscard]] bool post(Function&& job) {
        return state_->post(detail::plain_job(std::forward<Function>(job)));
    }
    template <class Function>
    [[nodiscard]] bool post(job_priority priority, Function&& job) {
        return state_->post(detail::plain_job(std::forward<Function>(job)), false,
                            detail::known(priority));
    }

    // Observers ---------------------------------------------------------------------------------

    /// Threads that the pool is to have.
    std::size_t size() const noexcept { return state_->size(); }
    /// Jobs that are queued, not counting those that wait for room.
    std::size_t queued() const noexcept { return state_->queued(); }
    /// Jobs that wait for room in the queue.
    std::size_t waiting() const noexcept { return state_->waiting(); }
    /// Jobs that run.
    std::size_t active() const noexcept { return state_->active(); }
    /// False once closed or draining.
    bool is_open() const noexcept { return state_->accepts(); }
    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: rejected, dropped, cancelled, and, on the thread that runs the job, job_started and
    /// job_finished, with what it threw. The clock is read for each job that is submitted while
    /// somebody listens.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("worker_pool", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.gauge("tidegate_worker_pool_threads", "Threads", static_cast<double>(all.threads));
        to.gauge("tidegate_worker_pool_active", "Jobs that run", static_cast<double>(all.active));
        to.gauge("tidegate_worker_pool_queued", "Jobs in the queue",
                 static_cast<double>(all.queued));
        to.gauge("tidegate_worker_pool_waiting", "Who wait for room in the queue",
                 static_cast<double>(all.waiting));
        to.counter("tidegate_worker_pool_started", "Jobs started on threads of the pool",
                   static_cast<double>(all.started));
        to.counter("tidegate_worker_pool_caller_ran", "Jobs run by who submitted them",
                   static_cast<double>(all.caller_ran));
        to.counter("tidegate_worker_pool_rejected", "Jobs refused by a full queue",
                   static_cast<double>(all.rejected));
        to.counter("tidegate_worker_pool_dropped", "Jobs that made room for newer ones",
                   static_cast<double>(all.dropped));
        to.counter("tidegate_worker_pool_cancelled", "Jobs cancelled before they started",
                   static_cast<double>(all.cancelled));
        to.gauge("tidegate_worker_pool_wait_p99_seconds",
                 "99th percentile of the time in the queue",
                 static_cast<double>(std::chrono::duration<double>(all.wait.p99).count()));
        to.gauge("tidegate_worker_pool_run_p99_seconds", "99th percentile of the time a job runs",
                 static_cast<double>(std::chrono::duration<double>(all.run.p99).count()));
    }

    /// Counts and times so far; O(1), but takes some microseconds for the percentiles.
    worker_pool_statistics statistics() const { return state_->statistics(); }

    // Resizing ----------------------------------------------------------------------------------

    /// From now on `threads` threads, 1 to 4096, otherwise throws std::invalid_argument. New ones
    /// are started before it returns; those too many leave after the job that they run, and no job
    /// is lost. Throws std::system_error when the system refuses a thread: the pool has as many as
    /// could be had. No effect once closed or draining.
    void resize(std::size_t threads) { state_->resize(state_, threads); }

    // Ending ------------------------------------------------------------------------------------

    /// Takes no more jobs. Those that are queued or wait for room fail with `error::closed`; those
    /// that run end undisturbed.
    void close() noexcept { state_->close(); }

    /// `close()`, and asks the jobs that run to stop, through their stop tokens.
    void stop() noexcept { state_->stop(); }

    /// Takes no more jobs; runs those that it has.
    void drain() noexcept { state_->drain(); }

    /// After `close`, `stop` or `drain`: blocks until all jobs have ended. On a thread of the pool
    /// it returns at once.
    void join() noexcept { state_->join(); }

private:
    friend std::shared_ptr<state> const&
    detail::state_of<Executor>(basic_worker_pool const& pool) noexcept;

    template <class Function, class Token>
    auto initiate(Function&& job, detail::submission how, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature_of<Function>>(
            detail::initiation<state, detail::submit_job>(*state_), token,
            detail::plain_job(std::forward<Function>(job)), how);
    }

    template <class CoroutineExecutor, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor>
    submit_named(Function&& job, detail::submission how) {
        static_assert(detail::survives_await_as_temporary<Function&&>,
                      "g++ before 12.3 destroys this temporary twice: name the callable, and pass "
                      "the name or std::ref(name)");
        return submit_copy<CoroutineExecutor, result_of<Function>>(
            detail::plain_job(std::forward<Function>(job)), how);
    }

    template <class CoroutineExecutor, class Result, class Job>
    boost::asio::awaitable<Result, CoroutineExecutor> submit_copy(Job job, detail::submission how) {
        using boost::asio::deferred;
        if constexpr (detail::travels_in_silence<Result>) {
            co_return co_await initiate<Job, decltype(deferred)>(std::move(job), how, deferred);
        } else {
            auto holding = detail::into_holder(std::move(job));
            using wrapped = decltype(holding);
            auto value =
                co_await initiate<wrapped, decltype(deferred)>(std::move(holding), how, deferred);
            co_return std::move(*value);
        }
    }

    std::shared_ptr<state> state_;
};

using worker_pool = basic_worker_pool<>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/worker_pool.hpp>
