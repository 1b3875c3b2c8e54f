// SPDX-License-Identifier: BSL-1.0
// A token bucket for Asio: so many permits a period, with bursts, and waiting in line.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/core/token_bucket.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/fast_word.hpp>
#include <tidegate/detail/initiation.hpp>
#include <tidegate/detail/published.hpp>
#include <tidegate/detail/waiting_room.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of a rate limiter, with their defaults. `rate` has none and must be set.
class rate_limiter_options {
public:
    /// `permits` every `per`: 1 permit or more, 1 ns to 2^62 ns (146 years), and not more than one
    /// permit a nanosecond. 60 per minute is not 1 per second: they differ in the default burst.
    rate_limiter_options& rate(std::uint64_t permits, std::chrono::nanoseconds per) {
        detail::check_option<std::int64_t>("rate_limiter period in ns", per.count(), 1,
                                           std::int64_t{1} << 62);
        detail::check_option<std::uint64_t>("rate_limiter permits a period", permits, 1,
                                            static_cast<std::uint64_t>(per.count()));
        permits_ = permits;
        period_ = per;
        return *this;
    }
    /// The most permits that a limiter nobody used for long gives at once, 1 to 2^52; default: as
    /// many as `rate` has a period, which then has to be in that range.
    rate_limiter_options& burst(std::uint64_t permits) {
        detail::check_option<std::uint64_t>("rate_limiter burst", permits, 1,
                                            core::bucket_terms::max_burst);
        burst_ = permits;
        return *this;
    }
    /// The most operations that may wait, 0 for none; default: no limit.
    rate_limiter_options& max_waiters(std::size_t n) {
        max_waiters_ = n;
        return *this;
    }
    /// The longest time an operation may wait, zero or more: one that would have to wait for longer
    /// is refused with `error::rate_limited` on entry, and one whose turn was put off while it
    /// waited fails with `error::deadline_exceeded` after that time. Default: no limit.
    rate_limiter_options& max_wait(std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>("rate_limiter max_wait in ns", time.count(), 0,
                                           std::numeric_limits<std::int64_t>::max());
        max_wait_ = time;
        return *this;
    }
    /// Grants a request above the burst when the bucket is full, and lets later ones pay for it;
    /// default: such a request fails with `error::invalid_count`.
    rate_limiter_options& overdraw(bool yes) {
        overdraw_ = yes;
        return *this;
    }
    /// Starts without permits; default: with a burst of them.
    rate_limiter_options& start_empty(bool yes) {
        start_empty_ = yes;
        return *this;
    }
    /// After the start, and after it was idle for `time`, the limiter has one permit and fills at
    /// `1 / cold_factor` of its rate, rising to the full rate over `time` (1 ns to 2^53 ns, 104
    /// days). After a rest it begins to rise when somebody asks, be it with `peek` or `available`
    /// (or metrics). `cold_factor` is 1.01 to 1000, default 3. Default: no warm-up.
    rate_limiter_options& warm_up(std::chrono::nanoseconds time, double cold_factor = 3) {
        detail::check_option<std::int64_t>("rate_limiter warm-up in ns", time.count(), 1,
                                           std::int64_t{1} << 53);
        detail::check_option<double>("rate_limiter cold factor", cold_factor, 1.01, 1000);
        warm_up_ = time;
        cold_factor_ = cold_factor;
        return *this;
    }

    std::uint64_t permits() const noexcept { return permits_; }
    std::chrono::nanoseconds period() const noexcept { return period_; }
    std::uint64_t burst() const noexcept { return burst_ ? burst_ : permits_; }
    std::size_t max_waiters() const noexcept { return max_waiters_; }
    std::chrono::nanoseconds max_wait() const noexcept { return max_wait_; }
    bool overdraw() const noexcept { return overdraw_; }
    bool start_empty() const noexcept { return start_empty_; }
    std::chrono::nanoseconds warm_up() const noexcept { return warm_up_; }
    double cold_factor() const noexcept { return cold_factor_; }

private:
    std::uint64_t permits_ = 0; // not set yet
    std::chrono::nanoseconds period_{0};
    std::uint64_t burst_ = 0;
    std::size_t max_waiters_ = std::numeric_limits<std::size_t>::max();
    std::chrono::nanoseconds max_wait_ = std::chrono::nanoseconds::max();
    bool overdraw_ = false;
    bool start_empty_ = false;
    std::chrono::nanoseconds warm_up_{0};
    double cold_factor_ = 3;
};

namespace detail {
template <class Clock, class Executor, class Mutex>
class rate_limiter_state;
class rate_limiter_access;
template <class Limiter>
class rate_limiter_layer;
struct acquire_rate;
struct rate_decision_maker;
} // namespace detail

template <class Key, class Hash, class Equal, class Clock>
class basic_keyed_rate_limiter;

/// Whether a rate limiter admitted a request, and if not, when to come again. A value: refusing
/// neither throws nor allocates.
template <class Duration>
class [[nodiscard]] rate_decision {
public:
    /// True if the permits were granted.
    explicit operator bool() const noexcept { return verdict_ == verdict::granted; }

    /// No error if granted; else `error::rate_limited`, `error::invalid_count` (zero permits, or
    /// more than the limiter can ever grant) or `error::closed`.
    error_code error() const noexcept {
        switch (verdict_) {
        case verdict::granted: break;
        case verdict::rate_limited: return tidegate::error::rate_limited;
        case verdict::invalid_count: return tidegate::error::invalid_count;
        case verdict::closed: return tidegate::error::closed;
        }
        return {};
    }

    /// Zero if granted; the time after which the same request is admitted if nobody else takes
    /// permits in between (those who waited already are counted in); the largest duration if never.
    Duration retry_after() const noexcept {
        if (verdict_ == verdict::granted) return Duration::zero();
        if (verdict_ != verdict::rate_limited) return Duration::max();
        std::int64_t const wait = refusal_.wait();
        if (wait == std::numeric_limits<std::int64_t>::max()) return Duration::max();
        return std::chrono::ceil<Duration>(std::chrono::nanoseconds(wait));
    }

    /// A granted one.
    static rate_decision grant() noexcept { return rate_decision(verdict::granted); }

private:
    template <class, class, class>
    friend class detail::rate_limiter_state;
    template <class, class, class, class>
    friend class basic_keyed_rate_limiter;
    friend struct detail::rate_decision_maker;

    enum class verdict : std::uint8_t { granted, rate_limited, invalid_count, closed };

    explicit rate_decision(verdict v) noexcept : verdict_(v) {}
    explicit rate_decision(core::bucket_refusal const& r) noexcept
        : verdict_(verdict::rate_limited), refusal_(r) {}

    verdict verdict_;
    core::bucket_refusal refusal_;
};

namespace detail {
/// For limiters that learn elsewhere how long to wait.
struct rate_decision_maker {
    using decision = rate_decision<std::chrono::nanoseconds>;

    static decision rate_limited(std::chrono::nanoseconds wait) noexcept {
        return decision(core::bucket_refusal(std::max<std::int64_t>(wait.count(), 0)));
    }
    static decision invalid_count() noexcept { return decision(decision::verdict::invalid_count); }
};
} // namespace detail

/// Permits that were taken for work still to be done. Unless `commit()` was called they go back
/// when this object does: a call that never left the house should not count against the rate. Move
/// only; may outlive the limiter.
template <class Clock, class Executor, class Mutex>
class [[nodiscard]] basic_rate_reservation {
public:
    /// Holds nothing.
    basic_rate_reservation() noexcept = default;
    basic_rate_reservation(basic_rate_reservation&&) noexcept = default;
    basic_rate_reservation& operator=(basic_rate_reservation&& other) noexcept {
        if (this != &other) {
            refund();
            state_ = std::move(other.state_);
            count_ = other.count_;
        }
        return *this;
    }
    ~basic_rate_reservation() { refund(); }

    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// The work was done: the permits are spent.
    void commit() noexcept { state_.reset(); }

    /// Gives the permits back now.
    void refund() noexcept {
        if (auto const held = std::move(state_)) held->refund(count_);
    }

private:
    template <class, class, class>
    friend class basic_rate_limiter;
    using state = detail::rate_limiter_state<Clock, Executor, Mutex>;

    basic_rate_reservation(std::shared_ptr<state> s, std::uint64_t count) noexcept
        : state_(std::move(s)), count_(count) {}

    std::shared_ptr<state> state_;
    std::uint64_t count_ = 0;
};

/// A rate limiter: a token bucket whose permits are spent, not given back.
///
/// Guarantees: in any window of length `w`, at most `burst + rate * w` permits are granted, net of
/// refunds and with overdrafts repaid, whatever the clock does: one that steps back holds requests
/// up for the time that fills a bucket and repays the last overdraft at most (10 ms if that is
/// less; those that waited already, until another one asks) and begins a warm-up again. Continuous
/// demand gets the rate without rounding (see core/token_bucket.hpp; where a rate cannot be
/// represented exactly, the error is below 2^-52; while `n` permits above a burst that was lowered
/// are waited for or owed, it is below `n / 2^52`). Waiters are served first in, first out: nobody
/// overtakes, neither a `try_acquire` nor a small request behind a large one. A refusal writes
/// nothing that other threads read, so a storm of them slows nobody down; but while somebody waits
/// or such a debt is repaid, and in a warm-up, it takes the limiter's lock, as a grant does then.
///
/// Coroutines take permits with
///
///     co_await limiter.acquire();
///
/// which does not suspend while permits are there; everything else with `async_acquire` and a
/// completion token. However many wait, one timer is armed, for the first of them. Limits on
/// waiting (a deadline, `max_wait`, `max_waiters`) are judged on entry: a wait that cannot be met
/// in time is refused at once. Those on its time are also kept while it waits, should the limiter
/// become slower meanwhile.
///
/// Executors: a handler runs on its associated executor, by default the limiter's, never inside the
/// call that started it. The timer runs on the limiter's executor. A waiting operation holds work
/// on both.
///
/// Cancellation: total, partial and terminal cancellation all take a waiting operation out in O(1)
/// with `asio::error::operation_aborted`; those behind it move up. A cancelled operation has spent
/// nothing; one that completed without error has spent its permits, and `refund` gives them back.
///
/// Destroying the limiter closes it; its execution context may go before or after.
///
/// Thread safety: all members may be called from any thread, except construction, move and
/// destruction. Memory: `try_acquire` allocates nothing and is one exchange of an atomic word; a
/// waiting operation allocates once, from its handler's associated allocator.
///
/// `Clock` measures time (monotonic clocks only), `Mutex` is std::mutex or null_mutex.
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor,
          class Mutex = std::mutex>
class basic_rate_limiter {
    using state = detail::rate_limiter_state<Clock, Executor, Mutex>;
    using default_token = detail::default_token_t<Executor>;

public:
    using executor_type = Executor;
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using options = rate_limiter_options;
    using decision = rate_decision<duration>;
    using reservation = basic_rate_reservation<Clock, Executor, Mutex>;
    using signature = void(error_code);

    template <class OtherExecutor>
    struct rebind_executor {
        using other = basic_rate_limiter<Clock, OtherExecutor, Mutex>;
    };

    /// Throws std::invalid_argument if `settings` has no rate, or one whose permits are too many
    /// for the default burst.
    basic_rate_limiter(executor_type executor, options settings)
        : state_(state::make(executor, settings)) {}

    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_rate_limiter(Context& context, options settings)
        : basic_rate_limiter(executor_type(context.get_executor()), settings) {}

    /// The moved-from limiter may only be destroyed or assigned to.
    basic_rate_limiter(basic_rate_limiter&&) noexcept = default;
    basic_rate_limiter& operator=(basic_rate_limiter&& other) noexcept {
        if (this != &other) {
            if (state_) state_->close();
            state_ = std::move(other.state_);
        }
        return *this;
    }
    ~basic_rate_limiter() {
        if (state_) state_->close();
    }

    executor_type get_executor() const noexcept { return state_->executor(); }

    // Without waiting ---------------------------------------------------------------------------

    /// Takes `n` permits if they are there and nobody waits. `now` is for those who have read the
    /// clock already. O(1).
    decision try_acquire(std::uint64_t n = 1) noexcept { return try_acquire(n, Clock::now()); }
    decision try_acquire(std::uint64_t n, time_point now) noexcept {
        return state_->try_acquire(n, now);
    }

    /// What `try_acquire` would say; takes nothing.
    decision peek(std::uint64_t n, time_point now) const noexcept {
        return state_->template decide<false>(n, now);
    }

    /// Gives back `n` permits that were taken for work that was not done; to be called once at most
    /// for each permit. Wakes those who can go on now. The bucket never holds more than a burst.
    void refund(std::uint64_t n = 1) noexcept { state_->refund(n); }

    // Waiting -----------------------------------------------------------------------------------

    /// Takes `n` permits, waiting in line for them.
    ///
    /// Completion signature: `void(error_code)`. Errors: `operation_aborted`; `error::closed`;
    /// `error::invalid_count` when `n` is zero, or above the burst and `overdraw` is not set;
    /// `error::queue_full` when `max_waiters` wait; `error::rate_limited`, at once, when it would
    /// take longer than `max_wait`; `error::deadline_exceeded` after that time when its turn was
    /// put off while it waited: by a rate or burst that was lowered, or by a timer that came so
    /// late that a full bucket ran over.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(Token&& token = Token()) {
        return initiate<Token>(1, state::no_deadline, token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire(std::uint64_t n, Token&& token = Token()) {
        return initiate<Token>(n, state::no_deadline, token);
    }

    /// As `async_acquire`, with `error::rate_limited`, at once, if the permits will not be there in
    /// time. Should its turn be put off while it waits, `error::deadline_exceeded` when the time
    /// has come. Permits that are available are granted even when the time has passed already.
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_for(duration limit, Token&& token = Token()) {
        return initiate<Token>(1, detail::deadline_in<Clock>(limit), token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_for(duration limit, std::uint64_t n, Token&& token = Token()) {
        return initiate<Token>(n, detail::deadline_in<Clock>(limit), token);
    }

    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_until(time_point deadline, Token&& token = Token()) {
        return initiate<Token>(1, deadline, token);
    }
    template <boost::asio::completion_token_for<signature> Token = default_token>
    auto async_acquire_until(time_point deadline, std::uint64_t n, Token&& token = Token()) {
        return initiate<Token>(n, deadline, token);
    }

    /// For coroutines: tries first, and suspends only if it must. Throws
    /// boost::system::system_error with the errors of `async_acquire`.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<void, CoroutineExecutor> acquire(std::uint64_t n = 1) {
        if (state_->try_before_waiting(n, Clock::now())) co_return;
        co_await async_acquire(n, boost::asio::deferred);
    }

    /// As `acquire`; the permits go back at the end of the scope unless they were committed.
    template <class CoroutineExecutor = executor_type>
    boost::asio::awaitable<reservation, CoroutineExecutor> reserve(std::uint64_t n = 1) {
        auto kept = state_; // when it goes on the limiter may be gone
        if (!kept->try_before_waiting(n, Clock::now())) {
            co_await async_acquire(n, boost::asio::deferred);
        }
        co_return reservation(std::move(kept), n);
    }

    // Observers ---------------------------------------------------------------------------------

    /// Whole permits in the bucket at this moment.
    std::uint64_t available() const noexcept { return state_->available(Clock::now()); }

    /// Operations that wait at this moment.
    std::size_t waiting() const noexcept { return state_->waiting(); }

    /// Tells `observer`, which must not be null, from now on what happens here; see trace.hpp.
    /// Events: acquired, rejected, timed_out, cancelled. What goes back is not told.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        state_->observe("rate_limiter", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_rate_limiter_available_permits", "Permits there are",
                 static_cast<double>(available()));
        to.gauge("tidegate_rate_limiter_burst_permits", "Permits there are at most",
                 static_cast<double>(settings().burst()));
        to.gauge("tidegate_rate_limiter_permits_per_second", "The rate",
                 static_cast<double>(static_cast<double>(settings().permits()) /
                                     std::chrono::duration<double>(settings().period()).count()));
        to.gauge("tidegate_rate_limiter_waiting", "Who wait for permits",
                 static_cast<double>(waiting()));
    }

    /// The settings as they are now.
    options settings() const noexcept { return state_->settings(); }

    bool is_open() const noexcept { return !state_->is_closed(); }

    // Changing ----------------------------------------------------------------------------------

    /// Changes the rate, the burst, or both; the bucket keeps what is in it, up to the new burst,
    /// and what it owes. Waiters wait by the new rate from now on; one that asked for more than the
    /// new burst is granted on a full bucket. Throws std::invalid_argument, with nothing changed,
    /// on values that `rate_limiter_options` refuses.
    void set_rate(std::uint64_t permits, std::chrono::nanoseconds per) {
        state_->change([=](options& now) { now.burst(now.burst()).rate(permits, per); });
    }
    void set_rate(std::uint64_t permits, std::chrono::nanoseconds per, std::uint64_t burst) {
        state_->change([=](options& now) { now.rate(permits, per).burst(burst); });
    }
    void set_burst(std::uint64_t permits) {
        state_->change([=](options& now) { now.burst(permits); });
    }

    // Ending ------------------------------------------------------------------------------------

    /// Completes all waiting operations with `operation_aborted`; the limiter stays usable.
    void cancel() noexcept { state_->cancel(); }

    /// Completes all waiting operations, and all later ones, with `error::closed`.
    void close() noexcept { state_->close(); }

private:
    friend class detail::rate_limiter_access;
    template <class>
    friend class detail::rate_limiter_layer;

    template <class Token>
    auto initiate(std::uint64_t n, time_point deadline, std::remove_reference_t<Token>& token) {
        return boost::asio::async_initiate<Token, signature>(
            detail::initiation<state, detail::acquire_rate>(*state_), token, n, deadline);
    }

    std::shared_ptr<state> state_;
};

using rate_limiter = basic_rate_limiter<>;

/// Takes `n` permits from each of several limiters (a second's and a day's, a tenant's and
/// everybody's), or none at all. A refusal leaves every bucket as it was, and says how long the
/// slowest of them takes. The clock is read once.
template <class First, class... Rest>
typename First::decision try_acquire_all(std::uint64_t n, First& first, Rest&... rest) noexcept;

/// For coroutines: as `try_acquire_all`, waiting in line at one limiter after the other; put the
/// scarcest first, since what was granted already is held meanwhile. If one of them fails, or the
/// wait is cancelled, all that was taken goes back. Throws as `acquire` does.
template <class First, class... Rest>
boost::asio::awaitable<void> acquire_all(std::uint64_t n, First& first, Rest&... rest) {
    auto taken = co_await first.reserve(n);
    if constexpr (sizeof...(Rest) > 0) co_await acquire_all(n, rest...);
    taken.commit();
}

/// For programs that use it from one thread, or one strand, alone.
using unsynchronized_rate_limiter =
    basic_rate_limiter<std::chrono::steady_clock, boost::asio::any_io_executor, null_mutex>;

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/rate_limiter.hpp>
