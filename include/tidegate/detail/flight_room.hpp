// SPDX-License-Identifier: BSL-1.0
// Loads in progress, and those who wait for them: what caches, lazy values and single_flight share.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/detail/deadline.hpp>
#include <tidegate/detail/load_graph.hpp>
#include <tidegate/detail/operation_traits.hpp>
#include <tidegate/detail/side_task.hpp>
#include <tidegate/detail/waiting_room.hpp>
#include <tidegate/loaded.hpp>

#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct join_flight {};
struct await_flight {};

/// One call of a loader, which may load several keys.
struct load_run : load_node {
    std::shared_ptr<side_task> task; // once it has begun
    std::size_t wanted = 0;          // of its flights
};

/// The load of one key.
template <class Key, class Value, class TimePoint>
struct flight : load_node {
    using limits = std::multimap<TimePoint, flight*>;

    explicit flight(Key k) : key(std::move(k)) {}

    Key key;
    waiter_list waiting;
    std::optional<std::int64_t> began; // nanoseconds since the clock's epoch
    std::shared_ptr<load_run> run;
    load_wait on_run; // whoever waits for the key waits for all that the run loads
    std::size_t tickets = 0;
    bool findable = true; // whoever asks for the key joins
    bool kept = false;    // goes on though nobody waits
    bool over = false;    // nobody wants its result any more, or has it

    // For those with tickets, when it is over.
    std::exception_ptr failure;
    Value value{};
    std::exception_ptr replaced; // by it; goes when this does, not under the lock

    typename std::list<std::shared_ptr<flight>>::iterator place;
    typename limits::iterator limit;
    bool is_limited = false; // `limit` is there
    std::shared_ptr<flight> next_doomed;
};

/// How a caller waits for a load.
template <class TimePoint>
struct flight_terms {
    /// When it stops waiting, which leaves the load running.
    TimePoint patience = TimePoint::max();
    /// The load goes on though nobody waits.
    bool kept = false;
    /// A value that is there will not do.
    bool anew = false;
};

template <class Key, class Value, class TimePoint>
class flight_waiter : public waiter_of<void(std::exception_ptr, Value)> {
public:
    flight<Key, Value, TimePoint>* record = nullptr;
    TimePoint patience = TimePoint::max();
    load_wait edge;

protected:
    using waiter_of<void(std::exception_ptr, Value)>::waiter_of;
};

/// The rules:
/// - A load belongs to its record, never to a caller. Callers wait, and leave alone.
/// - When the last one leaves, the load is cancelled, unless it is `kept`. From then on nobody can
///   join it, and its result is dropped.
/// - A load that takes longer than its time limit fails those who wait, frees its key, and is
///   cancelled; should it not listen, its result is dropped.
/// - A record is removed before anybody is woken, so that whoever asks again at once loads again.
/// - `fence` keeps the loads of a key from being joined and stored; those who wait get the result.
/// - Where values have a lock of their own, whoever changes one takes a `fencing_lock`: no load
///   that began before is stored after that.
///
/// A load results in a `Loaded`, a caller gets a `Value`. What `Derived` has to have:
/// - `normalised(result)`: a `Loaded` from what the function returned.
/// - `prepare(flight const&, Loaded&, leftovers&)`: before the lock is taken.
/// - `look_again(key, Value&, exception_ptr&)`: under the lock, whether there is a value after all,
///   or a failure. Takes the values' own lock, if they have one.
/// - `landed(flight&, bool current, exception_ptr const&, Loaded*, leftovers&)`: under the lock;
///   the value, stored if the flight is current, that is, not fenced.
/// - `overdue(flight&)`: under the lock; it takes too long. Those who wait have not left yet.
/// - `after_overdue()`: after the lock.
/// - `after_landing(leftovers&)`: after the lock, also if nobody wanted the result any more.
template <class Derived, class Key, class Value, class Loaded, class Hash, class Equal, class Clock,
          class Executor>
class flight_room : public waiting_room<Clock, Executor, std::mutex> {
    using room = waiting_room<Clock, Executor, std::mutex>;

protected:
    using flight_type = flight<Key, Value, typename Clock::time_point>;
    using waiter_type = flight_waiter<Key, Value, typename Clock::time_point>;

public:
    using time_point = typename Clock::time_point;
    using terms = flight_terms<time_point>;

    /// Waits for the load of `key`, and begins it if there is none.
    template <class Handler, class Load>
    void start(join_flight, Handler&& handler, Key key, Load&& load, terms how) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        // The load that the caller is part of, if any.
        auto caller = load_of(asio::get_associated_executor(handler, this->executor()));
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        std::shared_ptr<flight_type> fresh;
        Value found{};
        std::exception_ptr failed;
        error_code refused;
        {
            std::lock_guard lock(this->mutex_);
            auto const [record, is_new] = find_or_make(key, how.anew, found, failed);
            if (record) {
                refused = join(op, record, is_new, std::move(caller), how, cancel);
                if (!refused && !is_new) return;
                if (!refused) fresh = record;
            } else if (this->closed_) {
                refused = error::closed;
            }
        }
        if (fresh) begin(std::move(fresh), std::forward<Load>(load));
        else if (refused) refuse(*op.release(), refused);
        else op.release()->complete(std::move(failed), std::move(found));
    }

    /// Begins the load of `key` for nobody in particular, unless there is one.
    template <class Load>
    void begin_in_background(Key key, Load&& load) {
        std::shared_ptr<flight_type> fresh;
        Value found{}; // goes after the lock
        std::exception_ptr failed;
        {
            std::lock_guard lock(this->mutex_);
            auto [record, is_new] = find_or_make(key, false, found, failed);
            if (!is_new) return;
            fresh = std::move(record);
            fresh->kept = true;
        }
        begin(std::move(fresh), std::forward<Load>(load));
    }

    /// An interest in the load of a key, which keeps it going as one who waits does.
    class ticket {
    public:
        ticket(Value found, std::exception_ptr failed)
            : found_(std::move(found)), failed_(std::move(failed)) {}
        ticket(std::shared_ptr<flight_room> room, std::shared_ptr<flight_type> one) noexcept
            : room_(std::move(room)), flight_(std::move(one)) {
            ++flight_->tickets;
        }
        ticket(ticket&&) noexcept = default;
        ticket& operator=(ticket&&) = delete;
        ~ticket() {
            if (room_) room_->give_up(*flight_);
        }

        /// Null if there was a value after all, or a failure.
        std::shared_ptr<flight_type> const& load() const noexcept { return flight_; }
        Value const& found() const noexcept { return found_; }
        std::exception_ptr const& failed() const noexcept { return failed_; }

    private:
        std::shared_ptr<flight_room> room_;
        std::shared_ptr<flight_type> flight_;
        Value found_{};
        std::exception_ptr failed_;
    };

    /// Joins the loads of `keys`, which have to be different, and begins one for all that have
    /// none: `load(std::vector<Key>)` is to return an awaitable of a range of as many results, in
    /// order.
    template <class Load>
    std::vector<ticket> board(std::vector<Key> keys, Load&& load, bool kept) {
        auto self = std::static_pointer_cast<flight_room>(this->shared_from_this());
        std::vector<ticket> tickets;
        tickets.reserve(keys.size());
        std::vector<std::shared_ptr<flight_type>> fresh;
        fresh.reserve(keys.size());
        std::vector<Key> to_load;
        to_load.reserve(keys.size());
        try {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) throw boost::system::system_error(error::closed);
            for (Key& key : keys) {
                Value found{};
                std::exception_ptr failed;
                Key copy(key);
                auto [record, is_new] = find_or_make(key, false, found, failed);
                if (!record) {
                    tickets.emplace_back(std::move(found), std::move(failed));
                    continue;
                }
                record->kept |= kept;
                if (is_new) {
                    fresh.push_back(record);
                    to_load.push_back(std::move(copy));
                }
                tickets.emplace_back(self, std::move(record));
            }
        } catch (...) { // those before would never begin, and never end
            for (auto const& one : fresh) end(*one, std::current_exception(), nullptr);
            throw;
        }
        if (!fresh.empty())
            begin_all(std::move(fresh), std::move(to_load), std::forward<Load>(load));
        return tickets;
    }

    /// Its `failure` and `value` do not change any more; for those with tickets, they are there.
    bool is_over(flight_type const& one) const noexcept {
        std::lock_guard lock(this->mutex_);
        return one.over;
    }

    /// Waits until a load is over whose ticket the caller has.
    template <class Handler>
    void start(await_flight, Handler&& handler, std::shared_ptr<flight_type> record) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto caller = load_of(asio::get_associated_executor(handler, this->executor()));
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        error_code refused;
        {
            std::lock_guard lock(this->mutex_);
            if (!record->over) {
                refused = join(op, record, false, std::move(caller), terms{}, cancel);
                if (!refused) return;
            }
        }
        if (refused) refuse(*op.release(), refused);
        else op.release()->complete(record->failure, record->value);
    }

    /// Loads of `key` in progress are not stored, and not joined any more.
    template <class Q>
    void fence(Q const& key) {
        std::lock_guard lock(this->mutex_);
        unlist_key(key);
    }
    void fence_all() noexcept {
        std::lock_guard lock(this->mutex_);
        for (auto const& one : all_) unlist(*one);
    }

    /// The lock of values that have their own, with the loads of `key` fenced. Taken after the
    /// room's, which is not needed while nothing is loaded.
    template <class ValuesMutex>
    class fencing_lock {
    public:
        template <class Q>
        fencing_lock(flight_room& room, Q const& key, ValuesMutex& values) : values_(values) {
            if (!room.may_load()) {
                values_.lock();
                // Who begins a load now looks again first, and finds what this lock is taken for.
                if (!room.may_load()) return;
                values_.unlock();
            }
            room_ = std::unique_lock(room.mutex_);
            room.unlist_key(key);
            if (room.all_.empty()) room.may_load_.store(false, std::memory_order_relaxed);
            values_.lock();
        }
        fencing_lock(fencing_lock const&) = delete;
        fencing_lock& operator=(fencing_lock const&) = delete;
        ~fencing_lock() { values_.unlock(); }

    private:
        ValuesMutex& values_;
        std::unique_lock<std::mutex> room_;
    };

    /// Those who wait get `operation_aborted`, or `error::closed`; their loads are cancelled.
    void cancel() noexcept {
        room::cancel();
        cancel_doomed();
    }
    void close() noexcept {
        room::close();
        cancel_doomed();
    }

    /// How many loads are in progress that somebody may still get the result of.
    std::size_t in_flight() const noexcept { return in_flight_.load(); }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        std::size_t sum = 0;
        for (auto const& one : all_) sum += one->waiting.size();
        return sum;
    }
    /// How many loads ended after nobody wanted their result any more.
    std::uint64_t late_loads() const noexcept { return late_.load(std::memory_order_relaxed); }
    /// How often all who waited were made to leave. Who asked before he waits, and finds another
    /// number afterwards, may have been one of them.
    std::uint64_t times_emptied() const noexcept {
        return emptied_.load(std::memory_order_relaxed);
    }

protected:
    Derived& derived() noexcept { return static_cast<Derived&>(*this); }

    std::shared_ptr<flight_type> find_flight(Key const& key) const noexcept {
        auto const it = by_key_.find(key);
        return it == by_key_.end() ? nullptr : *(*it)->place;
    }

    /// How long its run has taken so far; nothing if that could not begin.
    static std::chrono::nanoseconds time_of(flight_type const& one) noexcept {
        using std::chrono::nanoseconds;
        if (!one.began) return nanoseconds(0);
        auto const now = Clock::now().time_since_epoch();
        return std::chrono::duration_cast<nanoseconds>(now) - nanoseconds(*one.began);
    }

    void take_all(waiter_list& all) noexcept override {
        emptied_.fetch_add(1, std::memory_order_relaxed);
        while (!all_.empty()) {
            flight_type& one = *all_.front();
            all.append(one.waiting);
            doom(one, error::closed);
        }
        settle_alarm();
    }

private:
    friend Derived;

    flight_room(Executor const& executor, boost::asio::any_io_executor const& load_on,
                typename Clock::duration time_limit)
        : room(executor), load_on_(load_on), time_limit_(time_limit) {}

    struct by_key_hash {
        using is_transparent = void;
        std::size_t operator()(flight_type const* one) const { return (*this)(one->key); }
        template <class Q>
            requires(!std::is_convertible_v<Q const&, flight_type const*>)
        std::size_t operator()(Q const& key) const {
            return static_cast<std::size_t>(Hash{}(key));
        }
    };
    struct by_key_equal {
        using is_transparent = void;
        bool operator()(flight_type const* a, flight_type const* b) const { return a == b; }
        template <class Q>
            requires(!std::is_convertible_v<Q const&, flight_type const*>)
        bool operator()(Q const& a, flight_type const* b) const {
            return Equal{}(b->key, a);
        }
        template <class Q>
            requires(!std::is_convertible_v<Q const&, flight_type const*>)
        bool operator()(flight_type const* a, Q const& b) const {
            return Equal{}(a->key, b);
        }
    };

    struct found_flight {
        std::shared_ptr<flight_type> record;
        bool is_new = false;
    };

    // Nothing if there is a value after all, or a failure that is remembered, or if it is closed.
    found_flight find_or_make(Key& key, bool anew, Value& found, std::exception_ptr& failed) {
        if (this->closed_) return {};
        expect_loads();
        if (!anew && derived().look_again(key, found, failed)) return {};
        if (auto there = find_flight(key)) return {std::move(there), false};
        return {make(std::move(key)), true};
    }

    // Why it may not wait, if so.
    template <class Op>
    error_code join(waiter_ptr<Op>& op, std::shared_ptr<flight_type> const& record, bool is_new,
                    std::shared_ptr<load_node>&& caller, terms const& how,
                    typename room::canceller* cancel) {
        try {
            if (caller && !op->edge.begin(std::move(caller), record)) {
                if (is_new) take_off(*record);
                return error::recursive_load;
            }
            op->record = record.get();
            op->patience = how.patience;
            this->park(record->waiting, op, how.patience, cancel);
        } catch (...) {
            if (is_new) take_off(*record);
            throw;
        }
        record->kept |= how.kept;
        return {};
    }

    std::shared_ptr<flight_type> make(Key&& key) {
        auto fresh = std::make_shared<flight_type>(std::move(key));
        all_.push_back(fresh);
        fresh->place = std::prev(all_.end());
        try {
            by_key_.insert(fresh.get());
        } catch (...) {
            all_.pop_back();
            throw;
        }
        in_flight_.fetch_add(1);
        return fresh;
    }

    // Said before `look_again` takes the values' lock: who has that later sees it.
    void expect_loads() noexcept {
        if (!may_load()) may_load_.store(true, std::memory_order_relaxed);
    }
    bool may_load() const noexcept { return may_load_.load(std::memory_order_relaxed); }

    template <class Q>
    void unlist_key(Q const& key) {
        if (auto const it = by_key_.find(key); it != by_key_.end()) unlist(**it);
    }
    void unlist(flight_type& one) noexcept {
        if (std::exchange(one.findable, false)) by_key_.erase(&one);
    }

    void take_off(flight_type& one) noexcept {
        unlist(one);
        one.over = true;
        one.on_run.end();
        if (std::exchange(one.is_limited, false)) limits_.erase(one.limit);
        all_.erase(one.place);
        in_flight_.fetch_sub(1);
    }

    // Nobody wants it: to be cancelled once the lock is released.
    void doom(flight_type& one, error why) noexcept {
        std::shared_ptr<flight_type> kept = *one.place;
        take_off(one);
        if (one.tickets > 0) one.failure = to_failure<std::exception_ptr>(why);
        kept->next_doomed = std::move(doomed_);
        doomed_ = std::move(kept);
    }

    // Beginning and ending -----------------------------------------------------------------------

    // Ends the flights of a run, whichever way that went.
    class landing {
    public:
        using results = std::vector<outcome<Loaded>>;

        landing(std::shared_ptr<Derived> state,
                std::vector<std::shared_ptr<flight_type>> flights) noexcept
            : state_(std::move(state)), flights_(std::move(flights)) {}
        landing(landing&&) noexcept = default;

        std::vector<std::shared_ptr<flight_type>> const& flights() const noexcept {
            return flights_;
        }

        // The context on which it ran is gone, and took the run with it.
        ~landing() {
            if (state_) fail(to_failure<std::exception_ptr>(error::closed));
        }

        void operator()(std::exception_ptr failure, results loaded) noexcept {
            if (!failure && loaded.size() != flights_.size()) {
                failure = to_failure<std::exception_ptr>(error::result_count_mismatch);
            }
            if (failure) return fail(std::move(failure));
            auto const state = std::move(state_);
            for (std::size_t i = 0; i < flights_.size(); ++i) {
                auto& one = loaded[i];
                if (one) state->end(*flights_[i], nullptr, &one.value());
                else state->end(*flights_[i], thrown(one.why()), nullptr);
            }
        }

        void fail(std::exception_ptr failure) noexcept {
            auto const state = std::move(state_);
            if (!state) return;
            for (std::size_t i = 0; i + 1 < flights_.size(); ++i) {
                state->end(*flights_[i], failure, nullptr);
            }
            state->end(*flights_.back(), std::move(failure), nullptr);
        }

    private:
        static std::exception_ptr thrown(tidegate::failure const& why) {
            return why.exception() ? why.exception() : to_failure<std::exception_ptr>(why.code());
        }

        std::shared_ptr<Derived> state_;
        std::vector<std::shared_ptr<flight_type>> flights_;
    };

    using results = typename landing::results;

    template <class Load>
    void begin(std::shared_ptr<flight_type> one, Load&& load) {
        flight_type const* const record = one.get();
        std::vector<std::shared_ptr<flight_type>> only;
        try {
            only.push_back(one);
        } catch (...) {
            return end(*one, std::current_exception(), nullptr);
        }
        set_off(std::move(only), [&] {
            return [record, load = std::decay_t<Load>(std::forward<Load>(load))]() mutable {
                return run_one(load, record->key);
            };
        });
    }

    // `load` lives as long as it runs, and so does the flight.
    template <class Load>
    static boost::asio::awaitable<results> run_one(Load& load, Key const& key) {
        results all(1);
        all[0].succeed(Derived::normalised(co_await call_loader(load, key)));
        co_return all;
    }

    template <class Load>
    void begin_all(std::vector<std::shared_ptr<flight_type>> flights, std::vector<Key> keys,
                   Load&& load) {
        set_off(std::move(flights), [&] {
            return [keys = std::move(keys),
                    load = std::decay_t<Load>(std::forward<Load>(load))]() mutable {
                return run_all(load, std::as_const(keys));
            };
        });
    }

    template <class Load>
    static boost::asio::awaitable<results> run_all(Load& load, std::vector<Key> const& keys) {
        auto loaded = co_await load(keys);
        results all;
        all.reserve(keys.size());
        for (auto&& one : loaded) take_result(all.emplace_back(), std::move(one));
        co_return all;
    }

    template <class T>
    static void take_result(outcome<Loaded>& to, T&& result) {
        to.succeed(Derived::normalised(std::forward<T>(result)));
    }
    template <class T>
    static void take_result(outcome<Loaded>& to, outcome<T>&& result) {
        if (result) to.succeed(Derived::normalised(std::move(result.value())));
        else to.fail(result.why());
    }

    // What runs is made here, where a loader may throw in its copy and the flights end all the
    // same. What it needs lives as long as it runs: `landed` has the flights.
    template <class MakeRun>
    void set_off(std::vector<std::shared_ptr<flight_type>> flights, MakeRun make_run) noexcept {
        landing landed(std::static_pointer_cast<Derived>(this->shared_from_this()),
                       std::move(flights));
        try {
            auto run = make_run();
            auto const record = std::make_shared<load_run>();
            auto const task = std::make_shared<side_task>(
                load_executor(load_on_.next(), std::weak_ptr<load_node>(record)));
            if (!take_off_ground(landed.flights(), record, task)) return;
            task->start([run = std::move(run), record]() mutable { return run(); },
                        std::move(landed));
        } catch (...) {
            landed.fail(std::current_exception());
        }
    }

    // False if nobody wants it any more.
    bool take_off_ground(std::vector<std::shared_ptr<flight_type>> const& flights,
                         std::shared_ptr<load_run> const& run, std::shared_ptr<side_task> task) {
        auto const now = Clock::now();
        auto const limit = deadline_in<Clock>(time_limit_);
        std::lock_guard lock(this->mutex_);
        for (auto const& one : flights) {
            if (one->over) continue;
            one->on_run.begin(one, run);
            one->run = run;
            ++run->wanted;
            one->began =
                std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch())
                    .count();
            if (time_limit_ != Clock::duration::max()) {
                one->limit = limits_.emplace(limit, one.get());
                one->is_limited = true;
            }
        }
        if (!limits_.empty()) this->set_alarm(limits_.begin()->first);
        if (run->wanted == 0) return false;
        run->task = std::move(task);
        return true;
    }

    void end(flight_type& one, std::exception_ptr failure, Loaded* loaded) noexcept {
        typename Derived::leftovers rest;
        waiter_list all;
        Value value{};
        try { // no function of the user's is called for what nobody wants any more
            if (loaded && !is_over(one)) derived().prepare(one, *loaded, rest);
        } catch (...) {
            failure = std::current_exception();
            loaded = nullptr;
        }
        {
            std::unique_lock lock(this->mutex_);
            if (one.over) {
                lock.unlock();
                late_.fetch_add(1, std::memory_order_relaxed);
                derived().after_landing(rest);
                return;
            }
            bool const current = one.findable;
            take_off(one);
            one.run.reset();
            try {
                value = derived().landed(one, current, failure, loaded, rest);
            } catch (...) {
                failure = std::current_exception();
            }
            if (one.tickets > 0) {
                one.failure = failure;
                one.value = value;
            }
            while (waiter* const w = one.waiting.front()) {
                this->unpark(*w);
                all.push_back(*w);
            }
            settle_alarm();
            if (!all.empty()) this->retire_timer_after(*all.back());
        }
        if (this->trace_.is_heard()) [[unlikely]]
            tell_landing(one, failure);
        if (all.empty()) static_cast<after_handler&>(*this).handler_finished(); // the same, now
        while (all.size() > 1) {
            static_cast<waiter_type*>(all.pop_front())->complete(failure, value);
        }
        // The last one takes the last reference: the exception ends where it is handled.
        if (auto* const last = static_cast<waiter_type*>(all.pop_front())) {
            last->complete(std::move(failure), std::move(value));
        }
        derived().after_landing(rest);
    }

    // Telling -----------------------------------------------------------------------------------

    void refuse(waiter& w, error_code const& why) noexcept {
        this->tell_of(w, trace_event::rejected, why);
        w.abort(why);
    }

    BOOST_NOINLINE void tell_landing(flight_type const& one,
                                     std::exception_ptr const& failed) noexcept {
        this->trace_.emit(failed ? trace_event::load_failed : trace_event::loaded, 1,
                          failed ? code_of(failure(failed)) : error_code(), time_of(one));
    }

    BOOST_NOINLINE void tell_overdue() noexcept {
        std::size_t overdue = 0;
        {
            std::lock_guard lock(this->mutex_);
            overdue = std::exchange(overdue_untold_, 0);
        }
        for (; overdue > 0; --overdue) {
            this->trace_.emit(trace_event::load_failed, 1, error::deadline_exceeded,
                              std::chrono::duration_cast<std::chrono::nanoseconds>(time_limit_));
        }
    }

    // Leaving early
    // --------------------------------------------------------------------------------

    void on_departure(waiter& w) noexcept override {
        flight_type& one = *static_cast<waiter_type&>(w).record;
        // Who has lost patience wants the result all the same, later.
        if (auto const& patience = static_cast<waiter_type&>(w).patience;
            patience != room::no_deadline && patience <= Clock::now()) {
            one.kept = true;
        }
        leave_if_last(one);
    }

    void leave_if_last(flight_type& one) noexcept {
        if (one.waiting.empty() && one.tickets == 0 && !one.kept) doom(one, error::closed);
    }

    void give_up(flight_type& one) noexcept {
        {
            std::lock_guard lock(this->mutex_);
            --one.tickets;
            if (one.over) return;
            leave_if_last(one);
            settle_alarm();
        }
        cancel_doomed();
        static_cast<after_handler&>(*this).handler_finished();
    }

    void after_departure(waiter_list&) noexcept override { settle_alarm(); }

    void complete(waiter_list& ready) noexcept override {
        if (this->trace_.is_heard()) [[unlikely]]
            tell_overdue();
        cancel_doomed();
        ready.abort_all(error::deadline_exceeded);
        derived().after_overdue();
    }

    void cancel_doomed() noexcept {
        std::shared_ptr<flight_type> doomed;
        {
            std::lock_guard lock(this->mutex_);
            doomed = std::move(doomed_);
        }
        while (doomed) {
            if (auto const task = no_longer_wanted(*doomed)) task->cancel();
            doomed = std::move(doomed->next_doomed);
        }
    }

    // The task to be cancelled, if this was the last of its flights.
    std::shared_ptr<side_task> no_longer_wanted(flight_type& one) noexcept {
        std::lock_guard lock(this->mutex_);
        auto const run = std::move(one.run);
        if (!run || --run->wanted > 0) return nullptr;
        return std::move(run->task);
    }

    // The time limit
    // ---------------------------------------------------------------------------------

    void settle_alarm() noexcept {
        if (limits_.empty()) this->set_alarm(room::no_deadline);
    }

    void on_alarm(time_point now, waiter_list& ready) noexcept override {
        while (!limits_.empty() && limits_.begin()->first <= now) {
            flight_type& one = *limits_.begin()->second;
            derived().overdue(one);
            while (waiter* const w = one.waiting.front()) {
                this->unpark(*w);
                ready.push_back(*w);
            }
            if (this->trace_.is_heard()) ++overdue_untold_;
            doom(one, error::deadline_exceeded); // which takes it from `limits_`
        }
        if (!limits_.empty()) this->set_alarm(limits_.begin()->first);
    }

    serial_executors const load_on_;
    typename Clock::duration time_limit_;
    std::list<std::shared_ptr<flight_type>> all_;
    std::unordered_set<flight_type*, by_key_hash, by_key_equal> by_key_;
    typename flight_type::limits limits_; // of those in `all_` that have begun
    std::shared_ptr<flight_type> doomed_;
    std::size_t overdue_untold_ = 0;
    std::atomic<bool> may_load_{false}; // since a `fencing_lock` found no load in progress
    std::atomic<std::size_t> in_flight_{0};
    std::atomic<std::uint64_t> late_{0};
    std::atomic<std::uint64_t> emptied_{0};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
