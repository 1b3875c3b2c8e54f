// SPDX-License-Identifier: BSL-1.0
// Stops calling what fails, and finds out carefully when it works again.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/core/circuit_breaker.hpp>
#include <tidegate/detail/call_window.hpp>
#include <tidegate/detail/thread_random.hpp>
#include <tidegate/detail/trace_source.hpp>
#include <tidegate/error.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

enum class breaker_state {
    /// Calls go through and are counted.
    closed,
    /// Calls are refused until the open time is over.
    open,
    /// A few calls go through as probes; their results decide.
    half_open,
    /// Calls are refused until further notice.
    forced_open,
    /// Calls go through and are not counted.
    disabled,
    /// Calls go through and are counted; nothing is ever refused.
    metrics_only,
};

/// "closed", "open", ...
std::string_view to_string(breaker_state s) noexcept;

/// Settings of a circuit breaker, with their defaults.
class circuit_breaker_options {
public:
    using nanoseconds = std::chrono::nanoseconds;

    /// Trips when this share of the calls in the window failed, more than 0 to 100 per cent;
    /// default 50.
    circuit_breaker_options& failure_rate(double percent);
    /// Trips when this share of the calls in the window took `slow_call_duration` or longer, more
    /// than 0 to 100 per cent; default: never. Costs a reading of the clock a call.
    circuit_breaker_options& slow_call_rate(double percent, nanoseconds slow_call_duration);
    /// Trips after this many failures in a row instead of on a rate, 1 to 2^18; default: off.
    circuit_breaker_options& consecutive_failures(std::size_t n);
    /// The window: the last `calls`, 1 to 2^18; default 100.
    circuit_breaker_options& count_window(std::size_t calls);
    /// The window: the calls of the last `length`, 1 ns to 10 years, to within one of `slices`, 1
    /// to 10,000. Costs a reading of the clock a call, and a lock.
    circuit_breaker_options& time_window(nanoseconds length, std::size_t slices = 10);
    /// Calls in the window before a rate means anything, 1 to 2^18; default 20. Never more than a
    /// count window holds.
    circuit_breaker_options& minimum_calls(std::size_t n);
    /// Calls that are let through to find out whether it works again, 1 to 10,000; default 5. The
    /// same rates decide; with `consecutive_failures`, one failure opens again.
    circuit_breaker_options& permitted_probes(std::size_t n);
    /// A probe that has not reported for so long is forgotten, and not believed if it reports
    /// later, 1 ns to 10 years; default 60 s.
    circuit_breaker_options& probe_timeout(nanoseconds time);
    /// How long it stays open, 1 ns to 10 years; default 5 s. A failure may ask for more
    /// (Retry-After).
    circuit_breaker_options& open_duration(nanoseconds time);
    /// What the open time is multiplied with each time it opens again before it has been closed for
    /// as long, 1 to 100, and what it may grow to, which is never less than `open_duration`;
    /// default 1 (fixed), 5 min.
    circuit_breaker_options& open_growth(double factor, nanoseconds cap = std::chrono::minutes(5));
    /// Share by which the open time varies either way, 0 to 1 (exclusive); default 0.1: clients
    /// that opened together should not come back together.
    circuit_breaker_options& jitter(double share);
    /// After a recovery, lets only these shares of the calls through (more than 0 to 1, at most
    /// 100 of them), one after the other for `step` each (1 ns to 10 years); default: all at once.
    circuit_breaker_options& ramp(std::vector<double> shares, nanoseconds step);
    /// Called at every change of state, with the old and the new one, in order, one at a time,
    /// with no lock held. It may call the breaker; what that changes is reported after it returns.
    circuit_breaker_options&
    on_transition(std::function<void(breaker_state from, breaker_state to)> listener);
    /// Called for every refused call, where it is refused.
    circuit_breaker_options& on_rejected(std::function<void()> listener);
    /// Gets what a listener throws. Must not throw. Default: one line on standard error.
    circuit_breaker_options& on_exception(std::function<void(std::exception_ptr)> handler);

    /// The shares that trip it, and the calls that are needed first.
    core::trip_rule rule() const noexcept;

private:
    template <class>
    friend class basic_circuit_breaker;

    struct slices {
        nanoseconds length;
        std::size_t count;
    };

    double failure_rate_ = 50;
    double slow_call_rate_ = 101;
    std::optional<nanoseconds> slow_call_duration_;
    std::size_t consecutive_ = 0;
    std::size_t count_window_ = 100;
    std::optional<slices> time_window_;
    std::size_t minimum_calls_ = 20;
    std::size_t permitted_probes_ = 5;
    nanoseconds probe_timeout_ = std::chrono::seconds(60);
    core::open_schedule open_{std::chrono::seconds(5), 1, std::chrono::minutes(5), 0.1};
    std::vector<double> ramp_;
    nanoseconds ramp_step_{0};
    std::function<void(breaker_state, breaker_state)> on_transition_;
    std::function<void()> on_rejected_;
    std::function<void(std::exception_ptr)> on_exception_;
};

template <class Clock>
class basic_circuit_breaker;

/// The right to make one call, and the duty to tell what came of it. A permit that goes without a
/// report counts as nothing: neither as a success nor as a failure. Move only. It refers to its
/// breaker, which must outlive it.
template <class Clock>
class [[nodiscard]] basic_breaker_permit {
public:
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

    /// Empty: the call was refused.
    basic_breaker_permit() noexcept = default;
    basic_breaker_permit(basic_breaker_permit&& other) noexcept
        : breaker_(std::exchange(other.breaker_, nullptr)),
          era_(other.era_),
          probe_(other.probe_),
          started_(other.started_) {}
    basic_breaker_permit& operator=(basic_breaker_permit&& other) noexcept {
        if (this != &other) {
            ignore();
            breaker_ = std::exchange(other.breaker_, nullptr);
            era_ = other.era_;
            probe_ = other.probe_;
            started_ = other.started_;
        }
        return *this;
    }
    ~basic_breaker_permit() { ignore(); }

    explicit operator bool() const noexcept { return breaker_ != nullptr; }

    /// Its result decides, with those of other probes, whether a half-open breaker closes.
    bool is_probe() const noexcept { return probe_ != 0; }

    /// The call stood in a line of this process for so long, and not because of what it calls:
    /// that time makes it no slow call.
    void exclude(duration time) noexcept {
        if (started_ != not_timed) started_ += time;
    }

    /// The call succeeded. No effect on an empty permit, like all that follow; the permit is empty
    /// afterwards. `now` is for those who have read the clock already.
    void success() { report(false, {}, {}, std::nullopt); }
    void success(time_point now) { report(false, {}, {}, now); }

    /// The call failed. `retry_after`: what was called asks to be left alone for so long; if this
    /// failure opens the breaker, it stays open at least as long.
    void failure(error_code ec = {}, std::optional<duration> retry_after = {}) {
        report(true, ec, retry_after, std::nullopt);
    }
    void failure(error_code ec, std::optional<duration> retry_after, time_point now) {
        report(true, ec, retry_after, now);
    }

    /// The call tells nothing: it was cancelled, or never made.
    void ignore() noexcept {
        if (auto* const breaker = std::exchange(breaker_, nullptr); breaker && probe_) {
            breaker->take_back(era_, probe_);
        }
    }

private:
    friend class basic_circuit_breaker<Clock>;

    // The start of a call for which the clock was not read.
    static constexpr time_point not_timed = time_point::max();

    basic_breaker_permit(basic_circuit_breaker<Clock>* breaker, std::uint64_t era,
                         core::probes::id probe, time_point started) noexcept
        : breaker_(breaker), era_(era), probe_(probe), started_(started) {}

    void report(bool failed, error_code ec, std::optional<duration> retry_after,
                std::optional<time_point> now) {
        if (auto* const breaker = std::exchange(breaker_, nullptr)) {
            breaker->report(*this, failed, ec, retry_after, now);
        }
    }

    basic_circuit_breaker<Clock>* breaker_ = nullptr;
    std::uint64_t era_ = 0;
    core::probes::id probe_ = 0; // 0: an ordinary call
    time_point started_{};
};

/// A circuit breaker.
///
/// Guarantees: a result counts in the era in which its call was admitted, so one from before a trip
/// never counts after it. While half open, at most `permitted_probes` calls are out or have
/// reported; one that hangs is forgotten after `probe_timeout`, and one that is cancelled is no
/// evidence for either side. Time is `Clock`'s, which should be monotonic. Changing the settings
/// never closes an open breaker.
///
/// A call is guarded by a policy (policy.hpp), which asks for the permit and reports what came of
/// it:
///
///     tidegate::policy const guarded{breaker};
///     int const answer = co_await guarded(fetch);
///     guarded.async_call(executor, fetch, token); // the same for other completion tokens
///
/// What is a failure is for the caller to say (`break_if(breaker, predicate)` in a policy), so one
/// breaker serves calls with different results. It does not wait for anything and needs no
/// executor.
///
/// Thread safety: all members may be called from any thread, except construction and destruction.
/// While closed, with a count window, a call takes no lock: admission reads one word, a success
/// counts up one that few threads share, whatever the length of the window. A refusal reads a word
/// and the clock, writes nothing, throws nothing. Nothing allocates after construction, apart from
/// transitions. One that finds no memory throws std::bad_alloc from the call that was to make it,
/// and has no effect; what was reported counts all the same, and a later call makes up for it.
///
/// After M. Nygard, "Release It!", 2007; the states and settings are named as in resilience4j.
template <class Clock = std::chrono::steady_clock>
class basic_circuit_breaker {
public:
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using options = circuit_breaker_options;
    using permit = basic_breaker_permit<Clock>;

    explicit basic_circuit_breaker(options settings = {});
    basic_circuit_breaker(basic_circuit_breaker const&) = delete;
    basic_circuit_breaker& operator=(basic_circuit_breaker const&) = delete;

    /// The right to make a call; an empty permit if it is refused (`error::circuit_open`). `now` is
    /// for those who have read the clock already. May call listeners.
    permit try_acquire() { return acquire(std::nullopt); }
    permit try_acquire(time_point now) { return acquire(now); }

    /// How long calls go on being refused, as far as is known: zero if one may be admitted now, the
    /// largest duration if nobody but the operator knows. While all probes are out, that is for as
    /// long again as the breaker was open, or until the next lease runs out, if that is sooner.
    duration retry_after(time_point now) const;
    duration retry_after() const { return retry_after(Clock::now()); }

    /// Whether each call needs a reading of the clock, as for slow calls and time windows.
    bool measures_time() const noexcept {
        auto const& s = current().settings;
        return s.slow_call_duration_.has_value() || s.time_window_.has_value();
    }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: opened (also when forced), half_opened, closed, disabled, rejected. Transitions are
    /// told in order, before `on_transition` hears of them.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        trace_.attach("circuit_breaker", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_circuit_breaker_window_calls", "Calls in the window",
                 static_cast<double>(counts().calls));
        to.gauge("tidegate_circuit_breaker_window_failures", "Failures in the window",
                 static_cast<double>(counts().failures));
        to.gauge("tidegate_circuit_breaker_window_slow_calls", "Slow calls in the window",
                 static_cast<double>(counts().slow));
        for (auto const each :
             {breaker_state::closed, breaker_state::open, breaker_state::half_open,
              breaker_state::disabled, breaker_state::forced_open, breaker_state::metrics_only}) {
            to.gauge("tidegate_circuit_breaker_state", "1 for the state it is in",
                     state() == each ? 1 : 0, {{"state", std::string(to_string(each))}});
        }
    }

    breaker_state state() const noexcept { return state_of(word_.load(std::memory_order_acquire)); }

    /// The window, or the probes so far while half open; with `consecutive_failures` and no time
    /// window, the failures since the last success.
    core::call_counts counts() const;

    /// Whether a new breaker of these settings would behave the same: closed, without a failure or
    /// a slow call in its window, and with no recovery to be careful about.
    bool is_as_new() const;

    /// The same whatever is in its window: closed, and with no recovery to be careful about.
    bool has_recovered() const;

    /// Whether its settings were changed since it was made.
    bool was_reconfigured() const;

    /// The error code of the last failure that was reported.
    error_code last_error() const;

    options settings() const;

    /// Refuses all calls, lets all through uncounted, or counted: until further notice.
    void force_open() { become(breaker_state::forced_open); }
    void disable() { become(breaker_state::disabled); }
    void metrics_only() { become(breaker_state::metrics_only); }

    /// Closes, with an empty window.
    void close() { become(breaker_state::closed); }

    /// Opens for the open time, as if it had tripped.
    void trip();

    /// Changes the settings, not the state. The window starts anew unless it keeps its shape. Half
    /// open, what probes have reported is forgotten, and those that are out are the first ones
    /// under the new settings. An open breaker stays open for as long as it was to. Calls that read
    /// the old settings take no lock, so those are kept until the breaker goes, with the old window
    /// (4 bytes a call) if its length changes: meant for changes by an operator, not for a loop.
    void reconfigure(options settings);

private:
    friend class basic_breaker_permit<Clock>;

    using nanoseconds = std::int64_t;
    struct event {
        breaker_state from;
        breaker_state to;
        std::uint32_t trips;
        nanoseconds open_for;
        error_code why;
    };

    // word = era << 4 | needs_lock << 3 | state
    static constexpr std::uint64_t needs_lock = 8;
    static constexpr unsigned era_shift = 4;
    static breaker_state state_of(std::uint64_t word) noexcept {
        return static_cast<breaker_state>(word & 7);
    }
    static nanoseconds ns(time_point t) noexcept {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
    }

    // Settings and the window made for them. What was replaced is kept until the breaker goes, for
    // those who are reading it.
    struct regime {
        options settings;
        core::trip_rule rule;
        std::shared_ptr<detail::call_window> window;
    };
    static std::unique_ptr<regime const> regime_for(options&& settings, regime const* before);
    regime const& current() const noexcept { return *current_.load(std::memory_order_acquire); }

    permit acquire(std::optional<time_point> now);
    permit acquire_under_lock(time_point now);
    permit refuse(regime const& r) const;

    void report(permit const& of, bool failed, error_code ec, std::optional<duration> retry_after,
                std::optional<time_point> now);
    bool record(regime const& r, std::uint64_t era, bool failed, bool slow) noexcept;
    bool record_in_a_row(std::size_t most, std::uint64_t era, bool failed) noexcept;
    void report_under_lock(permit const& of, bool failed, bool slow,
                           std::optional<duration> retry_after, time_point now);
    void take_back(std::uint64_t era, core::probes::id probe) noexcept;

    void become(breaker_state next);
    // With the lock held, like all that follow.
    void move_to(breaker_state next, time_point now, std::uint32_t trips = 1,
                 nanoseconds open_for = 0);
    void open(time_point now, std::optional<duration> retry_after);
    void conclude_probing(time_point now, std::optional<duration> retry_after);
    bool recovered(nanoseconds now) const;
    core::trip_rule probe_rule() const;
    nanoseconds next_probe(nanoseconds now) const; // takes the lock itself
    bool should_trip(nanoseconds now) const;
    core::call_counts window_counts(nanoseconds now) const;
    // Reports the transitions; gives the lock up while a listener runs.
    void tell(std::unique_lock<std::mutex>& lock);
    void trace(event const& e) const noexcept; // without the lock
    template <class Listener, class... Arguments>
    void call(regime const& r, Listener const& listener, Arguments... arguments) const noexcept;

    // Read by every call, written at transitions only: apart from what is written all the time.
    alignas(64) std::atomic<std::uint64_t> word_{0};
    std::atomic<regime const*> current_;
    std::atomic<nanoseconds> open_until_{0};
    [[no_unique_address]] detail::trace_source trace_;
    static constexpr std::uint64_t row_mask = 0xfffff;
    alignas(64) std::atomic<std::uint64_t> in_a_row_{0}; // era << 20 | failures since a success
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<regime const>> regimes_;
    mutable std::optional<core::time_window> timed_; // while the settings have one
    std::optional<core::probes> probes_;
    core::ramp ramp_{{}, 0, 0};
    std::uint32_t trips_ = 0; // without a lasting recovery in between
    nanoseconds closed_since_ = 0;
    nanoseconds last_open_time_ = 0;
    error_code last_error_;
    std::deque<event> events_;
    bool telling_ = false;
};

using circuit_breaker = basic_circuit_breaker<>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/circuit_breaker.hpp>
