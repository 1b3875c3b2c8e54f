// SPDX-License-Identifier: BSL-1.0
// Finds handlers that block an event loop, while they do.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/core/histogram.hpp>
#include <tidegate/detail/activity.hpp>
#include <tidegate/stall.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// In one line, and a line for each function of the stack.
TIDEGATE_DECL std::string to_string(stall const& one);

/// What a detector saw so far.
struct stall_statistics {
    std::array<std::uint64_t, stall_causes> stalls{}; ///< by cause
    std::uint64_t suppressed = 0;                     ///< stalls not reported: too many a minute
    std::uint64_t failed_reports = 0;                 ///< `on_stall` threw
    std::chrono::nanoseconds longest{0};
    /// How late something that came at a random moment found the loop, above the threshold: a stall
    /// of a second counts for all the moments in it.
    core::histogram delays;

    std::uint64_t count() const noexcept { return stalls[0] + stalls[1] + stalls[2]; }
};

/// How a detector is set, with the defaults.
class stall_detector_options {
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// A handler that takes longer has stalled, 1 ms to 1 h; default 50 ms. The threads are looked
    /// at four times as often.
    stall_detector_options& threshold(nanoseconds time) {
        detail::check_option<std::int64_t>("stall_detector threshold in ns", time.count(),
                                           1'000'000, 3'600'000'000'000);
        threshold_ = time;
        return *this;
    }
    /// Stalls that are reported in a minute, 0 to 1 million; default 5. The others are counted.
    stall_detector_options& max_reports_per_minute(std::size_t n) {
        detail::check_option<std::size_t>("stall_detector max_reports_per_minute", n, 0, 1'000'000);
        max_reports_ = n;
        return *this;
    }
    /// Called on the detector's thread: while it lasts, once it takes longer than the threshold,
    /// each time it has taken twice as long again, and when it is over. Default: prints to standard
    /// error. What it throws is counted.
    stall_detector_options& on_stall(std::function<void(stall const&)> handler) {
        on_stall_ = std::move(handler);
        return *this;
    }
    /// Reports have a stack, which is taken in a handler of this signal, sent to the stalled
    /// thread; 0, the default, sends none. A signal ends some calls early with EINTR (poll,
    /// nanosleep, select, epoll_wait, which is why a thread in one of these gets none); code that
    /// does not expect it in others may be disturbed. `SIGURG` is mostly free. Linux only.
    stall_detector_options& stack_signal(int number) {
        detail::check_option<int>("stall_detector stack_signal", number, 0, 64);
        stack_signal_ = number;
        return *this;
    }

    nanoseconds threshold() const noexcept { return threshold_; }
    std::size_t max_reports_per_minute() const noexcept { return max_reports_; }
    std::function<void(stall const&)> const& on_stall() const noexcept { return on_stall_; }
    int stack_signal() const noexcept { return stack_signal_; }

private:
    nanoseconds threshold_ = std::chrono::milliseconds(50);
    std::size_t max_reports_ = 5;
    std::function<void(stall const&)> on_stall_;
    int stack_signal_ = 0;
};

namespace detail {
class stall_watch;
}

/// Watches the handlers of the process from a thread of its own.
///
///     tidegate::stall_detector detector;
///     auto executor = tidegate::watched(context.get_executor(), "http");  // or asio_tracking.hpp
///
/// Which handlers: those that run on a `watched_executor`, and with `asio_tracking.hpp` all. Each
/// thread that runs them is watched by itself: one that is stuck among others that go on is found,
/// unlike with a heartbeat that is posted to the loop.
///
/// Guarantees. A handler that takes more than one and a half times the threshold is found while it
/// runs, one that takes less than half of it never, as long as the detector's thread gets the
/// processor. By default the watched thread is not touched: what it does is read from its clock and
/// from /proc (on Linux; elsewhere the cause is always `blocked`). It costs the watched threads two
/// stores a handler, and the detector's some microseconds a look for each thread inside a handler.
///
/// Several detectors may watch the same threads, with different thresholds. A thread that waits for
/// events is in no handler. The child of a fork() has no detector: there it finds nothing, must not
/// be asked, and may be destroyed.
class stall_detector {
public:
    TIDEGATE_DECL explicit stall_detector(stall_detector_options settings = {});
    stall_detector(stall_detector const&) = delete;
    stall_detector& operator=(stall_detector const&) = delete;
    /// Waits for a running `on_stall`.
    TIDEGATE_DECL ~stall_detector();

    TIDEGATE_DECL stall_statistics statistics() const;

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        auto const all = statistics();
        for (std::size_t i = 0; i < stall_causes; ++i) {
            to.counter("tidegate_stall_detector_stalls", "Handlers that took too long",
                       static_cast<double>(all.stalls[i]),
                       {{"cause", std::string(to_string(static_cast<stall_cause>(i)))}});
        }
        to.counter("tidegate_stall_detector_suppressed", "Stalls that were not reported",
                   static_cast<double>(all.suppressed));
        to.gauge("tidegate_stall_detector_longest_seconds", "The longest stall",
                 std::chrono::duration<double>(all.longest).count());
    }

private:
    std::unique_ptr<detail::stall_watch> watch_;
};

/// Names what this thread does, for reports, until it goes. The text has to stay. Not to be kept
/// across a suspension of a coroutine.
class [[nodiscard]] activity_label {
public:
    explicit activity_label(char const* text) noexcept
        : slot_(detail::this_thread_activity ? detail::this_thread_activity
                                             : detail::make_activity_slot()) {
        if (slot_) before_ = slot_->label.exchange(text, std::memory_order_relaxed);
    }
    activity_label(activity_label const&) = delete;
    activity_label& operator=(activity_label const&) = delete;
    ~activity_label() {
        if (slot_) slot_->label.store(before_, std::memory_order_relaxed);
    }

private:
    detail::activity_slot* slot_;
    char const* before_ = nullptr;
};

TIDEGATE_END_NAMESPACE

#if defined(TIDEGATE_HEADER_ONLY)
#include <tidegate/impl/stall_detector.ipp>
#endif
