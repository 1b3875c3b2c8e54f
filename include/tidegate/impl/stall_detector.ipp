// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <tidegate/detail/thread_name.hpp>
#include <tidegate/detail/thread_probe.hpp>
#include <tidegate/impl/thread_probe.ipp>
#include <tidegate/stall_detector.hpp>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

inline long this_process() noexcept {
#if defined(__linux__)
    return ::getpid();
#else
    return 0;
#endif
}

/// The detector's thread. What it knows of a handler begins when it first sees it, up to a quarter
/// of the threshold after its start.
class stall_watch {
    using clock = std::chrono::steady_clock;
    using nanoseconds = std::chrono::nanoseconds;

public:
    explicit stall_watch(stall_detector_options settings) : settings_(std::move(settings)) {
        if (settings_.stack_signal() != 0) prepare_stacks(settings_.stack_signal());
        thread_ = std::thread([this] { run(); });
    }
    stall_watch(stall_watch const&) = delete;
    stall_watch& operator=(stall_watch const&) = delete;

    /// After a fork() there is no thread to wait for, and its locks may be held for ever.
    bool is_of_this_process() const noexcept { return process_ == this_process(); }

    ~stall_watch() {
        {
            std::lock_guard lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        thread_.join();
    }

    stall_statistics statistics() const {
        std::lock_guard lock(mutex_);
        return statistics_;
    }

private:
    /// A handler that runs.
    struct running {
        std::uint64_t sequence = 0;
        clock::time_point since;
        thread_times before;
        nanoseconds next_report{0};
        bool told = false;
        stall last; // report; its number is 0 before the first
    };
    using reports = std::vector<stall>;

    void run() {
        name_this_thread("stall detector");
        std::unique_lock lock(mutex_);
        while (!wake_.wait_for(lock, settings_.threshold() / 4, [this] { return stop_; })) {
            lock.unlock();
            look();
            lock.lock();
        }
    }

    void look() {
        reports to_tell;
        std::map<activity_slot*, running> still;
        auto const now = clock::now();
        activity_slots::all().for_each([&](activity_slot& slot) {
            std::uint64_t const sequence = slot.sequence.load(std::memory_order_relaxed);
            if ((sequence & 1) == 0) return;
            auto const it = running_.find(&slot);
            if (it != running_.end() && it->second.sequence == sequence) {
                auto& one = still[&slot] = std::move(it->second);
                running_.erase(it);
                if (now - one.since >= one.next_report) to_tell.push_back(report(slot, one, now));
            } else {
                still[&slot] = {sequence, now, read_thread_times(slot), settings_.threshold(),
                                false,    {}};
            }
        });
        // What is left has ended, or its thread.
        for (auto& [slot, one] : running_) {
            if (one.last.number != 0) end(one, now, to_tell);
        }
        running_ = std::move(still);
        for (auto const& one : to_tell) tell(one);
    }

    stall report(activity_slot const& slot, running& one, clock::time_point now) {
        stall s;
        s.number = one.last.number;
        s.duration = now - one.since;
        classify(s, one.before, read_thread_times(slot));
        if (s.number == 0) begin(s, one, now);
        auto const in_call = read_system_call(slot);
        s.thread_id = slot.id;
        s.thread_name = read_thread_name(slot);
        if (auto const* loop = slot.loop.load(std::memory_order_relaxed)) s.loop = loop;
        if (auto const* label = slot.label.load(std::memory_order_relaxed)) s.label = label;
        s.system_call = in_call.text;
        s.wait_channel = read_wait_channel(slot);
        if (one.told && settings_.stack_signal() != 0 && in_call.may_be_interrupted)
            s.stack = name_functions(take_stack(slot, settings_.stack_signal()));
        one.next_report = 2 * s.duration;
        one.last = s;
        return s;
    }

    void begin(stall& s, running& one, clock::time_point now) {
        s.number = ++number_;
        while (!reported_.empty() && reported_.front() < now - std::chrono::minutes(1))
            reported_.pop_front();
        one.told = reported_.size() < settings_.max_reports_per_minute();
        if (one.told) reported_.push_back(now);
        told_[s.number] = one.told;
        if (one.told) return;
        std::lock_guard lock(mutex_);
        ++statistics_.suppressed;
    }

    static void classify(stall& s, thread_times const& before, thread_times const& after) noexcept {
        auto const share = [&](nanoseconds part) {
            return std::clamp(
                static_cast<double>(part.count()) /
                    static_cast<double>(std::max<std::int64_t>(1, s.duration.count())),
                0.0, 1.0);
        };
        s.cpu_share = share(after.computing - before.computing);
        s.starved_share = share(after.waiting_to_run - before.waiting_to_run);
        // Neither computing nor ready to: most of the time it was asleep.
        double const awake = s.cpu_share + s.starved_share;
        s.cause = awake < 0.5                      ? stall_cause::blocked
                  : s.cpu_share >= s.starved_share ? stall_cause::busy
                                                   : stall_cause::starved;
    }

    void end(running& one, clock::time_point now, reports& to_tell) {
        stall s = one.last;
        s.over = true;
        s.duration = now - one.since;
        s.system_call.clear();
        s.wait_channel.clear();
        s.stack.clear();
        to_tell.push_back(s);
        std::lock_guard lock(mutex_);
        ++statistics_.stalls[static_cast<std::size_t>(s.cause)];
        statistics_.longest = std::max(statistics_.longest, s.duration);
        statistics_.delays.record_corrected(
            static_cast<std::uint64_t>(s.duration.count()),
            static_cast<std::uint64_t>(settings_.threshold().count()));
    }

    void tell(stall const& one) noexcept {
        auto const it = told_.find(one.number);
        bool const wanted = it != told_.end() && it->second;
        if (one.over && it != told_.end()) told_.erase(it);
        if (!wanted) return;
        try {
            if (settings_.on_stall()) settings_.on_stall()(one);
            else std::fprintf(stderr, "%s\n", to_string(one).c_str());
        } catch (...) { // a listener's trouble; the watch goes on, and counts
            std::lock_guard lock(mutex_);
            ++statistics_.failed_reports;
        }
    }

    stall_detector_options const settings_;

    // The thread's own.
    std::map<activity_slot*, running> running_;
    std::map<std::uint64_t, bool> told_; // by number of a stall that lasts
    std::deque<clock::time_point> reported_;
    std::uint64_t number_ = 0;

    std::mutex mutable mutex_;
    std::condition_variable wake_;
    bool stop_ = false;
    stall_statistics statistics_;
    long const process_ = this_process();
    std::thread thread_;
};

} // namespace detail

TIDEGATE_DECL std::string to_string(stall const& s) {
    auto const percent = [](double share) {
        return std::to_string(std::lround(share * 100)) + " %";
    };
    std::string text = s.over ? "stall over: " : "stall: ";
    text += s.loop.empty() ? "a handler" : "a handler of " + s.loop;
    text += " on thread " + std::to_string(s.thread_id);
    if (!s.thread_name.empty()) text += " (" + s.thread_name + ")";
    if (!s.label.empty()) text += ", " + s.label + ",";
    text +=
        (s.over ? " took " : " runs for ") +
        std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(s.duration).count()) +
        " ms, ";
    text += to_string(s.cause);
    if (!s.system_call.empty()) text += " in " + s.system_call;
    if (!s.wait_channel.empty()) text += " at " + s.wait_channel;
    text +=
        ", cpu " + percent(s.cpu_share) + ", waiting for a processor " + percent(s.starved_share);
    for (auto const& function : s.stack) text += "\n    " + function;
    return text;
}

TIDEGATE_DECL stall_detector::stall_detector(stall_detector_options settings)
    : watch_(std::make_unique<detail::stall_watch>(std::move(settings))) {}
TIDEGATE_DECL stall_detector::~stall_detector() {
    if (watch_->is_of_this_process()) return;
    auto const* const left_alone = watch_.release();
    static_cast<void>(left_alone);
}

TIDEGATE_DECL stall_statistics stall_detector::statistics() const { return watch_->statistics(); }

TIDEGATE_END_NAMESPACE
