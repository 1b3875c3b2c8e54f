// SPDX-License-Identifier: BSL-1.0
// A layer that tries again what failed, after a pause and within a budget.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/backoff.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/layer.hpp>
#include <tidegate/detail/quick_clock.hpp>
#include <tidegate/detail/thread_random.hpp>
#include <tidegate/detail/trace_source.hpp>
#include <tidegate/retry_budget.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// A retry that is about to happen.
struct retry_event {
    /// The attempt that failed, 1 for the first.
    std::uint32_t attempt;
    /// Empty if it succeeded with a result that the predicate does not accept.
    failure const& why;
    std::chrono::nanoseconds pause;
};

/// Why a call was not retried (any more).
enum class give_up_reason { attempts_used, not_retryable, out_of_time, out_of_budget };

/// What a call came to that was not retried any more.
struct give_up_event {
    give_up_reason reason;
    std::uint32_t attempts;
    /// The error codes of the last 8 attempts, oldest first.
    std::span<error_code const> errors;
};

/// Settings of retries, with their defaults.
class retry_options {
public:
    /// All attempts, the first one included, 1 to 2^31; default 3.
    retry_options& max_attempts(std::uint32_t n) {
        detail::check_option<std::uint32_t>("retry max_attempts", n, 1, std::uint32_t{1} << 31);
        max_attempts_ = n;
        return *this;
    }
    /// The pause before the second attempt, 1 ns to 10 years; default 100 ms.
    retry_options& base(std::chrono::nanoseconds time) {
        check_time("retry base in ns", time);
        base_ = time;
        return *this;
    }
    /// What each further pause is multiplied with, 1 (constant) to 1000; default 2.
    retry_options& multiplier(double factor) {
        detail::check_option<double>("retry multiplier", factor, 1, 1000);
        multiplier_ = factor;
        return *this;
    }
    /// The longest pause, before jitter, 1 ns to 10 years; default 30 s. A base above it is cut.
    retry_options& cap(std::chrono::nanoseconds time) {
        check_time("retry cap in ns", time);
        cap_ = time;
        return *this;
    }
    /// Default: full.
    retry_options& jitter(core::jitter kind) {
        jitter_ = kind;
        return *this;
    }
    /// How long each attempt may take; default: no limit of its own.
    retry_options& attempt_timeout(std::chrono::nanoseconds time) {
        check_time("retry attempt_timeout in ns", time);
        attempt_timeout_ = time;
        return *this;
    }
    /// How long all attempts and pauses may take together; default: no limit of its own.
    retry_options& total_timeout(std::chrono::nanoseconds time) {
        check_time("retry total_timeout in ns", time);
        total_timeout_ = time;
        return *this;
    }
    /// Doing it twice is as good as doing it once. Only then are failures retried after which the
    /// work may have been done (`failure::is_ambiguous`: no answer in time, connection broken).
    /// Default: false.
    retry_options& idempotent(bool yes) {
        idempotent_ = yes;
        return *this;
    }
    /// Bounds the further attempts of all who share it; default: none.
    retry_options& budget(std::shared_ptr<retry_budget> shared) {
        budget_ = std::move(shared);
        return *this;
    }
    /// The time before which the failure itself asks not to come back (Retry-After): the pause is
    /// that and the computed one after it, or the longer of both without jitter. Empty for none;
    /// negative, or the largest duration, for "do not come back".
    retry_options&
    delay_from(std::function<std::optional<std::chrono::nanoseconds>(failure const&)> hint) {
        delay_from_ = std::move(hint);
        return *this;
    }
    /// Called before each pause; may throw, which fails the call.
    retry_options& on_retry(std::function<void(retry_event const&)> listener) {
        on_retry_ = std::move(listener);
        return *this;
    }
    /// Called when a call that failed is not retried (any more); may throw, which fails the call.
    retry_options& on_give_up(std::function<void(give_up_event const&)> listener) {
        on_give_up_ = std::move(listener);
        return *this;
    }
    /// Where jitter comes from: called from any thread; default: a generator of each thread's own.
    retry_options& random(std::function<std::uint64_t()> source) {
        random_ = std::move(source);
        return *this;
    }

    std::uint32_t max_attempts() const noexcept { return max_attempts_; }
    core::backoff backoff() const noexcept {
        return core::backoff(std::min(base_, cap_), multiplier_, cap_, jitter_);
    }
    std::chrono::nanoseconds base() const noexcept { return base_; }
    std::chrono::nanoseconds cap() const noexcept { return cap_; }
    std::optional<std::chrono::nanoseconds> attempt_timeout() const noexcept {
        return attempt_timeout_;
    }
    std::optional<std::chrono::nanoseconds> total_timeout() const noexcept {
        return total_timeout_;
    }
    core::jitter jitter() const noexcept { return jitter_; }
    bool idempotent() const noexcept { return idempotent_; }
    std::shared_ptr<retry_budget> const& budget() const noexcept { return budget_; }
    auto const& delay_from() const noexcept { return delay_from_; }
    auto const& on_retry() const noexcept { return on_retry_; }
    auto const& on_give_up() const noexcept { return on_give_up_; }
    auto const& random() const noexcept { return random_; }

private:
    static void check_time(char const* option, std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
    }

    std::uint32_t max_attempts_ = 3;
    std::chrono::nanoseconds base_ = std::chrono::milliseconds(100);
    double multiplier_ = 2;
    std::chrono::nanoseconds cap_ = std::chrono::seconds(30);
    core::jitter jitter_ = core::jitter::full;
    std::optional<std::chrono::nanoseconds> attempt_timeout_;
    std::optional<std::chrono::nanoseconds> total_timeout_;
    bool idempotent_ = false;
    std::shared_ptr<retry_budget> budget_;
    std::function<std::optional<std::chrono::nanoseconds>(failure const&)> delay_from_;
    std::function<void(retry_event const&)> on_retry_;
    std::function<void(give_up_event const&)> on_give_up_;
    std::function<std::uint64_t()> random_;
};

namespace detail {

/// Everything but what cannot get better by itself: a closed primitive, a wrong argument.
struct worth_retrying {
    bool operator()(failure const& f) const noexcept {
        return f.code() != error::closed && f.code() != error::invalid_count;
    }
};

/// A random engine that draws from a function.
struct random_source {
    using result_type = std::uint64_t;
    std::function<std::uint64_t()> const& draw;

    static constexpr result_type min() { return 0; }
    static constexpr result_type max() { return ~result_type{0}; }
    result_type operator()() const { return draw(); }
};

} // namespace detail

/// Tries again what is inside it.
///
/// `Predicate` says what to retry: called with a `failure const&`, and, if it can be, with the
/// result of a successful attempt (which is destroyed before the pause, so that what it holds is
/// there for the next). By default every failure except `error::closed` and
/// `error::invalid_count`. Cancellation by the caller is never retried.
///
/// It never pauses past the deadline: when there is no time for another attempt, it gives up at
/// once. A layer inside that refused (an open breaker, a limiter) and knows when to come back is
/// not asked earlier; with jitter, the computed pause comes on top while there is time for that, so
/// that those who were told the same time do not come back together. One that does not know (a
/// breaker that was forced open) is not asked again. Cancellation ends a pause at once. The failure
/// that comes out is the last attempt's own; `on_give_up` tells the others.
///
/// Copies share the settings, which may be changed at any time from any thread.
template <class Clock = std::chrono::steady_clock, class Predicate = detail::worth_retrying>
class basic_retry {
    using nanoseconds = std::chrono::nanoseconds;

public:
    static constexpr detail::layer_kind kind = detail::layer_kind::retry;
    using clock_type = Clock;
    using context = basic_call_context<Clock>;

    explicit basic_retry(retry_options settings = {}, Predicate retry_if = {})
        : shared_(std::make_shared<shared>(std::move(settings))), retry_if_(std::move(retry_if)) {}

    /// For calls that start from now on.
    void set(retry_options settings) {
        auto fresh = std::make_shared<retry_options const>(std::move(settings));
        std::lock_guard lock(shared_->mutex);
        shared_->settings.swap(fresh);
    }
    retry_options settings() const { return *shared_->current(); }

    /// Tells `observer`, which must not be null, from now on what happens here and in all copies;
    /// see trace.hpp. Events: retried, gave_up. Calls that did not fail, were cancelled, or may be
    /// attempted only once tell nothing.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        shared_->trace.attach("retry", std::move(observer), std::move(name));
    }

    std::string describe() const {
        auto const s = shared_->current();
        return "retry " + std::to_string(s->max_attempts()) + " attempts, " +
               detail::to_text(s->base()) + " to " + detail::to_text(s->cap());
    }

    class call : public detail::layer_call {
    public:
        explicit call(basic_retry const& layer)
            : settings_(layer.shared_->current()),
              retry_if_(&layer.retry_if_),
              trace_(&layer.shared_->trace) {}

        error_code enter(context& c) {
            attempts_ = 0; // a retry outside this one may enter it again
            previous_ = nanoseconds(0);
            outer_ = total_ = c.deadline();
            if (auto const limit = settings_->total_timeout()) total_ = earlier(c, total_, *limit);
            begin_attempt(c, nanoseconds(0));
            if (auto const& budget = settings_->budget(); budget && c.first_use_of(*budget)) {
                budget->deposit();
            }
            return {};
        }

        template <class T>
        detail::step leave(context& c, outcome<T>& result) {
            bool const made = withdrawn_for_ != c.attempt(); // the pause was not cut short
            if (!made || c.starts() == starts_) take_back_withdrawal();
            withdrawn_for_ = 0;
            if (made) ++attempts_;
            c.set_deadline(outer_);
            if (!wanted(result)) return {};
            if (made) note(result ? error_code() : result.why().code());
            nanoseconds pause{0};
            error_code const ec = result ? error_code() : detail::code_of(result.why());
            if (auto const reason = obstacle(c, result, pause)) {
                trace_->emit(trace_event::gave_up, attempts_, ec);
                give_up(*reason);
                return {};
            }
            tell(result ? failure() : result.why(), pause);
            trace_->emit(trace_event::retried, attempts_, ec, pause);
            begin_attempt(c, pause);
            return {detail::step::what::again, pause};
        }

    private:
        using last_errors = std::array<error_code, 8>;

        template <class T>
        bool wanted(outcome<T> const& result) const {
            if (!result) {
                return !result.why().is_cancellation() && settings_->max_attempts() > 1;
            }
            if constexpr (std::is_invocable_r_v<bool, Predicate const&,
                                                typename outcome<T>::value_type const&> &&
                          !std::is_void_v<T>) {
                return (*retry_if_)(result.value());
            }
            return false;
        }

        // Why there is no further attempt, or none and the pause before it.
        template <class T>
        std::optional<give_up_reason> obstacle(context& c, outcome<T> const& result,
                                               nanoseconds& pause) {
            if (!result) {
                failure const& why = result.why();
                if (!(*retry_if_)(why) || (why.is_ambiguous() && !settings_->idempotent())) {
                    return give_up_reason::not_retryable;
                }
            }
            if (attempts_ >= settings_->max_attempts()) return give_up_reason::attempts_used;
            nanoseconds hint = c.take_retry_after();
            if (!result && settings_->delay_from()) {
                auto const asked = settings_->delay_from()(result.why());
                if (asked && *asked < nanoseconds(0)) return give_up_reason::not_retryable;
                if (asked) hint = std::max(hint, *asked);
            }
            previous_ = drawn_pause();
            pause = std::max(previous_, hint);
            if (!fits(c, pause)) {
                // Without a deadline that is a hint which says never.
                return total_ == context::no_deadline ? give_up_reason::not_retryable
                                                      : give_up_reason::out_of_time;
            }
            if (hint.count() > 0 && settings_->jitter() != core::jitter::none) {
                // Others have been told the same time.
                nanoseconds const apart(detail::add_saturated(hint.count(), previous_.count()));
                if (fits(c, apart)) pause = apart;
            }
            if (auto const& budget = settings_->budget()) {
                if (!budget->try_withdraw()) return give_up_reason::out_of_budget;
                withdrawn_for_ = c.attempt();
                starts_ = c.starts();
            }
            return std::nullopt;
        }

        // Whether there is time for an attempt after that pause.
        bool fits(context& c, nanoseconds pause) const {
            return std::chrono::ceil<typename Clock::duration>(pause) < total_ - c.now();
        }

        nanoseconds drawn_pause() const {
            core::backoff const schedule = settings_->backoff();
            if (settings_->random()) {
                detail::random_source source{settings_->random()};
                return schedule.pause(attempts_, previous_, source);
            }
            return schedule.pause(attempts_, previous_, detail::thread_random());
        }

        void tell(failure const& why, nanoseconds pause) {
            if (!settings_->on_retry()) return;
            try {
                settings_->on_retry()({attempts_, why, pause});
            } catch (...) {
                take_back_withdrawal();
                throw;
            }
        }

        // Not in the call itself, which most often has none: Asio recycles small frames only.
        void note(error_code const& ec) {
            if (!settings_->on_give_up()) return;
            if (!errors_) errors_ = std::make_unique<last_errors>();
            (*errors_)[(attempts_ - 1) % errors_->size()] = ec;
        }

        void take_back_withdrawal() noexcept {
            if (std::exchange(withdrawn_for_, 0) != 0) settings_->budget()->refund();
        }

        void give_up(give_up_reason reason) {
            if (!settings_->on_give_up()) return;
            last_errors& all = *errors_;
            std::size_t const known = std::min<std::size_t>(attempts_, all.size());
            if (attempts_ > all.size()) {
                std::rotate(all.begin(), all.begin() + attempts_ % all.size(), all.end());
            }
            settings_->on_give_up()({reason, attempts_, {all.data(), known}});
        }

        void begin_attempt(context& c, nanoseconds pause) {
            c.set_deadline(total_);
            if (auto const limit = settings_->attempt_timeout()) {
                nanoseconds const until(detail::add_saturated(pause.count(), limit->count()));
                c.set_deadline(earlier(c, total_, until));
            }
        }

        static typename Clock::time_point earlier(context& c, typename Clock::time_point deadline,
                                                  nanoseconds limit) {
            auto const in = std::chrono::ceil<typename Clock::duration>(limit);
            auto const now = c.now();
            return deadline - now <= in ? deadline : now + in;
        }

        std::shared_ptr<retry_options const> settings_;
        Predicate const* retry_if_;
        detail::trace_source const* trace_;
        typename Clock::time_point outer_{};
        typename Clock::time_point total_{};
        std::uint32_t attempts_ = 0;
        std::uint32_t withdrawn_for_ = 0; // the attempt after which a retry was paid for
        std::uint32_t starts_ = 0;        // the context's, then
        nanoseconds previous_{0};         // the pause drawn last, without what was asked for
        std::unique_ptr<last_errors> errors_;
    };

private:
    struct shared {
        explicit shared(retry_options s)
            : settings(std::make_shared<retry_options const>(std::move(s))) {}

        std::shared_ptr<retry_options const> current() const {
            std::lock_guard lock(mutex);
            return settings;
        }

        mutable std::mutex mutex;
        std::shared_ptr<retry_options const> settings;
        [[no_unique_address]] detail::trace_source trace;
    };

    std::shared_ptr<shared> shared_;
    Predicate retry_if_;
};

/// On the steady clock, for every failure that is worth it.
using retry = basic_retry<>;

/// With a predicate of one's own: `retry_if(options, [](failure const& f) { return ...; })`.
template <class Predicate>
auto retry_if(retry_options settings, Predicate predicate) {
    return basic_retry<std::chrono::steady_clock, Predicate>(std::move(settings),
                                                             std::move(predicate));
}

TIDEGATE_END_NAMESPACE
