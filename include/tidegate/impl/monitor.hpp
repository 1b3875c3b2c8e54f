// SPDX-License-Identifier: BSL-1.0
// The operations of a monitor, and its reports.
#pragma once

#include <tidegate/monitor.hpp>
#include <tidegate/sleep.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

inline operation_outcome outcome_of(failure const& why) noexcept {
    if (why.is_cancellation()) return operation_outcome::cancelled;
    if (why.code() == error::deadline_exceeded || why.code() == boost::asio::error::timed_out)
        return operation_outcome::timed_out;
    return operation_outcome::error;
}

template <class Clock>
class monitor_state {
    using record_type = monitored_operation<Clock>;
    using nanoseconds = std::chrono::nanoseconds;

public:
    explicit monitor_state(monitor_options settings)
        : settings_(std::move(settings)), log_(settings_.keep_last()) {}

    record_type& operation(std::string_view name) {
        std::lock_guard lock(mutex_);
        if (auto const it = operations_.find(name); it != operations_.end()) return *it->second;
        if (operations_.size() >= settings_.max_operations()) name = "(other)";
        auto place = operations_.lower_bound(name);
        if (place == operations_.end() || place->first != name) { // made first: it may throw
            auto made = std::make_unique<record_type>(std::string(name), log_);
            place = operations_.emplace_hint(place, name, std::move(made));
        }
        return *place->second;
    }

    std::vector<operation_summary> summary() const {
        std::vector<operation_summary> result;
        for (auto* const one : all()) result.push_back(one->summary());
        return result;
    }

    std::vector<operation_summary> summary(nanoseconds window) const {
        check_option<std::int64_t>("monitor summary window in ns", window.count(), 1'000'000'000,
                                   core::sliding_windows::longest);
        std::vector<operation_summary> result;
        auto const now = time_now();
        for (auto* const one : all()) result.push_back(one->summary(now, window));
        return result;
    }

    core::histogram durations(std::string_view name, operation_outcome outcome) const {
        record_type const* found = nullptr;
        {
            std::lock_guard lock(mutex_);
            if (auto const it = operations_.find(name); it != operations_.end())
                found = it->second.get();
        }
        return found ? found->durations(outcome) : core::histogram();
    }

    std::vector<finished_operation> last_operations() const { return log_.all(); }

    // Reports -----------------------------------------------------------------------------------

    template <class CoroutineExecutor, class Sink>
    static boost::asio::awaitable<void, CoroutineExecutor>
    report_every(std::shared_ptr<monitor_state> self, nanoseconds period, Sink sink) {
        using duration = typename Clock::duration;
        auto const step = std::chrono::duration_cast<duration>(std::chrono::seconds(1));
        auto next = Clock::now() + std::chrono::duration_cast<duration>(period);
        // tidegate-lint: allow(blocking-socket) a file of /proc, which is memory
        std::optional<memory_usage> before = read_memory_usage();
        self->advance();
        for (;;) {
            auto pause = sleep_until<Clock, CoroutineExecutor>(std::min(next, Clock::now() + step));
            co_await std::move(pause);
            self->advance();
            if (Clock::now() < next) continue;
            // tidegate-lint: allow(blocking-socket) a file of /proc, which is memory
            monitor_report const report = self->make_report(period, before);
            std::exception_ptr thrown;
            try {
                if constexpr (awaited_type<std::invoke_result_t<Sink&, monitor_report const&>>::
                                  is_awaitable) {
                    co_await sink(report);
                } else {
                    sink(report);
                }
            } catch (...) {
                thrown = std::current_exception();
            }
            auto const state = co_await boost::asio::this_coro::cancellation_state;
            if (state.cancelled() != boost::asio::cancellation_type::none)
                throw boost::system::system_error(boost::asio::error::operation_aborted);
            if (thrown) self->tell(thrown);
            before = report.memory;
            // Late, it does not make up for what it missed.
            next = std::max(next + std::chrono::duration_cast<duration>(period), Clock::now());
        }
    }

private:
    static std::int64_t time_now() noexcept {
        return std::chrono::duration_cast<nanoseconds>(Clock::now().time_since_epoch()).count();
    }

    // Operations stay, so the lock need not be held while they are read.
    std::vector<record_type*> all() const {
        std::vector<record_type*> result;
        std::lock_guard lock(mutex_);
        result.reserve(operations_.size());
        for (auto const& [name, one] : operations_) result.push_back(one.get());
        return result;
    }

    void advance() const {
        auto const now = time_now();
        for (auto* const one : all()) one->advance(now);
    }

    monitor_report make_report(nanoseconds period,
                               std::optional<memory_usage> const& before) const {
        monitor_report report;
        report.when = std::chrono::system_clock::now();
        report.period = period;
        report.recent = summary(period);
        report.all = summary();
        report.memory = read_memory_usage();
        if (before && report.memory) {
            report.memory_delta =
                static_cast<std::int64_t>(report.memory->resident - before->resident);
        }
        return report;
    }

    void tell(std::exception_ptr const& thrown) const noexcept {
        if (settings_.on_exception_) return settings_.on_exception_(thrown);
        try {
            std::rethrow_exception(thrown);
        } catch (std::exception const& e) {
            std::fprintf(stderr, "tidegate: a monitor's sink threw: %s\n", e.what());
        } catch (...) { // it does not say what
            std::fputs("tidegate: a monitor's sink threw\n", stderr);
        }
    }

    monitor_options const settings_;
    operation_log log_;
    std::mutex mutable mutex_; // guards the map, not the operations
    std::map<std::string, std::unique_ptr<record_type>, std::less<>> operations_;
};

} // namespace detail

template <class Clock>
template <class CoroutineExecutor, class Op>
auto basic_monitor<Clock>::operation_handle::run(operation_handle operation, time_point start,
                                                 Op op)
    -> boost::asio::awaitable<typename traits<Op>::value, CoroutineExecutor> {
    using value = typename traits<Op>::value;
    scoped_timer timer(*operation.operation_, start);
    timer.set_outcome(operation_outcome::abandoned);
    outcome<value> result;
    try {
        context const here(operation.name());
        if constexpr (traits<Op>::takes_token) {
            auto started =
                traits<Op>::start(op, here, boost::asio::as_tuple(boost::asio::deferred));
            detail::store(result, co_await std::move(started));
        } else {
            auto running = traits<Op>::await(op, here);
            if constexpr (std::is_void_v<value>) {
                co_await std::move(running);
                result.succeed();
            } else {
                result.succeed(co_await std::move(running));
            }
        }
    } catch (...) {
        result.fail(failure(std::current_exception()));
    }
    timer.stop(result ? operation_outcome::ok : detail::outcome_of(result.why()));
    co_return std::move(result).get();
}

TIDEGATE_END_NAMESPACE
