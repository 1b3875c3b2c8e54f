// SPDX-License-Identifier: BSL-1.0
// What the layers of a policy know about a guarded call: its context, and what came of it.
#pragma once

#include <tidegate/error.hpp>

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

TIDEGATE_BEGIN_NAMESPACE

class retry_budget;

/// Why a call failed: an error code, an exception, or both when the exception is a system_error,
/// Boost's or the standard library's.
class failure {
public:
    failure() = default;
    explicit failure(error_code ec) noexcept : code_(ec) {}
    explicit failure(std::exception_ptr thrown) noexcept {
        thrown_.swap(thrown);
        try {
            std::rethrow_exception(thrown_);
        } catch (boost::system::system_error const& e) {
            code_ = e.code();
        } catch (std::system_error const& e) {
            code_ = known_as(e.code());
        } catch (...) { // has no code
            code_ = {};
        }
    }

    /// Of a call that failed before what is called was started: a refusal, whatever the code.
    static failure before_start(error_code ec) noexcept {
        failure f(ec);
        f.before_start_ = true;
        return f;
    }

    /// The call was cancelled before it failed: a cancellation, whatever the operation made of it.
    void set_cancelled() noexcept { cancelled_ = true; }

    /// No error for an exception that carries none.
    error_code const& code() const noexcept { return code_; }

    /// Null when the failure is a code alone.
    std::exception_ptr const& exception() const noexcept { return thrown_; }

    /// The result is not wanted any more. By the caller, if the call was cancelled before it
    /// failed, whatever the code; or, if that is `operation_aborted`, by whoever cancelled what the
    /// operation waits for (`cancel()`, a socket that was closed). Never an answer of what was
    /// called. An operation that limits its own time with `cancel_after` ends with that code, too:
    /// let it throw another one then, or leave the limit to a `timeout`.
    bool is_cancellation() const noexcept {
        return cancelled_ || code_ == boost::asio::error::operation_aborted;
    }

    /// The call was refused before what was called could see it: a limit of this process is used
    /// up, or the time was up in a line for it, or in a pause; of several attempts, that is said of
    /// the last. One that was cancelled in a line is a refusal and a cancellation. Says nothing
    /// about the health of what was called. The failure of another policy's call, inside this one,
    /// is known by its code alone.
    bool is_refusal() const noexcept {
        return before_start_ || code_ == error::rate_limited || code_ == error::queue_full ||
               code_ == error::circuit_open || code_ == error::overloaded ||
               code_ == error::dropped;
    }

    /// What was called may have done its work although it seems to have failed: the answer did not
    /// come in time, or the connection broke. Known are `deadline_exceeded`, Asio's `timed_out`,
    /// `connection_reset`, `connection_aborted`, `broken_pipe` and `eof`, and all codes of Beast
    /// and of Asio's TLS streams. Other codes, and exceptions without one, are taken for an answer.
    bool is_ambiguous() const noexcept {
        namespace e = boost::asio::error;
        if (before_start_) return false;
        return code_ == error::deadline_exceeded || code_ == e::timed_out ||
               code_ == e::connection_reset || code_ == e::connection_aborted ||
               code_ == e::broken_pipe || code_ == e::eof || is_of_a_stream();
    }

    [[noreturn]] void rethrow() const {
        if (thrown_) std::rethrow_exception(thrown_);
        throw boost::system::system_error(code_);
    }

private:
    // As Asio reports it, so that it compares equal.
    static error_code known_as(std::error_code const& ec) noexcept {
        if (ec.category() == std::system_category())
            return {ec.value(), boost::system::system_category()};
        if (ec.category() == std::generic_category())
#if defined(_WIN32)
            return {ec.value(), boost::system::generic_category()};
#else
            return {ec.value(), boost::system::system_category()}; // the same numbers
#endif
        return ec;
    }

    // By name: their headers are only for those who use them.
    bool is_of_a_stream() const noexcept {
        std::string_view const category = code_.category().name();
        return category == "boost.beast" || category == "beast.http" ||
               category == "boost.beast.websocket" || category == "asio.ssl.stream";
    }

    error_code code_;
    bool before_start_ = false;
    bool cancelled_ = false;
    std::exception_ptr thrown_;
};

namespace detail {

/// Never no error: for those who are told of a code alone.
inline error_code code_of(failure const& f) noexcept {
    return f.code() ? f.code() : make_error_code(error::exception_thrown);
}
/// The same; no error if nothing was thrown.
inline error_code code_of(std::exception_ptr const& thrown) noexcept {
    return thrown ? code_of(failure(thrown)) : error_code();
}

} // namespace detail

/// The result of a call, or its failure. `T` may be void.
template <class T>
class outcome {
public:
    using value_type = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

    outcome() = default;

    bool has_value() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }

    value_type& value() noexcept { return *value_; }
    value_type const& value() const noexcept { return *value_; }

    /// Meaningful without a value only.
    failure const& why() const noexcept { return why_; }

    template <class... Arguments>
    void succeed(Arguments&&... arguments) {
        value_.emplace(std::forward<Arguments>(arguments)...);
    }
    void fail(error_code ec) noexcept { fail(failure(ec)); }
    void fail(failure why) noexcept {
        value_.reset();
        why_ = std::move(why);
    }

    /// See `failure::set_cancelled`.
    void set_cancelled() noexcept { why_.set_cancelled(); }
    /// Neither a value nor a failure, as at first.
    void reset() noexcept { fail(failure()); }

    /// The value, or the failure as an exception.
    T get() && {
        if (!value_) why_.rethrow();
        if constexpr (!std::is_void_v<T>) return std::move(*value_);
    }

private:
    std::optional<value_type> value_;
    failure why_;
};

/// What an operation may know about the call that it is a part of; passed to it by the policy, and
/// readable while the operation runs.
template <class Clock>
class basic_call_context {
public:
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

    static constexpr time_point no_deadline = time_point::max();

    explicit basic_call_context(std::string_view name) noexcept : name_(name) {}

    /// The policy's name.
    std::string_view name() const noexcept { return name_; }

    /// 1 for the first attempt.
    std::uint32_t attempt() const noexcept { return attempt_; }

    /// When this attempt has to be done; `no_deadline` if no timeout applies.
    time_point deadline() const noexcept { return deadline_; }

    /// Time until the deadline, not below zero; the largest duration if there is none.
    duration remaining() const {
        if (deadline_ == no_deadline) return duration::max();
        time_point const at = Clock::now();
        return at < deadline_ ? deadline_ - at : duration::zero();
    }

    /// Why the attempt before this one failed; empty at the first, and if that succeeded with a
    /// result that was not accepted.
    error_code const& last_error() const noexcept { return last_error_; }

    /// A layer inside refused the call and knows how long it will go on doing so; zero if not.
    std::chrono::nanoseconds retry_after() const noexcept { return retry_after_; }

    /// A layer answered in place of what was called: see `fallback`.
    bool degraded() const noexcept { return degraded_; }

    // For layers --------------------------------------------------------------------------------

    /// The time of this step of the call: read once, however many layers ask.
    time_point now() {
        if (!now_) now_ = Clock::now();
        return *now_;
    }
    /// Time has passed: to be called after waiting.
    void forget_now() noexcept { now_.reset(); }

    void set_deadline(time_point t) noexcept { deadline_ = t; }
    /// An operation that is still running at the deadline is left to itself.
    bool abandons() const noexcept { return abandons_; }
    void set_abandons(bool yes) noexcept { abandons_ = yes; }
    void set_degraded() noexcept { degraded_ = true; }
    void set_retry_after(std::chrono::nanoseconds time) noexcept { retry_after_ = time; }
    std::chrono::nanoseconds take_retry_after() noexcept {
        return std::exchange(retry_after_, std::chrono::nanoseconds(0));
    }
    /// How long layers let the call wait in their lines, so far.
    duration waited() const noexcept { return waited_; }
    void set_waited(duration time) noexcept { waited_ = time; }

    /// The call is one of the few that show whether what is called works again: not to be made
    /// several times at once.
    bool is_probe() const noexcept { return probe_; }
    void set_probe(bool yes) noexcept { probe_ = yes; }

    /// How often something was started that may see the call: what began between two looks at it.
    std::uint32_t starts() const noexcept { return starts_; }
    void set_starts(std::uint32_t n) noexcept { starts_ = n; }
    void count_start() noexcept { ++starts_; }
    void uncount_start() noexcept { --starts_; }
    void next_attempt() noexcept { ++attempt_; }
    void set_last_error(error_code const& ec) noexcept { last_error_ = ec; }

    /// True the first time that this call, or one that it is a part of, asks with this budget: a
    /// call pays in once, however many layers draw on it. Remembers the first 4.
    bool first_use_of(retry_budget const& budget) noexcept {
        for (auto& used : budgets_) {
            if (used == &budget) return false;
            if (used) continue;
            used = &budget;
            return true;
        }
        return false;
    }

    /// The context of a call inside this one: its deadline and its budgets apply there too, and if
    /// it is a probe, so is what it consists of.
    basic_call_context inner(std::string_view name) const noexcept {
        basic_call_context c(name);
        c.deadline_ = deadline_;
        c.abandons_ = abandons_;
        c.probe_ = probe_;
        c.budgets_ = budgets_;
        return c;
    }

private:
    std::string_view name_;
    std::uint32_t attempt_ = 1;
    std::uint32_t starts_ = 0;
    bool degraded_ = false;
    bool abandons_ = false;
    bool probe_ = false;
    duration waited_{0};
    time_point deadline_ = no_deadline;
    std::optional<time_point> now_;
    error_code last_error_;
    std::chrono::nanoseconds retry_after_{0};
    std::array<retry_budget const*, 4> budgets_{};
};

using call_context = basic_call_context<std::chrono::steady_clock>;

TIDEGATE_END_NAMESPACE
