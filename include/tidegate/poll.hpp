// SPDX-License-Identifier: BSL-1.0
// Asks again and again until something is there.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/backoff.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/attempt.hpp>
#include <tidegate/detail/compat.hpp>
#include <tidegate/detail/thread_random.hpp>
#include <tidegate/sleep.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// How long to wait between two checks: from the end of one to the start of the next.
class poll_interval {
public:
    using duration = std::chrono::nanoseconds;

    /// After the first check, 1 ns to 10 years.
    template <class Rep, class Period> // NOLINTNEXTLINE(google-explicit-constructor)
    poll_interval(std::chrono::duration<Rep, Period> first)
        : first_(checked("poll interval in ns", std::chrono::ceil<duration>(first))) {}

    /// Each interval is so many times the one before, 1 to 1000; default 1.5.
    poll_interval& multiplier(double factor) {
        detail::check_option<double>("poll multiplier", factor, 1, 1000);
        multiplier_ = factor;
        return *this;
    }
    /// The longest interval, 1 ns to 10 years; default 5 s, or the first one if that is longer.
    poll_interval& cap(duration time) {
        cap_ = checked("poll cap in ns", time);
        return *this;
    }
    /// What is left to chance, so that pollers that started together do not ask together. Default:
    /// `equal`.
    poll_interval& jitter(core::jitter kind) noexcept {
        jitter_ = kind;
        return *this;
    }

    duration first() const noexcept { return first_; }

    /// The schedule that these settings stand for.
    core::backoff schedule() const noexcept {
        return {first_, multiplier_, std::max(first_, cap_), jitter_};
    }

private:
    static duration checked(char const* option, duration time) {
        detail::check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
        return time;
    }

    duration first_;
    double multiplier_ = 1.5;
    duration cap_ = std::chrono::seconds(5);
    core::jitter jitter_ = core::jitter::equal;
};

namespace detail {

/// What a check is looking for: `T` from std::optional<T>, nothing from bool.
template <class Checked>
struct polled {
    static_assert(std::is_same_v<Checked, bool>,
                  "a check results in bool or std::optional: is it there, or what is there?");
    using type = void;
};
template <class T>
struct polled<std::optional<T>> {
    using type = T;
};

template <class Clock, class Check>
using checked_t = typename operation_traits<Check, basic_call_context<Clock>>::value;

template <class Clock, class Check>
using polled_t = typename polled<checked_t<Clock, Check>>::type;

template <class Clock, class Executor, class Check>
asio::awaitable<polled_t<Clock, Check>, Executor> poll(Check check, poll_interval interval,
                                                       typename Clock::time_point deadline) {
    using duration = typename Clock::duration;
    core::backoff const schedule = interval.schedule();
    basic_call_context<Clock> context("poll");
    context.set_deadline(deadline);
    std::chrono::nanoseconds pause(0);
    for (std::uint32_t n = 1;; ++n) {
        outcome<checked_t<Clock, Check>> result;
        co_await attempt_until_deadline<Executor>(check, context, result);
        auto found = std::move(result).get();
        if constexpr (std::is_same_v<decltype(found), bool>) {
            if (found) co_return;
        } else {
            if (found) co_return std::move(*found);
        }
        pause = schedule.pause(n, pause, thread_random());
        auto next = deadline_in<Clock>(std::chrono::ceil<duration>(pause));
        if (deadline != context.no_deadline) {
            auto const now = Clock::now();
            if (now >= deadline) throw boost::system::system_error(error::deadline_exceeded);
            // One is to have a chance to end in time, and the last one to see all that there was.
            auto const latest = deadline - std::chrono::ceil<duration>(interval.first());
            next = std::min(next, now < latest ? latest : deadline);
        }
        error_code const ec = co_await pause_until<Clock, Executor>(next);
        if (ec) throw boost::system::system_error(ec);
        context.next_attempt();
    }
}

} // namespace detail

/// Runs `check` until it finds something, with growing pauses in between; for operations somewhere
/// else that cannot tell when they are done.
///
///     auto check = [&]() -> asio::awaitable<std::optional<result>> { ... };   // or bool
///     auto done = co_await tidegate::poll_until(check, 100ms, 30s);
///
/// `check` is whatever a policy can guard: it returns an awaitable or takes a completion token, and
/// may take the call context (`attempt()` counts the checks) as its first argument. Its result is a
/// bool, or a std::optional, whose value is what `poll_until` returns. It is copied or moved into
/// the coroutine; pass std::ref(check) to keep it outside.
///
/// The first check starts at once. When `deadline` passes, a check that runs is cancelled and
/// waited for. Pauses are cut short for two checks: one starts by the first interval before the
/// deadline, unless that is past, so that it may end in time; the last one starts at the deadline,
/// and finds what it need not wait for. `poll_until` does not give up before that.
///
/// Throws what a check throws, which ends the polling (give the check a policy with a retry if it
/// may fail), and boost::system::system_error: `error::deadline_exceeded` and, when cancelled,
/// `operation_aborted`. Cancels and resumes as `sleep_until` does, and shares its timer.
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor,
          class Check>
boost::asio::awaitable<detail::polled_t<Clock, std::decay_t<Check>>, Executor>
poll_until(Check&& check, poll_interval interval,
           typename Clock::time_point deadline = Clock::time_point::max()) {
    static_assert(detail::survives_await_as_temporary<Check&&>,
                  "g++ before 12.3 destroys this temporary twice: name the check, and pass the "
                  "name or std::ref(name)");
    return detail::poll<Clock, Executor>(std::decay_t<Check>(std::forward<Check>(check)), interval,
                                         deadline);
}

/// As above, for at most `timeout` from now.
template <class Clock = std::chrono::steady_clock, class Executor = boost::asio::any_io_executor,
          class Check>
boost::asio::awaitable<detail::polled_t<Clock, std::decay_t<Check>>, Executor>
poll_until(Check&& check, poll_interval interval, typename Clock::duration limit) {
    return poll_until<Clock, Executor>(std::forward<Check>(check), interval,
                                       detail::deadline_in<Clock>(limit));
}

TIDEGATE_END_NAMESPACE
