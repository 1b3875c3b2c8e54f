// SPDX-License-Identifier: BSL-1.0
// The states of a circuit breaker and how it moves between them.
#pragma once

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/detail/deadline.hpp>

#include <cstdio>

TIDEGATE_BEGIN_NAMESPACE

inline std::string_view to_string(breaker_state s) noexcept {
    switch (s) {
    case breaker_state::closed: return "closed";
    case breaker_state::open: return "open";
    case breaker_state::half_open: return "half_open";
    case breaker_state::forced_open: return "forced_open";
    case breaker_state::disabled: return "disabled";
    case breaker_state::metrics_only: return "metrics_only";
    }
    return "unknown";
}

// Settings ----------------------------------------------------------------------------------------

namespace detail {

inline void check_percent(char const* option, double percent) {
    check_option<double>(option, percent, 1e-6, 100);
}
inline void check_breaker_time(char const* option, std::chrono::nanoseconds time) {
    check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
}
inline void check_calls(char const* option, std::size_t calls) {
    check_option<std::size_t>(option, calls, 1, call_window::max_length);
}

} // namespace detail

inline circuit_breaker_options& circuit_breaker_options::failure_rate(double percent) {
    detail::check_percent("circuit_breaker failure_rate", percent);
    failure_rate_ = percent;
    return *this;
}
inline circuit_breaker_options&
circuit_breaker_options::slow_call_rate(double percent, nanoseconds slow_call_duration) {
    detail::check_percent("circuit_breaker slow_call_rate", percent);
    detail::check_breaker_time("circuit_breaker slow_call_duration in ns", slow_call_duration);
    slow_call_rate_ = percent;
    slow_call_duration_ = slow_call_duration;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::consecutive_failures(std::size_t n) {
    detail::check_calls("circuit_breaker consecutive_failures", n);
    consecutive_ = n;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::count_window(std::size_t calls) {
    detail::check_calls("circuit_breaker count_window", calls);
    count_window_ = calls;
    time_window_.reset();
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::time_window(nanoseconds length,
                                                                     std::size_t count) {
    detail::check_breaker_time("circuit_breaker time_window in ns", length);
    detail::check_option<std::size_t>(
        "circuit_breaker time_window slices", count, 1,
        static_cast<std::size_t>(std::min<std::int64_t>(10'000, length.count())));
    time_window_ = slices{length, count};
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::minimum_calls(std::size_t n) {
    detail::check_calls("circuit_breaker minimum_calls", n);
    minimum_calls_ = n;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::permitted_probes(std::size_t n) {
    detail::check_option<std::size_t>("circuit_breaker permitted_probes", n, 1, 10'000);
    permitted_probes_ = n;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::probe_timeout(nanoseconds time) {
    detail::check_breaker_time("circuit_breaker probe_timeout in ns", time);
    probe_timeout_ = time;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::open_duration(nanoseconds time) {
    detail::check_breaker_time("circuit_breaker open_duration in ns", time);
    open_.base = time;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::open_growth(double factor,
                                                                     nanoseconds cap) {
    detail::check_option<double>("circuit_breaker open_growth", factor, 1, 100);
    detail::check_breaker_time("circuit_breaker open_growth cap in ns", cap);
    open_.growth = factor;
    open_.cap = cap;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::jitter(double share) {
    detail::check_option<double>("circuit_breaker jitter", share, 0, 0.999999);
    open_.jitter = share;
    return *this;
}
inline circuit_breaker_options& circuit_breaker_options::ramp(std::vector<double> shares,
                                                              nanoseconds step) {
    detail::check_option<std::size_t>("circuit_breaker ramp steps", shares.size(), 0, 100);
    for (double const share : shares) {
        detail::check_option<double>("circuit_breaker ramp share", share, 1e-6, 1);
    }
    detail::check_breaker_time("circuit_breaker ramp step in ns", step);
    ramp_ = std::move(shares);
    ramp_step_ = step;
    return *this;
}
inline circuit_breaker_options&
circuit_breaker_options::on_transition(std::function<void(breaker_state, breaker_state)> listener) {
    on_transition_ = std::move(listener);
    return *this;
}
inline circuit_breaker_options&
circuit_breaker_options::on_rejected(std::function<void()> listener) {
    on_rejected_ = std::move(listener);
    return *this;
}
inline circuit_breaker_options&
circuit_breaker_options::on_exception(std::function<void(std::exception_ptr)> handler) {
    on_exception_ = std::move(handler);
    return *this;
}

inline core::trip_rule circuit_breaker_options::rule() const noexcept {
    std::size_t const most = time_window_ ? minimum_calls_ : count_window_;
    return {failure_rate_, slow_call_rate_, std::min(minimum_calls_, most)};
}

// Admission ---------------------------------------------------------------------------------------

template <class Clock>
basic_circuit_breaker<Clock>::basic_circuit_breaker(options settings) {
    regimes_.push_back(regime_for(std::move(settings), nullptr));
    current_ = regimes_.back().get();
    if (auto const& w = current().settings.time_window_)
        timed_.emplace(w->length.count(), w->count);
    std::lock_guard lock(mutex_);
    move_to(breaker_state::closed, time_point());
    events_.clear();
}

template <class Clock>
auto basic_circuit_breaker<Clock>::regime_for(options&& settings, regime const* before)
    -> std::unique_ptr<regime const> {
    auto fresh = std::make_unique<regime>();
    fresh->rule = settings.rule();
    // A window that nothing was recorded in for a while is out of date.
    bool const same = before && !before->settings.time_window_ &&
                      before->settings.consecutive_ == 0 &&
                      before->window->length() == settings.count_window_;
    fresh->window =
        same ? before->window : std::make_shared<detail::call_window>(settings.count_window_);
    fresh->settings = std::move(settings);
    return fresh;
}

template <class Clock>
auto basic_circuit_breaker<Clock>::acquire(std::optional<time_point> now) -> permit {
    std::uint64_t const word = word_.load(std::memory_order_acquire);
    regime const& r = current();
    switch (state_of(word)) {
    case breaker_state::closed:
        if (word & needs_lock) break;
        [[fallthrough]];
    case breaker_state::metrics_only: {
        bool const timed = r.settings.slow_call_duration_.has_value();
        time_point const started = !timed ? permit::not_timed : now ? *now : Clock::now();
        return permit(this, word >> era_shift, 0, started);
    }
    case breaker_state::disabled: return permit(this, word >> era_shift, 0, permit::not_timed);
    case breaker_state::forced_open: return refuse(r);
    case breaker_state::open:
        if (!now) now = Clock::now();
        if (ns(*now) < open_until_.load(std::memory_order_relaxed)) return refuse(r);
        break;
    case breaker_state::half_open: break;
    }
    return acquire_under_lock(now ? *now : Clock::now());
}

template <class Clock>
auto basic_circuit_breaker<Clock>::acquire_under_lock(time_point now) -> permit {
    std::unique_lock lock(mutex_);
    regime const& r = current();
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    if (state_of(word) == breaker_state::open && ns(now) >= open_until_) {
        move_to(breaker_state::half_open, now);
    } else if (state_of(word) == breaker_state::half_open) {
        conclude_probing(now, std::nullopt); // in case there was no memory for it when it was due
    }
    word = word_.load(std::memory_order_relaxed);
    permit granted;
    if (state_of(word) == breaker_state::half_open) {
        if (auto const probe = probes_->start(ns(now))) {
            granted = permit(this, word >> era_shift, probe, now);
        }
    } else if (state_of(word) == breaker_state::closed) {
        if (ramp_.over(ns(now))) word_.store(word & ~needs_lock, std::memory_order_release);
        if (ramp_.admit(ns(now))) granted = permit(this, word >> era_shift, 0, now);
    } else if (state_of(word) == breaker_state::disabled ||
               state_of(word) == breaker_state::metrics_only) {
        granted = permit(this, word >> era_shift, 0, now);
    }
    tell(lock);
    lock.unlock();
    return granted ? std::move(granted) : refuse(r);
}

template <class Clock>
auto basic_circuit_breaker<Clock>::refuse(regime const& r) const -> permit {
    trace_.emit(trace_event::rejected, 1, error::circuit_open);
    if (r.settings.on_rejected_) call(r, r.settings.on_rejected_);
    return {};
}

// Results -----------------------------------------------------------------------------------------

template <class Clock>
void basic_circuit_breaker<Clock>::report(permit const& of, bool failed, error_code ec,
                                          std::optional<duration> retry_after,
                                          std::optional<time_point> now) {
    std::uint64_t const word = word_.load(std::memory_order_acquire);
    regime const& r = current();
    if (failed) {
        std::lock_guard lock(mutex_);
        last_error_ = ec;
    }
    if (word >> era_shift != of.era_ || state_of(word) == breaker_state::disabled) return;
    auto const& slow_after = r.settings.slow_call_duration_;
    bool const timed = slow_after || r.settings.time_window_ || of.probe_;
    if (timed && !now) now = Clock::now();
    // A call that began before the rule about slow calls was set is not slow.
    bool const slow =
        slow_after && of.started_ != permit::not_timed && *now - of.started_ >= *slow_after;
    if (!of.probe_ && !record(r, of.era_, failed, slow) && !r.settings.time_window_) return;
    report_under_lock(of, failed, slow, retry_after, now ? *now : Clock::now());
}

// True if it may be time to trip.
template <class Clock>
bool basic_circuit_breaker<Clock>::record(regime const& r, std::uint64_t era, bool failed,
                                          bool slow) noexcept {
    if (r.settings.consecutive_ > 0) return record_in_a_row(r.settings.consecutive_, era, failed);
    if (r.settings.time_window_) return false; // recorded under the lock
    return r.window->record(era, failed, slow) && r.rule.trips(r.window->counts());
}

template <class Clock>
bool basic_circuit_breaker<Clock>::record_in_a_row(std::size_t most, std::uint64_t era,
                                                   bool failed) noexcept {
    std::uint64_t const none = era << 20;
    std::uint64_t seen = in_a_row_.load(std::memory_order_relaxed);
    std::uint64_t row = 0;
    do {
        if (seen >> 20 != (none >> 20) || (!failed && seen == none)) return false;
        row = failed ? std::min(seen - none + 1, row_mask) : 0;
    } while (!in_a_row_.compare_exchange_weak(seen, none + row, std::memory_order_relaxed));
    return row >= most;
}

template <class Clock>
void basic_circuit_breaker<Clock>::report_under_lock(permit const& of, bool failed, bool slow,
                                                     std::optional<duration> retry_after,
                                                     time_point now) {
    std::unique_lock lock(mutex_);
    std::uint64_t const word = word_.load(std::memory_order_relaxed);
    if (word >> era_shift != of.era_) return;
    if (of.probe_) {
        if (!probes_->report(of.probe_, ns(now), failed, slow)) return;
        conclude_probing(now, retry_after);
    } else {
        if (timed_) timed_->record(ns(now), failed, slow);
        if (state_of(word) != breaker_state::closed || !should_trip(ns(now))) return;
        open(now, retry_after);
    }
    tell(lock);
}

template <class Clock>
void basic_circuit_breaker<Clock>::take_back(std::uint64_t era, core::probes::id probe) noexcept {
    std::lock_guard lock(mutex_);
    if (word_.load(std::memory_order_relaxed) >> era_shift == era) probes_->take_back(probe);
}

// Transitions -------------------------------------------------------------------------------------

// What may throw comes first: a transition that finds no memory has not begun.
template <class Clock>
void basic_circuit_breaker<Clock>::move_to(breaker_state next, time_point now, std::uint32_t trips,
                                           nanoseconds open_for) {
    std::uint64_t const word = word_.load(std::memory_order_relaxed);
    std::uint64_t const era = (word >> era_shift) + 1;
    regime const& r = current();
    std::optional<core::probes> probes;
    if (next == breaker_state::half_open)
        probes.emplace(r.settings.permitted_probes_, r.settings.probe_timeout_.count());
    std::vector<double> shares;
    if (next == breaker_state::closed && state_of(word) == breaker_state::half_open)
        shares = r.settings.ramp_;
    if (state_of(word) != next) {
        bool const opens = next == breaker_state::open;
        events_.push_back(
            {state_of(word), next, trips, open_for, opens ? last_error_ : error_code()});
    }

    probes_ = std::move(probes);
    bool locked = next == breaker_state::half_open;
    if (next == breaker_state::closed || next == breaker_state::metrics_only) {
        r.window->begin(era);
        in_a_row_.store(era << 20, std::memory_order_relaxed);
        if (timed_) timed_->clear();
    }
    if (next == breaker_state::closed) {
        ramp_ = core::ramp(std::move(shares), r.settings.ramp_step_.count(), ns(now));
        locked = !ramp_.over(ns(now));
        closed_since_ = std::max(ns(now), ramp_.end());
    }
    word_.store(era << era_shift | (locked ? needs_lock : 0) | static_cast<std::uint64_t>(next),
                std::memory_order_release);
}

template <class Clock>
void basic_circuit_breaker<Clock>::open(time_point now, std::optional<duration> retry_after) {
    bool const was_closed = state() == breaker_state::closed;
    bool const anew = was_closed && ns(now) - closed_since_ >= last_open_time_;
    std::uint32_t const trips = anew ? 1 : trips_ + 1;
    auto time = current().settings.open_.duration(trips, detail::thread_random());
    if (retry_after) time = std::max(time, detail::in_nanoseconds(*retry_after));
    constexpr nanoseconds latest = std::numeric_limits<nanoseconds>::max();
    // Before the state, which tells others to read it.
    open_until_ = ns(now) > latest - time.count() ? latest : ns(now) + time.count();
    move_to(breaker_state::open, now, trips, time.count());
    trips_ = trips;
    last_open_time_ = time.count();
}

// Moves on if the probes have decided. If that throws, the next call finds it still to be done.
template <class Clock>
void basic_circuit_breaker<Clock>::conclude_probing(time_point now,
                                                    std::optional<duration> retry_after) {
    switch (probes_->decide(probe_rule())) {
    case core::probes::verdict::undecided: break;
    case core::probes::verdict::sick: open(now, retry_after); break;
    case core::probes::verdict::healthy: move_to(breaker_state::closed, now); break;
    }
}

template <class Clock>
core::trip_rule basic_circuit_breaker<Clock>::probe_rule() const {
    regime const& r = current();
    core::trip_rule rule = r.rule;
    if (r.settings.consecutive_ > 0) rule.failure_rate = 1e-9; // any failure
    return rule;
}

template <class Clock>
core::call_counts basic_circuit_breaker<Clock>::window_counts(nanoseconds now) const {
    if (timed_) return timed_->counts(now);
    regime const& r = current();
    if (r.settings.consecutive_ == 0) return r.window->counts();
    std::uint64_t const row = in_a_row_.load(std::memory_order_relaxed) & row_mask;
    return {row, row, 0};
}

template <class Clock>
bool basic_circuit_breaker<Clock>::should_trip(nanoseconds now) const {
    regime const& r = current();
    if (r.settings.consecutive_ > 0) {
        return (in_a_row_.load(std::memory_order_relaxed) & row_mask) >= r.settings.consecutive_;
    }
    return r.rule.trips(window_counts(now));
}

template <class Clock>
void basic_circuit_breaker<Clock>::become(breaker_state next) {
    time_point const now = Clock::now();
    std::unique_lock lock(mutex_);
    move_to(next, now);
    tell(lock);
}

template <class Clock>
void basic_circuit_breaker<Clock>::trip() {
    time_point const now = Clock::now();
    std::unique_lock lock(mutex_);
    open(now, std::nullopt);
    tell(lock);
}

template <class Clock>
void basic_circuit_breaker<Clock>::reconfigure(options settings) {
    std::lock_guard lock(mutex_);
    regime const& before = current();
    auto fresh = regime_for(std::move(settings), &before);
    bool const same_window = fresh->window == before.window;
    // What may throw comes first: settings are taken as a whole, or not at all.
    auto const& timed = fresh->settings.time_window_;
    bool const same_slices =
        timed && timed_ && timed_->has_shape(timed->length.count(), timed->count);
    std::optional<core::time_window> slices;
    if (timed && !same_slices) slices.emplace(timed->length.count(), timed->count);
    auto probes = probes_;
    if (probes) {
        options const& s = fresh->settings;
        probes->restart(s.permitted_probes_, s.probe_timeout_.count());
    }
    regimes_.push_back(std::move(fresh));

    current_.store(regimes_.back().get(), std::memory_order_release);
    std::uint64_t const era = word_.load(std::memory_order_relaxed) >> era_shift;
    if (!same_window) current().window->begin(era);
    if (before.settings.consecutive_ == 0) in_a_row_.store(era << 20, std::memory_order_relaxed);
    if (!same_slices) timed_ = std::move(slices);
    probes_ = std::move(probes);
}

template <class Clock>
void basic_circuit_breaker<Clock>::tell(std::unique_lock<std::mutex>& lock) {
    if (telling_) return; // whoever does it already tells this too
    telling_ = true;
    while (!events_.empty()) {
        event const e = events_.front();
        events_.pop_front();
        regime const& r = current();
        lock.unlock();
        trace(e);
        if (r.settings.on_transition_) call(r, r.settings.on_transition_, e.from, e.to);
        lock.lock();
    }
    telling_ = false;
}

template <class Clock>
void basic_circuit_breaker<Clock>::trace(event const& e) const noexcept {
    auto what = trace_event::disabled;
    if (e.to == breaker_state::closed) what = trace_event::closed;
    if (e.to == breaker_state::half_open) what = trace_event::half_opened;
    if (e.to == breaker_state::open || e.to == breaker_state::forced_open)
        what = trace_event::opened;
    trace_.emit(what, e.trips, e.why, std::chrono::nanoseconds(e.open_for));
}

template <class Clock>
template <class Listener, class... Arguments>
void basic_circuit_breaker<Clock>::call(regime const& r, Listener const& listener,
                                        Arguments... arguments) const noexcept {
    try {
        listener(arguments...);
    } catch (std::exception const& e) {
        if (r.settings.on_exception_) r.settings.on_exception_(std::current_exception());
        else std::fprintf(stderr, "tidegate: a circuit breaker's listener threw: %s\n", e.what());
    } catch (...) {
        if (r.settings.on_exception_) r.settings.on_exception_(std::current_exception());
        else
            std::fputs("tidegate: a circuit breaker's listener threw an unknown exception\n",
                       stderr);
    }
}

// Observers ---------------------------------------------------------------------------------------

template <class Clock>
auto basic_circuit_breaker<Clock>::retry_after(time_point now) const -> duration {
    nanoseconds until = 0;
    switch (state()) {
    case breaker_state::forced_open: return duration::max();
    case breaker_state::open: until = open_until_.load(std::memory_order_relaxed); break;
    case breaker_state::half_open: until = next_probe(ns(now)); break;
    default: break;
    }
    if (until <= ns(now)) return duration::zero();
    return std::chrono::ceil<duration>(std::chrono::nanoseconds(until - ns(now)));
}

template <class Clock>
auto basic_circuit_breaker<Clock>::next_probe(nanoseconds now) const -> nanoseconds {
    std::lock_guard lock(mutex_);
    if (!probes_ || probes_->has_place(now)) return now;
    // Probes mostly report long before their leases are over: ask again after the time for which
    // the breaker was open.
    nanoseconds const expiry = probes_->next_expiry(now);
    return last_open_time_ > 0 ? std::min(expiry, now + last_open_time_) : expiry;
}

template <class Clock>
bool basic_circuit_breaker<Clock>::is_as_new() const {
    nanoseconds const now = ns(Clock::now());
    std::lock_guard lock(mutex_);
    auto const seen = window_counts(now);
    return recovered(now) && seen.failures == 0 && seen.slow == 0;
}

template <class Clock>
bool basic_circuit_breaker<Clock>::has_recovered() const {
    nanoseconds const now = ns(Clock::now());
    std::lock_guard lock(mutex_);
    return recovered(now);
}

template <class Clock>
bool basic_circuit_breaker<Clock>::recovered(nanoseconds now) const {
    std::uint64_t const word = word_.load(std::memory_order_relaxed);
    if (state_of(word) != breaker_state::closed || !ramp_.over(now)) return false;
    return trips_ == 0 || now - closed_since_ >= last_open_time_;
}

template <class Clock>
bool basic_circuit_breaker<Clock>::was_reconfigured() const {
    std::lock_guard lock(mutex_);
    return regimes_.size() > 1;
}

template <class Clock>
core::call_counts basic_circuit_breaker<Clock>::counts() const {
    auto const now = Clock::now();
    std::lock_guard lock(mutex_);
    return probes_ ? probes_->counts() : window_counts(ns(now));
}

template <class Clock>
error_code basic_circuit_breaker<Clock>::last_error() const {
    std::lock_guard lock(mutex_);
    return last_error_;
}

template <class Clock>
auto basic_circuit_breaker<Clock>::settings() const -> options {
    return current().settings;
}

TIDEGATE_END_NAMESPACE
