// SPDX-License-Identifier: BSL-1.0
// A bounded pool of threads for work that would block an event loop.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>

TIDEGATE_BEGIN_NAMESPACE

/// What a pool does with a job when its queue is full.
enum class when_full {
    /// The submitting operation waits in line for room; no thread is blocked.
    wait,
    /// The new job fails with `error::queue_full`.
    reject,
    /// The job that has been queued longest fails with `error::dropped`; the new one is queued.
    drop_oldest,
};

/// Settings of a worker pool, with their defaults.
class worker_pool_options {
public:
    /// Threads, 1 to 4096; default: the number of hardware threads.
    worker_pool_options& threads(std::size_t n) {
        detail::check_option<std::size_t>("worker_pool threads", n, 1, 4096);
        threads_ = n;
        return *this;
    }
    /// Jobs that may be queued beside those that run, 1 to 2^32; default 1024.
    worker_pool_options& queue(std::size_t n) {
        detail::check_option<std::size_t>("worker_pool queue", n, 1, std::size_t{1} << 32);
        queue_ = n;
        return *this;
    }
    /// Default: wait.
    worker_pool_options& full(when_full policy) {
        full_ = policy;
        return *this;
    }
    /// How long one thread without a job looks out for the next before it goes to sleep, 0 to 1 ms;
    /// default 10 us. Waking a sleeping thread takes longer than that, so under load it saves
    /// processor time as well as waiting; an idle pool sleeps. Never more than one thread spins.
    worker_pool_options& spin(std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>("worker_pool spin in ns", time.count(), 0, 1000000);
        spin_ = time;
        return *this;
    }
    /// Threads are called `name-0`, `name-1`, ... (Linux shows 15 characters); default "worker".
    worker_pool_options& name(std::string value) {
        name_ = std::move(value);
        return *this;
    }
    /// Gets what a detached job threw, on the thread where it was thrown; must not throw itself.
    /// Default: one line on standard error.
    worker_pool_options& on_exception(std::function<void(std::exception_ptr)> handler) {
        if (!handler) throw std::invalid_argument("tidegate: worker_pool on_exception is empty");
        on_exception_ = std::move(handler);
        return *this;
    }

    std::size_t threads() const noexcept { return threads_; }
    std::size_t queue() const noexcept { return queue_; }
    when_full full() const noexcept { return full_; }
    std::chrono::nanoseconds spin() const noexcept { return spin_; }
    std::string const& name() const noexcept { return name_; }
    std::function<void(std::exception_ptr)> const& on_exception() const noexcept {
        return on_exception_;
    }

    worker_pool_options();

private:
    std::size_t threads_;
    std::size_t queue_ = 1024;
    when_full full_ = when_full::wait;
    std::chrono::nanoseconds spin_ = std::chrono::microseconds(10);
    std::string name_ = "worker";
    std::function<void(std::exception_ptr)> on_exception_;
};

namespace detail {

template <class Executor>
class worker_pool_state;
class worker_pool_access;
struct submit_job;

template <class Result>
struct submit_signature {
    using type = void(std::exception_ptr, Result);
};
template <>
struct submit_signature<void> {
    using type = void(std::exception_ptr);
};

} // namespace detail

/// A bounded pool of threads with a bounded queue, for CPU-bound and blocking work.
///
///     auto image = co_await pool.submit(decode);   // runs on the pool, resumes here
///
/// Guarantees: jobs start in the order in which they were submitted. At most `queue()` jobs are
/// queued. A job that was cancelled, dropped or refused never starts; one that started runs to its
/// end, and its result is delivered. No call blocks the calling thread, apart from `join` and the
/// destructor, so a job that submits to its own full pool cannot deadlock it.
///
/// Executors: the job runs on a thread of the pool, the handler on its associated executor, by
/// default the pool's, never inside a call of this class. A submitted job holds work on both
/// executors until its handler runs.
///
/// Cancellation: total, partial and terminal cancellation take a waiting or queued job out in O(1)
/// with `operation_aborted`; a job that runs is not disturbed.
///
/// Failures arrive as std::exception_ptr: what the job threw, or a boost::system::system_error
/// with `error::queue_full`, `error::dropped`, `error::closed` or `operation_aborted`.
///
/// Destroying the pool, or the execution context of its executor, refuses what is queued and waits
/// for the jobs that run.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. Memory: one allocation for an awaited job, from its handler's associated allocator;
/// none for a detached one whose callable has at most 64 bytes and moves without throwing, once
/// the pool has held as many before.
template <class Executor = boost::asio::any_io_executor>
class basic_worker_pool {
    using state = detail::worker_pool_state<Executor>;
    using default_token = detail::default_token_t<Executor>;

    template <class Function>
    using result_of = std::invoke_result_t<std::decay_t<Function>&>;
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

    /// `close()`, then waits for the jobs that run.
    ~basic_worker_pool() {
        if (!state_) return;
        state_->close();
        state_->join();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    // Submitting --------------------------------------------------------------------------------

    /// Runs `job()` on the pool. Completion signature: `void(std::exception_ptr, R)` for a job that
    /// returns `R`, `void(std::exception_ptr)` for void. `R` must be default constructible
    /// (`submit` needs less).
    template <class Function,
              boost::asio::completion_token_for<signature_of<Function>> Token = default_token>
    auto async_submit(Function&& job, Token&& token = Token()) {
        return boost::asio::async_initiate<Token, signature_of<Function>>(
            detail::initiation<state, detail::submit_job>(*state_), token,
            std::decay_t<Function>(std::forward<Function>(job)));
    }

    /// For coroutines: runs `job()` on the pool and returns what it returns, or throws what it
    /// throws. With g++ 12.2 a lambda written directly into the awaited call would be destroyed
    /// twice: it has to be named first (a static_assert says so).
    template <class CoroutineExecutor = executor_type, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor> submit(Function&& job) {
        static_assert(detail::survives_await_as_temporary<Function&&>,
                      "g++ before 12.3 destroys this temporary twice: name the callable, and pass "
                      "the name or std::ref(name)");
        return submit_copy<CoroutineExecutor>(std::decay_t<Function>(std::forward<Function>(job)));
    }

    /// Runs `job()` on the pool and nobody waits for it; what it throws goes to `on_exception`.
    /// False if it was not taken: the pool is closed, or its queue is full and the policy is not
    /// `drop_oldest`.
    template <class Function>
    [[nodiscard]] bool post(Function&& job) {
        return state_->post(std::decay_t<Function>(std::forward<Function>(job)));
    }

    // Observers ---------------------------------------------------------------------------------

    /// Threads.
    std::size_t size() const noexcept { return state_->settings().threads(); }
    /// Jobs that are queued, not counting those that wait for room.
    std::size_t queued() const noexcept { return state_->queued(); }
    /// Jobs that wait for room in the queue.
    std::size_t waiting() const noexcept { return state_->waiting(); }
    /// Jobs that run.
    std::size_t active() const noexcept { return state_->active(); }
    /// False once closed or draining.
    bool is_open() const noexcept { return state_->accepts(); }

    // Ending ------------------------------------------------------------------------------------

    /// Takes no more jobs. Those that are queued or wait for room fail with `error::closed`.
    void close() noexcept { state_->close(); }

    /// Takes no more jobs; runs those that it has.
    void drain() noexcept { state_->drain(); }

    /// After `close` or `drain`: blocks until all jobs have ended. On a thread of the pool it
    /// returns at once.
    void join() noexcept { state_->join(); }

private:
    friend class detail::worker_pool_access;

    template <class CoroutineExecutor, class Function>
    boost::asio::awaitable<result_of<Function>, CoroutineExecutor> submit_copy(Function job) {
        using result = result_of<Function>;
        if constexpr (std::is_void_v<result> || std::is_default_constructible_v<result>) {
            co_return co_await async_submit(std::move(job), boost::asio::deferred);
        } else {
            auto in_optional = [call = std::move(job)]() mutable {
                return std::optional<result>(call());
            };
            auto value = co_await async_submit(std::move(in_optional), boost::asio::deferred);
            co_return std::move(*value);
        }
    }

    std::shared_ptr<state> state_;
};

using worker_pool = basic_worker_pool<>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/worker_pool.hpp>
