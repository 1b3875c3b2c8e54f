// SPDX-License-Identifier: BSL-1.0
// What a worker pool queues.
#pragma once

#include <tidegate/detail/delivering_room.hpp>
#include <tidegate/worker_pool_options.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A job that takes a stop token is told through it that it is to end early.
template <class Function>
inline constexpr bool takes_stop_token = std::is_invocable_v<Function&, std::stop_token>;

template <class Function>
struct job_result : std::invoke_result<Function&> {};
template <class Function>
    requires takes_stop_token<Function>
struct job_result<Function> : std::invoke_result<Function&, std::stop_token> {};

/// Calls such a job without arguments.
template <class Function>
class stoppable {
public:
    explicit stoppable(Function function) : function_(std::move(function)) {}

    decltype(auto) operator()() { return function_(source_.get_token()); }
    std::stop_source const& source() const noexcept { return source_; }

private:
    Function function_;
    std::stop_source source_;
};

/// A callable that is too large to be kept in a detached job.
template <class Function>
class boxed {
public:
    explicit boxed(Function function) : function_(new Function(std::move(function))) {}

    void operator()() { (*function_)(); }
    Function const& content() const noexcept { return *function_; }

private:
    std::unique_ptr<Function> function_;
};

/// A job's result is moved on its way to a handler, which gets an empty one with a failure: what
/// either throws would leave the event loop, and the handler uncalled.
template <class Result>
inline constexpr bool travels_in_silence =
    std::is_void_v<Result> || (std::is_nothrow_default_constructible_v<Result> &&
                               std::is_nothrow_move_constructible_v<Result>);

/// Calls a job whose result does not, and returns it in something that does.
template <class Function>
class into_holder {
public:
    explicit into_holder(Function function) : function_(std::move(function)) {}

    auto operator()() {
        using result = std::invoke_result_t<Function&>;
        if constexpr (std::is_nothrow_move_constructible_v<result>) {
            return std::optional<result>(function_());
        } else {
            return std::unique_ptr<result>(new result(function_()));
        }
    }
    Function const& content() const noexcept { return function_; }

private:
    Function function_;
};

template <class Function>
std::stop_source source_of(Function const&) noexcept {
    return std::stop_source(std::nostopstate);
}
template <class Function>
std::stop_source source_of(stoppable<Function> const& job) noexcept {
    return job.source();
}
template <template <class> class Wrapper, class Function>
    requires std::is_same_v<Wrapper<Function>, boxed<Function>> ||
             std::is_same_v<Wrapper<Function>, into_holder<Function>>
std::stop_source source_of(Wrapper<Function> const& job) noexcept {
    return source_of(job.content());
}

/// A copy of `job` that is called without arguments.
template <class Function>
auto plain_job(Function&& job) {
    using callable = std::decay_t<Function>;
    if constexpr (takes_stop_token<callable>) {
        return stoppable<callable>(std::forward<Function>(job));
    } else {
        return callable(std::forward<Function>(job));
    }
}

class pool_job : public result_waiter {
public:
    /// Runs the job and keeps its result. Returns what it throws, which an awaited one keeps too.
    std::exception_ptr run() noexcept { return run_(this); }

    bool can_stop() const noexcept { return stop.stop_possible(); }

    job_priority priority = job_priority::normal;
    bool is_detached = false; // nobody waits for it
    bool is_running = false;  // kept for those that can be stopped only
    bool is_sample = false;   // of the statistics
    /// The job's own, if it takes a stop token.
    std::stop_source stop{std::nostopstate};
    /// When it was submitted, if it is a sample or somebody listens; then when it was started.
    std::optional<std::chrono::steady_clock::time_point> since;
    /// From the one to the other.
    std::chrono::nanoseconds waited{0};

protected:
    using run_fn = std::exception_ptr (*)(pool_job*) noexcept;

    pool_job(waiter::finish_fn how, run_fn call) noexcept : result_waiter(how), run_(call) {}

private:
    run_fn run_;
};

template <class Function, class Signature>
class awaited_job : public waiter_of<Signature, pool_job> {
    static_assert(travels_in_silence<std::invoke_result_t<Function&>>,
                  "a job's result needs a default state and must move, both without throwing: "
                  "return it in a std::unique_ptr, or use submit, which needs neither");

    using base = waiter_of<Signature, pool_job>;

protected:
    awaited_job(waiter::finish_fn how, Function&& function)
        : base(how, &awaited_job::call), function_(std::move(function)) {
        this->stop = source_of(function_);
    }

private:
    static std::exception_ptr call(pool_job* job) noexcept {
        auto* const self = static_cast<awaited_job*>(job);
        try {
            if constexpr (std::is_void_v<std::invoke_result_t<Function&>>) {
                self->function_();
                self->outcome_.emplace(nullptr);
            } else {
                self->outcome_.emplace(nullptr, self->function_());
            }
        } catch (...) {
            self->outcome_.emplace();
            std::get<0>(*self->outcome_) = std::current_exception();
        }
        self->results_ = &*self->outcome_;
        return std::get<0>(*self->outcome_);
    }

    Function function_;
    std::optional<typename base::results> outcome_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
