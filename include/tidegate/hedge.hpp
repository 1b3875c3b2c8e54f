// SPDX-License-Identifier: BSL-1.0
// A layer that asks a second time while the first answer is late, and takes what comes first.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/core/histogram.hpp>
#include <tidegate/detail/layer.hpp>
#include <tidegate/detail/trace_source.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/retry_budget.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of hedging, with their defaults.
class hedge_options {
public:
    /// Further attempts, 1 to 16; default 1.
    hedge_options& max_hedges(std::size_t n) {
        detail::check_option<std::size_t>("hedge max_hedges", n, 1, 16);
        max_hedges_ = n;
        return *this;
    }
    /// How long to wait for an answer before each further attempt, 0 to 10 years; default 100 ms.
    /// With `quantile`, it applies until enough answers were measured.
    hedge_options& delay(std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>("hedge delay in ns", time.count(), 0,
                                           315'576'000'000'000'000);
        delay_ = time;
        return *this;
    }
    /// Takes the delay from the measured latency: a further attempt starts when this share of all
    /// answers would have come, 0.5 to 0.9999. The rest is the load it adds. `samples` answers are
    /// needed first, 10 to 10^6, default 100; the last 10 to 20 times as many are considered.
    hedge_options& quantile(double share, std::size_t samples = 100) {
        detail::check_option<double>("hedge quantile", share, 0.5, 0.9999);
        detail::check_option<std::size_t>("hedge samples", samples, 10, 1'000'000);
        quantile_ = share;
        samples_ = samples;
        return *this;
    }
    /// Bounds the further attempts of all who share it, with those of retries; default: none.
    hedge_options& budget(std::shared_ptr<retry_budget> shared) {
        budget_ = std::move(shared);
        return *this;
    }
    /// Doing it twice at the same time does no harm. Without that nothing is hedged. Default:
    /// false.
    hedge_options& idempotent(bool yes) {
        idempotent_ = yes;
        return *this;
    }

    std::size_t max_hedges() const noexcept { return max_hedges_; }
    std::chrono::nanoseconds delay() const noexcept { return delay_; }
    std::optional<double> quantile() const noexcept { return quantile_; }
    std::size_t samples() const noexcept { return samples_; }
    std::shared_ptr<retry_budget> const& budget() const noexcept { return budget_; }
    bool idempotent() const noexcept { return idempotent_; }

private:
    std::size_t max_hedges_ = 1;
    std::chrono::nanoseconds delay_ = std::chrono::milliseconds(100);
    std::optional<double> quantile_;
    std::size_t samples_ = 100;
    std::shared_ptr<retry_budget> budget_;
    bool idempotent_ = false;
};

/// How often hedging helped.
struct hedge_statistics {
    std::uint64_t calls = 0;
    /// Further attempts that were started.
    std::uint64_t hedges = 0;
    /// Calls that a further attempt answered first.
    std::uint64_t won = 0;
    /// Further attempts that the budget did not allow.
    std::uint64_t out_of_budget = 0;
};

namespace detail {

/// Recent latencies: a full generation and the one being filled. Losers count with the time after
/// which they were given up, which they would have exceeded: without them the quantile would shrink
/// the more is hedged.
class latency_estimate {
public:
    explicit latency_estimate(std::size_t enough) : enough_(enough) {}

    /// What was measured so far stays.
    void set_enough(std::size_t enough) {
        std::lock_guard lock(mutex_);
        enough_ = enough;
    }

    void record(std::chrono::nanoseconds latency) {
        std::lock_guard lock(mutex_);
        filling_.record(static_cast<std::uint64_t>(std::max<std::int64_t>(0, latency.count())));
        if (filling_.count() < 10 * enough_) return;
        full_ = std::exchange(filling_, {});
        known_share_ = 0;
    }

    /// O(1), but O(buckets) the first time in a generation, and until there is a full one.
    std::optional<std::chrono::nanoseconds> quantile(double share) const {
        std::lock_guard lock(mutex_);
        if (full_.count() + filling_.count() < enough_) return std::nullopt;
        if (full_.count() == 0) return in_time_by(filling_, share);
        if (known_share_ != share) {
            known_ = in_time_by(full_, share);
            known_share_ = share;
        }
        return known_;
    }

private:
    // Up by the histogram's error: an answer that takes as long as the quantile is not late.
    static std::chrono::nanoseconds in_time_by(core::histogram const& of, double share) noexcept {
        double const about = std::ceil(of.percentile(share) * 1.006);
        return std::chrono::nanoseconds(static_cast<std::int64_t>(about));
    }

    std::size_t enough_;
    mutable std::mutex mutex_;
    core::histogram full_;
    core::histogram filling_;
    mutable double known_share_ = 0; // of `full_`; 0: of none
    mutable std::chrono::nanoseconds known_{0};
};

} // namespace detail

/// Starts what is inside it again, up to `max_hedges` times, while no attempt has succeeded. The
/// first success is the call's; an attempt that fails is not waited upon, and only if all fail does
/// the call, with the failure of the last that was not refused further in. Then the other attempts
/// are cancelled and waited for, so that nothing runs on behind the caller's back. They are
/// cancelled calls to the layers inside, whatever they fail with: no evidence for a breaker.
///
/// Without memory for a further attempt, those that run go on. Without memory for anything else the
/// call fails with std::bad_alloc, when no attempt runs any more; one for whose cancellation there
/// is none either is waited for.
///
/// Attempts run at the same time, on the coroutine's executor if that is a strand of
/// any_io_executor, io_context or thread_pool, or an io_context that was made for one thread (from
/// Boost 1.87 on), and on strands of it if not. The operation is called once for each. A call that
/// is not `idempotent` has one attempt, in the caller's coroutine, and so has one that is a probe
/// of a half-open breaker further out.
///
/// Source: J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013. Copies share measurements
/// and statistics.
template <class Clock = std::chrono::steady_clock>
class basic_hedge {
public:
    static constexpr detail::layer_kind kind = detail::layer_kind::hedge;
    using clock_type = Clock;
    using context = basic_call_context<Clock>;

    explicit basic_hedge(hedge_options settings)
        : shared_(std::make_shared<shared>(std::move(settings))) {}

    /// For calls that start from now on, here and in all copies. Measurements and statistics stay.
    void set(hedge_options settings) {
        auto fresh = std::make_shared<hedge_options const>(std::move(settings));
        shared_->latencies.set_enough(fresh->samples());
        std::lock_guard lock(shared_->mutex);
        shared_->settings.swap(fresh);
    }
    hedge_options settings() const { return *shared_->current(); }

    /// Tells `observer`, which must not be null, from now on what happens here and in all copies;
    /// see trace.hpp. Event: hedged.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        shared_->trace.attach("hedge", std::move(observer), std::move(name));
    }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        to.counter("tidegate_hedge_calls", "Calls", static_cast<double>(all.calls));
        to.counter("tidegate_hedge_hedges", "Further attempts", static_cast<double>(all.hedges));
        to.counter("tidegate_hedge_won", "Calls that a further attempt answered",
                   static_cast<double>(all.won));
        to.counter("tidegate_hedge_out_of_budget", "Further attempts that the budget did not allow",
                   static_cast<double>(all.out_of_budget));
    }

    hedge_statistics statistics() const {
        std::lock_guard lock(shared_->mutex);
        return shared_->statistics;
    }

    /// The delay that applies now.
    std::chrono::nanoseconds delay() const { return delay_by(*shared_->current()); }

    std::string describe() const {
        hedge_options const s = settings();
        std::string text = "hedge " + std::to_string(s.max_hedges()) + " after ";
        if (s.quantile()) text += "quantile " + std::to_string(*s.quantile()).substr(0, 6);
        else text += detail::to_text(s.delay());
        return s.idempotent() ? text : text + " (off: not idempotent)";
    }

    /// For the policy: runs `start(op, context)` for each attempt.
    template <class Executor, class Op, class T, class Start>
    boost::asio::awaitable<void, Executor> race(Op& op, context& here, outcome<T>& result,
                                                Start start) const;

private:
    struct shared {
        explicit shared(hedge_options s)
            : settings(std::make_shared<hedge_options const>(std::move(s))),
              latencies(settings->samples()) {}

        std::shared_ptr<hedge_options const> current() const {
            std::lock_guard lock(mutex);
            return settings;
        }

        mutable std::mutex mutex;
        std::shared_ptr<hedge_options const> settings;
        detail::latency_estimate latencies;
        hedge_statistics statistics;
        [[no_unique_address]] detail::trace_source trace;
    };

    std::chrono::nanoseconds delay_by(hedge_options const& s) const {
        if (!s.quantile()) return s.delay();
        return shared_->latencies.quantile(*s.quantile()).value_or(s.delay());
    }
    bool may_hedge(hedge_options const& settings, context const& here) const;
    template <class Start>
    bool try_hedge(Start start, hedge_options const& settings) const;

    template <class Executor, class Op, class T, class Start>
    boost::asio::awaitable<void, Executor> run_alone(Op& op, context& here, outcome<T>& result,
                                                     Start start, bool measured) const;
    template <class Executor, class Op, class T, class Start>
    boost::asio::awaitable<void, Executor>
    run_several(Op& op, context& here, outcome<T>& result, Start start,
                std::shared_ptr<hedge_options const> kept) const;

    std::shared_ptr<shared> shared_;
};

using hedge = basic_hedge<>;

namespace detail {
template <class Clock>
inline constexpr bool races<basic_hedge<Clock>> = true;
}

TIDEGATE_END_NAMESPACE

#include <tidegate/impl/hedge.hpp>
