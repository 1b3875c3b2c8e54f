// SPDX-License-Identifier: BSL-1.0
// Many ask for the same thing at once; it is fetched once.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/flight_room.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/loaded.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of a single_flight, with their defaults.
class single_flight_options {
public:
    /// A run that takes longer fails those who wait with `error::deadline_exceeded`, is cancelled,
    /// and does not stand in the way of the next one, even if it does not listen. 1 ns to 10
    /// years; default: 30 s.
    single_flight_options& time_limit(std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>("single_flight time_limit in ns", time.count(), 1,
                                           315'576'000'000'000'000);
        time_limit_ = time;
        return *this;
    }
    /// A run goes on when the last caller has left, so that who comes next may still join it.
    /// Default: false, it is cancelled.
    single_flight_options& keep_running(bool keep) {
        keep_running_ = keep;
        return *this;
    }
    /// Where runs run. Default: the executor of the single_flight.
    single_flight_options& run_on(boost::asio::any_io_executor executor) {
        run_on_ = std::move(executor);
        return *this;
    }

    std::chrono::nanoseconds time_limit() const noexcept { return time_limit_; }
    bool keep_running() const noexcept { return keep_running_; }
    boost::asio::any_io_executor const& run_on() const noexcept { return run_on_; }

private:
    std::chrono::nanoseconds time_limit_ = std::chrono::seconds(30);
    bool keep_running_ = false;
    boost::asio::any_io_executor run_on_;
};

namespace detail {
template <class Key, class V, class Hash, class Equal, class Clock, class Executor>
class single_flight_state;
} // namespace detail

/// Runs a function once for all who ask for the same key while it runs.
///
///     tidegate::single_flight<std::string, page> flights(context);
///     auto fetch = [&](std::string const& url) -> awaitable<page> { ... };
///     auto page = co_await flights.run(url, fetch);      // a shared_value<page>
///
/// Guarantees: the run belongs to nobody who waits. It runs on the executor of the options, and a
/// caller that is cancelled leaves alone; when the last one has left, the run is cancelled, and who
/// comes then starts another. What it throws fails those who wait, once each, and is forgotten. A
/// key is free again before anybody is told, so whoever asks again at once runs again. A run that
/// asks for its own key, be it by way of other runs, gets `error::recursive_load` instead of
/// waiting for ever (seen as long as it awaits in its own coroutine, or what that awaits).
///
/// Executors: handlers run on their associated executor, by default this object's. Cancellation,
/// thread safety and destruction are those of `basic_semaphore`; closing or destroying it cancels
/// the runs and does not wait for them: what the function refers to, and what `std::ref` names, has
/// to outlive its run, not only the call. If the context of a run is destroyed, those who wait get
/// `error::closed`.
template <class Key, class V, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>,
          class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor>
class basic_single_flight {
    using state = detail::single_flight_state<Key, V, Hash, Equal, Clock, Executor>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using value_type = V;
    using signature = void(std::exception_ptr, shared_value<V>);

    explicit basic_single_flight(executor_type executor, single_flight_options options = {})
        : state_(state::make(executor, std::move(options))) {}
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    explicit basic_single_flight(Context& context, single_flight_options options = {})
        : basic_single_flight(executor_type(context.get_executor()), std::move(options)) {}

    /// The moved-from object may only be destroyed.
    basic_single_flight(basic_single_flight&&) noexcept = default;
    basic_single_flight& operator=(basic_single_flight&&) = delete;
    ~basic_single_flight() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    /// Waits for the result of `run(key)`, or `run()`, which returns an awaitable of what `loaded`
    /// takes. Throws what that threw, or boost::system::system_error with `operation_aborted`,
    /// `error::deadline_exceeded`, `error::recursive_load` or `error::closed`.
    template <class CoroutineExecutor = executor_type, class Run>
    boost::asio::awaitable<shared_value<V>, CoroutineExecutor> run(Key key, Run&& run) {
        static_assert(detail::survives_await_as_temporary<Run&&>,
                      "g++ before 12.3 destroys this temporary twice: name the function, and pass "
                      "the name or std::ref(name)");
        return wait<CoroutineExecutor>(state_, std::move(key),
                                       std::decay_t<Run>(std::forward<Run>(run)));
    }

    /// As `run`, for any completion token. Completion signature:
    /// `void(std::exception_ptr, shared_value<V>)`.
    template <class Run, boost::asio::completion_token_for<signature> Token = default_token>
    auto async_run(Key key, Run&& run, Token&& token = Token()) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::join_flight>(*state_), token, std::move(key),
            std::decay_t<Run>(std::forward<Run>(run)), state_->terms());
    }

    /// Who waits for that key gets the result; who asks from now on starts another run.
    void forget(Key const& key) { state_->fence(key); }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: loaded and load_failed, once a run; and of those who wait and leave: cancelled,
    /// rejected (`close`).
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("single_flight", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_single_flight_running", "Runs now", static_cast<double>(running()));
        to.gauge("tidegate_single_flight_waiting", "Who wait for one",
                 static_cast<double>(waiting()));
    }

    /// Runs in progress, and those who wait for one.
    std::size_t running() const noexcept { return state_->in_flight(); }
    std::size_t waiting() const noexcept { return state_->waiting(); }

    /// Completes all that wait with `operation_aborted`, and cancels the runs.
    void cancel() noexcept { state_->cancel(); }
    /// As `cancel`, with `error::closed`, for all later ones too.
    void close() noexcept { state_->close(); }

private:
    template <class CoroutineExecutor, class Run>
    static boost::asio::awaitable<shared_value<V>, CoroutineExecutor>
    wait(std::shared_ptr<state> state, Key key, Run run) {
        auto joining = boost::asio::async_initiate<boost::asio::deferred_t const, signature>(
            detail::initiation<basic_single_flight::state, detail::join_flight>(*state),
            boost::asio::deferred, std::move(key), std::move(run), state->terms());
        co_return co_await std::move(joining);
    }

    std::shared_ptr<state> state_;
};

template <class Key, class V>
using single_flight = basic_single_flight<Key, V>;

namespace detail {

template <class Key, class V, class Hash, class Equal, class Clock, class Executor>
class single_flight_state final
    : public flight_room<single_flight_state<Key, V, Hash, Equal, Clock, Executor>, Key,
                         shared_value<V>, loaded<V>, Hash, Equal, Clock, Executor> {
    using base = flight_room<single_flight_state, Key, shared_value<V>, loaded<V>, Hash, Equal,
                             Clock, Executor>;
    using typename base::flight_type;

public:
    struct leftovers {};

    static std::shared_ptr<single_flight_state> make(Executor const& executor,
                                                     single_flight_options options) {
        auto state = std::make_shared<single_flight_state>(executor, std::move(options));
        state->enroll();
        return state;
    }

    single_flight_state(Executor const& executor, single_flight_options options)
        : base(executor, options.run_on() ? options.run_on() : executor, options.time_limit()),
          kept_(options.keep_running()) {}

    flight_terms<typename Clock::time_point> terms() const noexcept {
        return {Clock::time_point::max(), kept_};
    }

    // For flight_room.
    template <class T>
    static loaded<V> normalised(T&& result) {
        return loaded<V>(std::forward<T>(result));
    }
    void prepare(flight_type const&, loaded<V>&, leftovers&) noexcept {}
    bool look_again(Key const&, shared_value<V>&, std::exception_ptr&) noexcept { return false; }
    shared_value<V> landed(flight_type&, bool, std::exception_ptr const&, loaded<V>* result,
                           leftovers&) {
        return result ? result->value() : shared_value<V>{};
    }
    void overdue(flight_type&) noexcept {}
    void after_overdue() noexcept {}
    void after_landing(leftovers&) noexcept {}

private:
    bool kept_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
