// SPDX-License-Identifier: BSL-1.0
// The state of a rate limiter: the word of its fast path, and who waits.
#pragma once

#include <tidegate/rate_limiter.hpp>

#include <boost/config.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct acquire_rate {};

/// A waiter that wants a number of permits.
class rate_waiter : public waiter_of<void(error_code)> {
public:
    std::uint64_t const count;
    std::int64_t since = 0; // when it came, in nanoseconds

protected:
    rate_waiter(waiter::finish_fn how, std::uint64_t n)
        : waiter_of<void(error_code)>(how), count(n) {}
};

/// How a cold limiter's time runs: slowly at first. `warped` is what `elapsed` counts for.
class warm_up_ramp {
public:
    warm_up_ramp(std::chrono::nanoseconds length, double cold_factor) noexcept
        : length_(static_cast<double>(length.count())), start_(1 / cold_factor) {}

    std::int64_t length() const noexcept { return static_cast<std::int64_t>(length_); }

    std::int64_t warped(std::int64_t elapsed) const noexcept {
        auto const e = static_cast<double>(elapsed);
        return static_cast<std::int64_t>(start_ * e + (1 - start_) * e * e / (2 * length_));
    }

    /// The elapsed time that counts for `warped`; a nanosecond more than needed, at most.
    std::int64_t elapsed_for(std::int64_t warped) const noexcept {
        double const slope = (1 - start_) / length_;
        double const root = std::sqrt(start_ * start_ + 2 * slope * static_cast<double>(warped));
        return static_cast<std::int64_t>(std::ceil((root - start_) / slope)) + 1;
    }

private:
    double length_;
    double start_; // share of the full rate
};

/// The word holds what was granted, in the units of core::bucket_terms, with a version of those
/// terms and one bit that sends everybody to the lock:
///
///     word = granted << 8 | version << 1 | locked_path
///
/// The bit is set while somebody waits, so that nobody barges, while the limiter warms up or counts
/// more than its burst, while somebody holds the lock, and for ever once it is closed. While it is
/// clear, taking is one exchange of the word; while it is set, the word changes under the lock
/// only. The terms change under the lock, with the bit set and the version raised, so that an
/// exchange which succeeds was decided with the terms that belong to the word (see `published`).
template <class Clock, class Executor, class Mutex>
class rate_limiter_state final : public waiting_room<Clock, Executor, Mutex> {
    using room = waiting_room<Clock, Executor, Mutex>;
    using terms_type = core::bucket_terms;

public:
    using time_point = typename room::time_point;
    using decision = rate_decision<typename Clock::duration>;
    using options = rate_limiter_options;

    static std::shared_ptr<rate_limiter_state> make(Executor const& executor,
                                                    options const& settings) {
        check_option<std::uint64_t>("rate_limiter permits a period", settings.permits(), 1,
                                    std::uint64_t{1} << 62);
        check_option<std::uint64_t>("rate_limiter burst", settings.burst(), 1,
                                    terms_type::max_burst);
        auto state = std::make_shared<rate_limiter_state>(executor, settings);
        state->enroll();
        return state;
    }

    rate_limiter_state(Executor const& executor, options const& settings)
        : room(executor), terms_(terms_type(1, 1, 1, 0)), settings_(settings), word_(0) {
        current_ = terms_at(nanoseconds_of(Clock::now())); // which looks at who waits
        held h(*this);
        if (settings.start_empty()) h.granted = current_.burst();
        if (warms_up()) cool(h, current_.epoch());
        else publish(h);
    }

    options settings() const noexcept {
        std::lock_guard lock(this->mutex_);
        return settings_;
    }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        return waiting_.size();
    }
    std::uint64_t available(time_point t) noexcept {
        std::lock_guard lock(this->mutex_);
        held h(*this);
        std::int64_t const now = settle(h, nanoseconds_of(t));
        return current_.permits(current_.available(h.granted, current_.earned(now)));
    }

    decision try_acquire(std::uint64_t n, time_point t) noexcept {
        // Looked at first: after an exchange the load would have to wait for it.
        if (this->trace_.is_heard()) [[unlikely]]
            return decide_and_tell(n, t, true);
        return decide(n, t);
    }

    /// For those who wait if there are none: it is no refusal.
    decision try_before_waiting(std::uint64_t n, time_point t) noexcept {
        if (this->trace_.is_heard()) [[unlikely]]
            return decide_and_tell(n, t, false);
        return decide(n, t);
    }

    bool is_heard() const noexcept { return this->trace_.is_heard(); }
    void tell_granted(std::uint64_t n) noexcept { this->trace_.emit(trace_event::acquired, n); }
    void tell(decision const& what, std::uint64_t n) noexcept {
        if (what) return tell_granted(n);
        this->trace_.emit(trace_event::rejected, n, what.error(),
                          std::chrono::duration_cast<std::chrono::nanoseconds>(what.retry_after()));
    }

    /// What it says has to be told. With `Take` false: only looks whether they are there.
    template <bool Take = true>
    BOOST_FORCEINLINE decision decide(std::uint64_t n, time_point t) noexcept {
        std::int64_t const now = nanoseconds_of(t);
        for (;;) {
            std::uint64_t word = word_.load_acquire();
            if (word & locked_path) return try_under_lock<Take>(n, now);
            terms_type const terms = terms_.load();
            std::uint64_t const granted = word >> flag_bits;
            std::uint64_t const need = terms.units(n);
            if (!terms.covers(now) || n - 1 >= most_at_once_.load(std::memory_order_relaxed)) {
                return try_under_lock<Take>(n, now);
            }
            std::uint64_t const earned = terms.earned(now);
            std::uint64_t const after = terms.take(granted, earned, need);
            if (after == terms_type::refused) {
                if (is_odd(terms, granted, earned)) return try_under_lock<Take>(n, now);
                if (word_.load_acquire() == word)
                    return decision(terms.refusal(granted, need, now));
                continue;
            }
            if (is_cold(granted, earned) || need > terms.burst())
                return try_under_lock<Take>(n, now);
            if (!Take || word_.exchange(word, after << flag_bits | (word & flags)))
                return decision(decision::verdict::granted);
        }
    }

    /// A grant that takes effect if nothing has changed since: `desired` is 0 if there is none on
    /// the fast path.
    struct prepared {
        std::uint64_t seen = 0;
        std::uint64_t desired = 0;
    };
    BOOST_FORCEINLINE prepared prepare(std::uint64_t n, time_point t) const noexcept {
        std::int64_t const now = nanoseconds_of(t);
        std::uint64_t const word = word_.load_acquire();
        terms_type const terms = terms_.load();
        std::uint64_t const granted = word >> flag_bits;
        if ((word & locked_path) || !terms.covers(now) ||
            n - 1 >= most_at_once_.load(std::memory_order_relaxed)) {
            return {};
        }
        std::uint64_t const earned = terms.earned(now);
        std::uint64_t const need = terms.units(n);
        std::uint64_t const after = terms.take(granted, earned, need);
        if (after == terms_type::refused || is_cold(granted, earned) || need > terms.burst())
            return {};
        return {word, after << flag_bits | (word & flags)};
    }
    bool commit(prepared p) noexcept { return word_.exchange(p.seen, p.desired); }

    void refund(std::uint64_t n) noexcept {
        for (;;) {
            std::uint64_t word = word_.load_acquire();
            if (word & locked_path) break;
            std::uint64_t const units = terms_.load().units(n);
            std::uint64_t const granted = word >> flag_bits;
            std::uint64_t const after = granted - std::min(granted, units);
            if (word_.exchange(word, after << flag_bits | (word & flags))) return;
        }
        waiter_list ready;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) return;
            held h(*this);
            h.granted -= std::min(h.granted, current_.units(n));
            grant(h, ready);
        }
        complete(ready);
    }

    template <class Handler>
    void start(acquire_rate, Handler&& handler, std::uint64_t n, time_point deadline) {
        using op_type = wait_op<rate_waiter, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), n);
        auto* const cancel = this->connect(*op);
        std::int64_t const now = nanoseconds_of(Clock::now());
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            held h(*this);
            // Kept while it waits, too: the limiter may become slower meanwhile.
            deadline = std::min(deadline, last_moment(now));
            ec = entry(h, n, now, deadline);
            if (ec == asio::error::would_block) {
                op->since = now;
                // First, so that the timer is not set for the deadline before.
                if (waiting_.empty()) this->set_alarm(time_of(turn_of(h, n)));
                largest_waiting_ = waiting_.empty() ? n : std::max(largest_waiting_, n);
                this->park(waiting_, op, deadline, cancel);
                queued_ += n;
                return;
            }
        }
        this->trace_.emit(ec ? trace_event::rejected : trace_event::acquired, n, ec);
        if (ec) op.release()->abort(ec);
        else op.release()->complete({});
    }

    /// `change_settings` may throw, which changes nothing.
    template <class Change>
    void change(Change change_settings) {
        std::int64_t const now = nanoseconds_of(Clock::now());
        waiter_list ready;
        {
            std::lock_guard lock(this->mutex_);
            options changed = settings_;
            change_settings(changed);
            held h(*this);
            std::int64_t const bucket_now = settle(h, now);
            settings_ = changed;
            if (warming_) renew_in_ramp(h, bucket_now);
            else renew(h, bucket_now);
            if (!waiting_.empty()) grant(h, ready);
        }
        complete(ready);
    }

private:
    static constexpr unsigned flag_bits = 8;
    static constexpr std::uint64_t flags = 0xff;
    static constexpr std::uint64_t locked_path = 1;
    static constexpr std::uint64_t one_version = 2;
    static constexpr std::uint64_t never_cold = ~std::uint64_t{0};
    // Permits that take longer than any clock can tell, and to which one more can be added.
    static constexpr std::uint64_t most_queued = std::uint64_t{1} << 63;
    // Nanoseconds from reading the clock to having the lock, at most.
    static constexpr std::int64_t late_reader = 10'000'000;
    // The most waiters that one hold of the lock wakes.
    static constexpr std::size_t wake_group = 64;

    // Keeps the word to whoever holds the lock.
    struct held {
        rate_limiter_state& state;
        std::uint64_t granted;
        std::uint64_t version;

        explicit held(rate_limiter_state& s) noexcept : state(s) {
            std::uint64_t const word =
                s.word_.update([](std::uint64_t w) { return w | locked_path; });
            granted = word >> flag_bits;
            version = word & flags & ~locked_path;
        }
        held(held const&) = delete;
        held& operator=(held const&) = delete;
        ~held() {
            bool const stays =
                !state.waiting_.empty() || state.closed_ || state.warming_ || state.above_burst_;
            state.word_.store_alone(granted << flag_bits | version | (stays ? locked_path : 0));
        }
    };

    static std::int64_t nanoseconds_of(time_point t) noexcept {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
    }
    static time_point time_of(std::int64_t t) noexcept {
        if (t == std::numeric_limits<std::int64_t>::max()) return room::no_deadline;
        return time_point(std::chrono::ceil<typename Clock::duration>(std::chrono::nanoseconds(t)));
    }

    // What somebody waits for, and the `owed` units of the terms before, may be above a burst that
    // was lowered. They are counted in larger units, which are less exact, until they are settled.
    terms_type terms_at(std::int64_t epoch, std::uint64_t owed = 0) noexcept {
        std::uint64_t const debt = owed ? current_.permits(owed) + 1 : 0;
        std::uint64_t const most = std::max(debt, waiting_.empty() ? 0 : largest_waiting_);
        above_burst_ = most > settings_.burst();
        return terms_type(settings_.permits(),
                          static_cast<std::uint64_t>(settings_.period().count()), settings_.burst(),
                          epoch, units_per_ns(), most);
    }

    // So few that the terms cover a whole warm-up, since its ramp counts from their epoch.
    std::uint64_t units_per_ns() const noexcept {
        if (!warms_up()) return terms_type::max_units_per_ns;
        auto const ramp = static_cast<std::uint64_t>(settings_.warm_up().count());
        return std::min(terms_type::max_units_per_ns, (std::uint64_t{1} << 54) / ramp);
    }

    // More debt than there can be: the clock went back. Nothing is admitted then.
    bool is_odd(terms_type const& terms, std::uint64_t granted,
                std::uint64_t earned) const noexcept {
        return granted > earned &&
               granted - earned > terms.burst() + overdraft_.load(std::memory_order_relaxed);
    }

    // Idle for so long that it has to warm up. Nothing is refused then.
    bool is_cold(std::uint64_t granted, std::uint64_t earned) const noexcept {
        return granted < earned && earned - granted > cold_after_.load(std::memory_order_relaxed);
    }

    // The most permits that one request may ask for.
    std::uint64_t most_at_once() const noexcept {
        return settings_.overdraw() ? current_.permits(terms_type::max_burst) : settings_.burst();
    }

    // What is owed of the last overdraft, if it is not known what time has passed since. Who was
    // granted anything after it has found it repaid.
    std::uint64_t owed(held const& h) const noexcept {
        if (h.granted > granted_then_) return 0;
        return h.granted - std::min(h.granted, earned_then_);
    }
    // To be called, beside for an overdraft, whenever the units count from elsewhere.
    void note_debt(std::uint64_t earned, std::uint64_t granted) noexcept {
        earned_then_ = earned;
        granted_then_ = granted;
        overdraft_.store(granted - std::min(granted, earned), std::memory_order_relaxed);
    }

    BOOST_NOINLINE decision decide_and_tell(std::uint64_t n, time_point t,
                                            bool or_refused) noexcept {
        decision const found = decide(n, t);
        if (found || or_refused) tell(found, n);
        return found;
    }

    // Not inline, so that the fast path is.
    template <bool Take>
    BOOST_NOINLINE decision try_under_lock(std::uint64_t n, std::int64_t now) noexcept {
        std::lock_guard lock(this->mutex_);
        held h(*this);
        error_code const ec = entry<Take>(h, n, now, room::no_deadline);
        if (!ec) return decision(decision::verdict::granted);
        if (ec == error::closed) return decision(decision::verdict::closed);
        if (ec == error::invalid_count) return decision(decision::verdict::invalid_count);
        std::int64_t const at = turn_of(h, n);
        bool const never = at == std::numeric_limits<std::int64_t>::max();
        return decision(core::bucket_refusal(never ? at : std::max<std::int64_t>(0, at - now)));
    }

    // Takes `n` permits if nobody is ahead and they are there; otherwise says why not:
    // `would_block` for a request that may wait. With `Take` false it looks only, but the terms are
    // made to cover `now` all the same: they are what an answer is worked out with.
    template <bool Take = true>
    error_code entry(held& h, std::uint64_t n, std::int64_t now, time_point deadline) noexcept {
        if (this->closed_) return error::closed;
        std::int64_t const bucket_now = settle(h, now);
        if (n == 0 || n > most_at_once()) return error::invalid_count;
        if (waiting_.empty() && take<Take>(h, n, bucket_now)) return {};
        if (waiting_.size() >= settings_.max_waiters()) return error::queue_full;
        if (time_of(turn_of(h, n)) > deadline || queued_ >= most_queued) return error::rate_limited;
        return asio::error::would_block;
    }

    // When somebody who comes at `now` has waited for `max_wait`.
    time_point last_moment(std::int64_t now) const noexcept {
        constexpr std::int64_t latest = std::numeric_limits<std::int64_t>::max();
        std::int64_t const longest = settings_.max_wait().count();
        if (longest == latest || now > latest - longest) return room::no_deadline;
        return time_of(now + longest);
    }

    template <bool Take = true>
    bool take(held& h, std::uint64_t n, std::int64_t bucket_now) noexcept {
        std::uint64_t const earned = current_.earned(bucket_now);
        std::uint64_t const need = current_.units(n);
        std::uint64_t const after = current_.take(h.granted, earned, need);
        if (after == terms_type::refused) return false;
        if constexpr (Take) {
            h.granted = after;
            if (need > current_.burst()) note_debt(earned, after);
        }
        return true;
    }

    // When `n` permits will be there after all that wait now have got theirs.
    std::int64_t turn_of(held const& h, std::uint64_t n) const noexcept {
        return clock_time(current_.when(h.granted, queued_, current_.units(n)));
    }

    // Grants from the front while permits are there; sees to the alarm.
    void grant(held& h, waiter_list& ready) noexcept {
        std::int64_t const now = settle(h, nanoseconds_of(Clock::now()));
        waiter* last = nullptr;
        while (auto* const w = static_cast<rate_waiter*>(waiting_.front())) {
            if (ready.size() == wake_group || !take(h, w->count, now)) break;
            this->unpark(*w);
            queued_ -= w->count;
            ready.push_back(*w);
            last = w;
        }
        wait_for_front(h);
        if (last) this->retire_timer_after(*last);
    }

    void wait_for_front(held const& h) noexcept {
        auto* const w = static_cast<rate_waiter*>(waiting_.front());
        if (!w) return this->set_alarm(room::no_deadline);
        this->set_alarm(time_of(clock_time(current_.when(h.granted, current_.units(w->count)))));
    }

    typename room::trace_of_wait traced(waiter const& w) const noexcept override {
        auto const& mine = static_cast<rate_waiter const&>(w);
        return {mine.count, time_of(mine.since)};
    }

    void complete(waiter_list& ready) noexcept override {
        this->tell_all(ready, trace_event::acquired);
        while (auto* const w = static_cast<rate_waiter*>(ready.pop_front())) w->complete({});
    }

    void on_alarm(time_point, waiter_list& ready) noexcept override {
        held h(*this);
        grant(h, ready);
    }

    void on_departure(waiter& w) noexcept override {
        queued_ -= static_cast<rate_waiter&>(w).count;
    }

    // A small request behind the one that left may go on now.
    void after_departure(waiter_list& ready) noexcept override {
        held h(*this);
        grant(h, ready);
    }

    void take_all(waiter_list& all) noexcept override {
        held h(*this);
        all.append(waiting_);
        queued_ = 0;
        this->set_alarm(room::no_deadline);
    }

    void on_close() noexcept override { held h(*this); }

    // Time ------------------------------------------------------------------------------------

    bool warms_up() const noexcept { return settings_.warm_up().count() > 0; }
    warm_up_ramp ramp() const noexcept {
        return warm_up_ramp(settings_.warm_up(), settings_.cold_factor());
    }

    // Makes the terms cover `now`; returns it as the bucket's time, which runs slower in a warm-up.
    std::int64_t settle(held& h, std::int64_t now) noexcept {
        if (now < current_.epoch()) now = settle_before_epoch(h, now);
        if (warming_) {
            std::int64_t const elapsed = now - current_.epoch();
            if (elapsed < ramp().length()) {
                return settle_debt(h, current_.epoch() + ramp().warped(elapsed));
            }
            end_warm_up(h);
        }
        if (warms_up() && now - current_.when(h.granted, current_.burst()) > ramp().length()) {
            cool(h, now);
            return now;
        }
        if (!current_.covers(now) || is_settled(h, now)) renew(h, now);
        return settle_debt(h, now);
    }

    // What the terms were made larger for is over.
    bool is_settled(held const& h, std::int64_t now) const noexcept {
        return above_burst_ && waiting_.empty() && h.granted <= current_.earned(now);
    }

    // By a little: somebody read the clock before another made the terms. By more: the clock went
    // back, to a bucket as it was at the epoch, with the debt of the last overdraft. A warm-up
    // begins again.
    std::int64_t settle_before_epoch(held& h, std::int64_t now) noexcept {
        if (current_.epoch() - now <= late_reader) return current_.epoch();
        renew(h, now);
        if (!waiting_.empty()) wait_for_front(h);
        return now;
    }

    std::int64_t settle_debt(held& h, std::int64_t bucket_now) noexcept {
        std::uint64_t const earned = current_.earned(bucket_now);
        if (is_odd(current_, h.granted, earned)) {
            h.granted = earned + owed(h);
            note_debt(earned, h.granted);
            if (!waiting_.empty()) wait_for_front(h);
        }
        return bucket_now;
    }

    // The clock's time at which the bucket's is `at`.
    std::int64_t clock_time(std::int64_t at) const noexcept {
        if (!warming_ || at == std::numeric_limits<std::int64_t>::max()) return at;
        std::int64_t const warped = std::max<std::int64_t>(0, at - current_.epoch());
        std::int64_t const in_ramp = ramp().warped(ramp().length());
        if (warped > in_ramp) return at + ramp().length() - in_ramp;
        return current_.epoch() + std::min(ramp().length(), ramp().elapsed_for(warped));
    }

    void renew(held& h, std::int64_t now) noexcept {
        terms_type const before = current_;
        std::int64_t const then = std::max(now, before.epoch());
        std::uint64_t const debt = std::min(before.debt(h.granted, then), owed(h));
        current_ = terms_at(now, debt);
        h.granted = current_.carry_over(before, h.granted, then, debt);
        note_debt(current_.burst(), h.granted);
        publish(h);
    }

    // The ramp goes on from its epoch; what the bucket holds is as if taken from a full one now.
    void renew_in_ramp(held& h, std::int64_t bucket_now) noexcept {
        terms_type const before = current_;
        std::uint64_t const debt = std::min(before.debt(h.granted, bucket_now), owed(h));
        current_ = terms_at(before.epoch(), debt);
        std::uint64_t const carried = current_.carry_over(before, h.granted, bucket_now, debt);
        std::uint64_t const earned = current_.earned(bucket_now);
        h.granted = current_.take(0, earned, carried);
        note_debt(earned, h.granted);
        publish(h);
    }

    void cool(held& h, std::int64_t now) noexcept {
        current_ = terms_at(now);
        h.granted = current_.burst() - (settings_.start_empty() ? 0 : current_.units(1));
        note_debt(current_.burst(), h.granted);
        warming_ = true;
        publish(h);
    }

    // From now on the bucket's time is the clock's, less what the ramp has cost.
    void end_warm_up(held& h) noexcept {
        std::int64_t const lost = ramp().length() - ramp().warped(ramp().length());
        warming_ = false;
        current_ = current_.from_epoch(current_.epoch() + lost);
        publish(h);
    }

    // For the fast path. What lies behind the horizon of the terms comes to the lock anyway.
    std::uint64_t cold_after() const noexcept {
        std::int64_t const idle = current_.epoch() + settings_.warm_up().count();
        return warms_up() && current_.covers(idle) ? current_.earned(idle) : never_cold;
    }

    void publish(held& h) noexcept {
        h.version = (h.version + one_version) & flags;
        most_at_once_.store(most_at_once(), std::memory_order_relaxed);
        cold_after_.store(cold_after(), std::memory_order_relaxed);
        terms_.store(current_);
    }

    published<terms_type> terms_; // for the fast path; first: beside the room's trace_
    options settings_;
    terms_type current_; // the same as terms_
    // Apart from the terms, which are read by all and seldom written.
    alignas(64) fast_word<Mutex> word_;
    alignas(64) std::atomic<std::uint64_t> most_at_once_{0};
    std::atomic<std::uint64_t> overdraft_{0}; // the units that the last one went into debt by
    std::atomic<std::uint64_t> cold_after_{0};
    std::uint64_t earned_then_ = 0;  // when the last overdraft was made
    std::uint64_t granted_then_ = 0; // and with it
    bool warming_ = false;
    waiter_list waiting_;
    std::uint64_t queued_ = 0;          // permits that waiters want
    std::uint64_t largest_waiting_ = 0; // the most that one of them wants, or one before them did
    bool above_burst_ = false;          // the terms count more than a burst at once
};

/// For what takes permits of several limiters at once.
class rate_limiter_access {
public:
    template <class Limiter>
    static auto& state_of(Limiter& limiter) noexcept {
        return *limiter.state_;
    }
};

/// Takes from all limiters or from none. False also where the fast path does not go, or if somebody
/// else was faster at one of them. All are looked at first, in registers: an exchange of a word
/// holds up every load behind it.
template <class TimePoint>
bool take_at_once(std::uint64_t, TimePoint) noexcept {
    return true;
}
template <class TimePoint, class First, class... Rest>
BOOST_FORCEINLINE bool take_at_once(std::uint64_t n, TimePoint now, First& first,
                                    Rest&... rest) noexcept {
    auto const mine = first.prepare(n, now);
    if (!mine.desired || !take_at_once(n, now, rest...)) return false;
    if (first.commit(mine)) return true;
    (rest.refund(n), ...);
    return false;
}

/// Takes from one limiter after the other; gives all back if one refuses, which happens only when
/// somebody else was faster since all were looked at.
template <class Decision, class TimePoint>
Decision take_in_turn(std::uint64_t, TimePoint, Decision granted) noexcept {
    return granted;
}
template <class Decision, class TimePoint, class First, class... Rest>
Decision take_in_turn(std::uint64_t n, TimePoint now, Decision granted, First& first,
                      Rest&... rest) noexcept {
    Decision const mine = first.decide(n, now);
    if (!mine) {
        first.tell(mine, n);
        return mine;
    }
    Decision const others = take_in_turn(n, now, granted, rest...);
    if (!others) first.refund(n);
    return others;
}

template <class... States>
void tell_granted(std::uint64_t n, States&... states) noexcept {
    (states.tell_granted(n), ...);
}

/// With words about it: who refuses, for how long, and what observers are told.
template <class Decision, class TimePoint, class... States>
BOOST_NOINLINE Decision take_and_tell(std::uint64_t n, TimePoint now, States&... states) noexcept {
    Decision worst = Decision::grant();
    if (!take_at_once(n, now, states...)) {
        auto consider = [&](auto& state) {
            Decision const one = state.template decide<false>(n, now);
            if (one) return;
            state.tell(one, n);
            if (worst || one.retry_after() > worst.retry_after()) worst = one;
        };
        (consider(states), ...);
        if (worst) worst = take_in_turn(n, now, worst, states...);
    }
    if (worst) tell_granted(n, states...);
    return worst;
}

template <class Decision, class TimePoint, class... States>
BOOST_FORCEINLINE Decision take_all(std::uint64_t n, TimePoint now, States&... states) noexcept {
    if (!(states.is_heard() || ...) && take_at_once(n, now, states...)) return Decision::grant();
    return take_and_tell<Decision>(n, now, states...);
}

} // namespace detail

template <class First, class... Rest>
typename First::decision try_acquire_all(std::uint64_t n, First& first, Rest&... rest) noexcept {
    using access = detail::rate_limiter_access;
    return detail::take_all<typename First::decision>(
        n, First::clock_type::now(), access::state_of(first), access::state_of(rest)...);
}

TIDEGATE_END_NAMESPACE
