// SPDX-License-Identifier: BSL-1.0
// The tasks of a scope, and those who wait for their end.
#pragma once

#include <tidegate/detail/side_task.hpp>
#include <tidegate/task_scope.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <list>
#include <new>
#include <optional>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct join_scope {};

/// A scope goes through three stages: tasks run (or may yet come), clean-ups run, all is over. The
/// second begins when there are no tasks and somebody joins or the scope was destroyed.
class task_scope_state final
    : public waiting_room<std::chrono::steady_clock, asio::any_io_executor, std::mutex> {
    using room = waiting_room<std::chrono::steady_clock, asio::any_io_executor, std::mutex>;

    class joiner : public waiter_of<void(std::exception_ptr)> {
    protected:
        using waiter_of<void(std::exception_ptr)>::waiter_of;
    };

public:
    using cleanup = std::function<asio::awaitable<void>()>;

    static std::shared_ptr<task_scope_state> make(asio::any_io_executor const& executor,
                                                  on_task_failure reaction) {
        auto state = std::make_shared<task_scope_state>(executor, reaction);
        state->enroll();
        return state;
    }

    task_scope_state(asio::any_io_executor const& executor, on_task_failure reaction)
        : room(executor), executors_(executor), reaction_(reaction) {}

    template <class Function>
    bool spawn(Function task) {
        if (this->is_closed()) return refuse(); // there is no context any more
        auto const side = std::make_shared<scope_task>(executors_.next());
        if (this->trace_.is_heard()) side->since = clock::now();
        tasks::iterator place;
        bool taken = false;
        {
            std::lock_guard lock(this->mutex_);
            taken = takes_tasks_ && stage_ == stage::tasks_run;
            if (taken) place = tasks_.insert(tasks_.end(), side);
        }
        if (!taken) return refuse();
        try {
            auto ended = [self = self(), place](std::exception_ptr thrown) {
                self->tell_end(**place, thrown);
                self->task_ended(place, std::move(thrown));
            };
            side->start(run(self(), *side, std::move(task)), std::move(ended));
        } catch (...) {
            task_ended(place, nullptr);
            throw;
        }
        return true;
    }

    // A template, so that only who has clean-ups pays for compiling what starts them.
    template <std::same_as<cleanup> Cleanup>
    bool on_exit(Cleanup run) {
        std::lock_guard lock(this->mutex_);
        if (this->closed_ || stage_ != stage::tasks_run) return false;
        cleanups_.push_back(std::move(run));
        start_clean_up_ = &task_scope_state::template start_clean_up<Cleanup>;
        return true;
    }

    /// Returns what kept it from telling a task: that one runs on.
    std::exception_ptr cancel_tasks() noexcept {
        std::uint64_t round = 0;
        {
            std::lock_guard lock(this->mutex_);
            takes_tasks_ = false;
            cancelled_all_ = true;
            round = ++cancel_rounds_;
        }
        std::exception_ptr failure;
        while (auto const task = next_to_cancel(round)) {
            try {
                task->cancel();
            } catch (...) {
                failure = std::current_exception();
            }
        }
        return failure;
    }

    void take_no_more() noexcept {
        std::lock_guard lock(this->mutex_);
        takes_tasks_ = false;
    }

    /// The scope object goes: all that runs ends, and the clean-ups come after it.
    void abandon() noexcept {
        static_cast<void>(cancel_tasks());
        {
            std::lock_guard lock(this->mutex_);
            wanted_over_ = true;
        }
        clean_up_if_done();
    }

    std::size_t size() const noexcept {
        std::lock_guard lock(this->mutex_);
        return tasks_.size();
    }

    bool has_ended() const noexcept {
        std::lock_guard lock(this->mutex_);
        return stage_ == stage::over;
    }

    template <class Handler>
    void start(join_scope, Handler&& handler) {
        using op_type = wait_op<joiner, std::decay_t<Handler>, asio::any_io_executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        error_code ec;
        std::exception_ptr failure;
        {
            std::lock_guard lock(this->mutex_);
            wanted_over_ = true;
            if (this->closed_) {
                ec = error::closed;
            } else if (stage_ == stage::over) {
                failure = failure_;
            } else {
                this->park(joiners_, op, room::no_deadline, cancel);
            }
        }
        if (!op) clean_up_if_done();
        else if (ec) op.release()->abort(ec);
        else op.release()->complete(std::move(failure));
    }

private:
    enum class stage { tasks_run, cleaning_up, over };
    using clock = std::chrono::steady_clock;

    struct scope_task : side_task {
        using side_task::side_task;
        clock::time_point since; // it was spawned, then: it runs; if somebody listened by then
        std::uint64_t cancelled_in = 0; // the last round that it was cancelled in
    };
    using tasks = std::list<std::shared_ptr<scope_task>>;

    std::shared_ptr<task_scope_state> self() {
        return std::static_pointer_cast<task_scope_state>(this->shared_from_this());
    }

    bool refuse() noexcept {
        this->trace_.emit(trace_event::rejected, 1, error::closed);
        return false;
    }

    // The callable lives in the coroutine's frame, which goes before its scope_task does.
    template <class Function>
    static asio::awaitable<void> run(std::shared_ptr<task_scope_state> scope, scope_task& one,
                                     Function task) {
        if (scope->trace_.is_heard()) [[unlikely]]
            scope->tell_start(one);
        scope.reset();
        co_await task();
    }

    void tell_start(scope_task& one) noexcept {
        auto const now = clock::now();
        auto const waited = one.since == clock::time_point() ? now - now : now - one.since;
        one.since = now;
        this->trace_.emit(trace_event::job_started, 1, {}, waited);
    }
    void tell_end(scope_task const& one, std::exception_ptr const& thrown) noexcept {
        if (!this->trace_.is_heard()) [[likely]]
            return;
        auto const now = clock::now();
        auto const took = one.since == clock::time_point() ? now - now : now - one.since;
        this->trace_.emit(trace_event::job_finished, 1, code_of(thrown), took);
    }

    void task_ended(tasks::iterator place, std::exception_ptr thrown) {
        bool cancel_others = false;
        {
            std::lock_guard lock(this->mutex_);
            tasks_.erase(place);
            if (thrown && !failure_ && !(cancelled_all_ && is_cancellation(thrown))) {
                failure_ = std::move(thrown);
                cancel_others = reaction_ == on_task_failure::cancel_others;
            }
        }
        if (cancel_others) static_cast<void>(cancel_tasks());
        clean_up_if_done();
    }

    // One at a time, since a copy of the list would need memory: whose turn it was goes behind the
    // others. The context may be gone, and the tasks with it.
    std::shared_ptr<side_task> next_to_cancel(std::uint64_t round) noexcept {
        std::lock_guard lock(this->mutex_);
        if (this->closed_ || tasks_.empty() || tasks_.front()->cancelled_in >= round) return {};
        tasks_.splice(tasks_.end(), tasks_, tasks_.begin());
        tasks_.back()->cancelled_in = round;
        return tasks_.back();
    }

    static bool is_cancellation(std::exception_ptr const& thrown) noexcept {
        try {
            std::rethrow_exception(thrown);
        } catch (boost::system::system_error const& e) {
            return e.code() == asio::error::operation_aborted;
        } catch (...) { // some other failure
            return false;
        }
    }

    void clean_up_if_done() noexcept {
        bool nothing_to_do = false;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) return;
            if (stage_ != stage::tasks_run || !tasks_.empty() || !wanted_over_) return;
            nothing_to_do = cleanups_.empty();
            if (!nothing_to_do) stage_ = stage::cleaning_up;
        }
        if (nothing_to_do) return end(nullptr);
        try {
            (this->*start_clean_up_)();
        } catch (...) { // who joins waits for no clean-up that could not begin
            end(std::current_exception());
        }
    }

    template <class Cleanup>
    void start_clean_up() {
        // Nobody has a slot to cancel it with.
        asio::co_spawn(executors_.next(), clean_up<Cleanup>(),
                       [self = self()](std::exception_ptr thrown) { self->end(thrown); });
    }

    // The last one added first; each is run whatever the others did. The first failure counts.
    template <class Cleanup>
    asio::awaitable<void> clean_up() {
        std::exception_ptr first;
        while (!cleanups_.empty()) { // nobody else touches them by now
            Cleanup const next = std::move(cleanups_.back());
            cleanups_.pop_back();
            try {
                co_await next();
            } catch (...) {
                if (!first) first = std::current_exception();
            }
        }
        if (first) std::rethrow_exception(first);
    }

    void end(std::exception_ptr thrown) noexcept {
        waiter_list joiners;
        std::exception_ptr failure;
        {
            std::lock_guard lock(this->mutex_);
            stage_ = stage::over;
            if (!failure_) failure_ = std::move(thrown);
            failure = failure_;
            while (waiter* const w = joiners_.front()) {
                this->unpark(*w);
                joiners.push_back(*w);
            }
        }
        while (auto* const w = static_cast<joiner*>(joiners.pop_front())) w->complete(failure);
    }

    void take_all(waiter_list& all) noexcept override { all.append(joiners_); }

    // Strands must not outlive their context.
    void shutdown() noexcept override {
        room::shutdown();
        tasks tasks_gone;
        std::vector<cleanup> cleanups_gone;
        std::lock_guard lock(this->mutex_);
        tasks_gone.swap(tasks_);
        cleanups_gone.swap(cleanups_);
    }

    serial_executors const executors_;
    on_task_failure const reaction_;
    stage stage_ = stage::tasks_run;
    bool takes_tasks_ = true;
    bool cancelled_all_ = false;
    std::uint64_t cancel_rounds_ = 0;
    bool wanted_over_ = false;
    tasks tasks_;
    std::vector<cleanup> cleanups_;
    void (task_scope_state::*start_clean_up_)() = nullptr; // while there are any
    waiter_list joiners_;
    std::exception_ptr failure_;
};

} // namespace detail

template <boost::asio::completion_token_for<task_scope::signature> Token>
auto task_scope::async_join(Token&& token) {
    return boost::asio::async_initiate<Token, signature>(
        detail::initiation<state, detail::join_scope>(*state_), token);
}

template <class CoroutineExecutor>
boost::asio::awaitable<void, CoroutineExecutor> task_scope::join() {
    co_await async_join(boost::asio::deferred);
}

namespace detail {

/// What the body of a scope came to.
template <class T>
class scoped_value {
public:
    template <class Body>
    asio::awaitable<void> from(Body& body, task_scope& scope) {
        value_.emplace(co_await body(scope));
    }
    bool has_value() const noexcept { return value_.has_value(); }
    T take() { return std::move(*value_); }

private:
    std::optional<T> value_;
};
template <>
class scoped_value<void> {
public:
    template <class Body>
    asio::awaitable<void> from(Body& body, task_scope& scope) {
        co_await body(scope);
        has_value_ = true;
    }
    bool has_value() const noexcept { return has_value_; }
    void take() noexcept {}

private:
    bool has_value_ = false;
};

template <class Body>
boost::asio::awaitable<scoped_result<Body>> run_in_scope(Body body, on_task_failure reaction) {
    auto const executor = co_await asio::this_coro::executor;
    scoped_value<scoped_result<Body>> result;
    task_scope scope(executor, reaction);
    auto const run_body = [&] { return result.from(body, scope); };
    scope.spawn(run_body);

    // They have to be waited for even when the caller has been cancelled.
    bool const throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    std::exception_ptr failure;
    for (bool over = false;;) {
        auto joining = scope.async_join(asio::as_tuple(asio::deferred));
        auto joined = co_await std::move(joining);
        failure = std::get<0>(joined);
        if (over || !failure) break;
        // The caller may have been cancelled, and the scope may have ended since: a join that
        // begins after the end tells what came of it.
        over = scope.has_ended();
        if (over) continue;
        try {
            scope.cancel();
        } catch (std::bad_alloc const&) {
            continue; // who could not be told ends on its own, and still has to be waited for
        }
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    if (!result.has_value()) throw boost::system::system_error(asio::error::operation_aborted);
    co_return result.take();
}

} // namespace detail

inline task_scope::task_scope(executor_type executor, on_task_failure reaction)
    : state_(state::make(executor, reaction)) {}

inline task_scope::~task_scope() {
    if (state_) state_->abandon();
}

inline task_scope::executor_type task_scope::get_executor() const noexcept {
    return state_->executor();
}

template <class Function>
    requires detail::starts_task<std::decay_t<Function>>
bool task_scope::spawn(Function&& task) {
    return state_->spawn(std::decay_t<Function>(std::forward<Function>(task)));
}

template <class Function>
    requires detail::starts_task<std::decay_t<Function>>
bool task_scope::on_exit(Function&& cleanup) {
    using callable = std::decay_t<Function>;
    auto shared = std::make_shared<callable>(std::forward<Function>(cleanup)); // may be move-only
    return state_->on_exit(state::cleanup([shared = std::move(shared)] { return (*shared)(); }));
}

inline void task_scope::observe(std::shared_ptr<trace_observer> observer, std::string name) {
    state_->observe("task_scope", std::move(observer), std::move(name));
}
inline void task_scope::cancel() {
    if (auto failure = state_->cancel_tasks()) std::rethrow_exception(std::move(failure));
}
inline void task_scope::close() noexcept { state_->take_no_more(); }
inline std::size_t task_scope::size() const noexcept { return state_->size(); }
inline bool task_scope::has_ended() const noexcept { return state_->has_ended(); }

TIDEGATE_END_NAMESPACE
