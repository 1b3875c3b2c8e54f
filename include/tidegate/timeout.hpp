// SPDX-License-Identifier: BSL-1.0
// A layer that bounds how long a call, or an attempt, may take.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/layer.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

TIDEGATE_BEGIN_NAMESPACE

/// Gives what is inside it a deadline. When that passes, the operation is cancelled (all
/// cancellation types) and waited for, and the call fails with `error::deadline_exceeded`; the
/// caller's own cancellation stays what the operation makes of it. If the operation succeeds in
/// spite of it, its result counts: exactly one outcome, and nothing runs on behind the caller's
/// back.
///
/// Deadlines nest: the earliest applies. One that has expired when the call begins, or when it is
/// let in after it waited (in a line, in the pause of a retry), fails the call before anything is
/// started, which is a refusal: see `failure::is_refusal`. Layers inside do not wait in a line
/// longer than the deadline allows. All timeouts of an execution context share one timer.
///
/// Copies share the setting, which may be changed at any time from any thread.
template <class Clock = std::chrono::steady_clock>
class basic_timeout {
public:
    static constexpr detail::layer_kind kind = detail::layer_kind::timeout;
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using context = basic_call_context<Clock>;

    /// 1 ns or more; otherwise throws std::invalid_argument.
    explicit basic_timeout(duration limit)
        : limit_(std::make_shared<std::atomic<std::int64_t>>(checked(limit))) {}

    /// Does not wait for an operation that is still running when its time is up, or when the caller
    /// is cancelled: it is cancelled and left to itself, with a copy of the operation and of its
    /// context that live as long as it does. What it refers to beside that is the caller's to keep;
    /// what layers held for it (a place in a bulkhead) is given back. For operations that do not
    /// heed cancellation; they have to be copy constructible, or this has no effect. To be called
    /// before the policy is made.
    basic_timeout& abandon(bool yes) noexcept {
        abandons_ = yes;
        return *this;
    }

    /// For calls that start from now on.
    void set(duration limit) { limit_->store(checked(limit), std::memory_order_relaxed); }
    duration limit() const noexcept { return duration(limit_->load(std::memory_order_relaxed)); }

    std::string describe() const {
        return "timeout " +
               detail::to_text(std::chrono::duration_cast<std::chrono::nanoseconds>(limit()));
    }

    class call : public detail::layer_call {
    public:
        explicit call(basic_timeout const& settings) noexcept : settings_(&settings) {}

        error_code enter(context& c) {
            outer_ = c.deadline();
            auto const now = c.now();
            if (outer_ <= now) return error::deadline_exceeded;
            auto const limit = settings_->limit();
            if (limit < outer_ - now || outer_ == context::no_deadline) c.set_deadline(now + limit);
            outer_abandons_ = c.abandons();
            if (settings_->abandons_) c.set_abandons(true);
            return {};
        }

        template <class T>
        detail::step leave(context& c, outcome<T>&) noexcept {
            c.set_deadline(outer_);
            c.set_abandons(outer_abandons_);
            return {};
        }

    private:
        basic_timeout const* settings_;
        bool outer_abandons_ = false;
        typename Clock::time_point outer_{};
    };

private:
    static std::int64_t checked(duration limit) {
        detail::check_option<std::int64_t>("timeout in ticks of its clock", limit.count(), 1,
                                           std::numeric_limits<std::int64_t>::max() / 2);
        return limit.count();
    }

    std::shared_ptr<std::atomic<std::int64_t>> limit_;
    bool abandons_ = false;
};

using timeout = basic_timeout<>;

TIDEGATE_END_NAMESPACE
