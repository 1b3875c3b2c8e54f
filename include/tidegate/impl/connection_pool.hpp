// SPDX-License-Identifier: BSL-1.0
// The state of a connection pool: an object pool of places, each with a connection or without.
#pragma once

#include <tidegate/connection_pool.hpp>
#include <tidegate/core/unit_interval.hpp>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

// What its places tell of to their pool, which may be gone by the time they do: the destructor of
// a connection is the user's.
struct connection_ledger {
    std::atomic<std::size_t> open{0};
    std::atomic<std::size_t> idle{0};
    [[no_unique_address]] trace_source trace;
};

// A place for a connection.
template <class T, class Clock>
struct connection_slot {
    explicit connection_slot(std::shared_ptr<connection_ledger> of_pool) noexcept
        : ledger(std::move(of_pool)) {}
    connection_slot(connection_slot const&) = delete;
    connection_slot& operator=(connection_slot const&) = delete;
    ~connection_slot() { close(); }

    void put(std::unique_ptr<T> opened) noexcept {
        connection = std::move(opened);
        ++ledger->open;
    }
    void close() noexcept {
        if (!connection) return;
        set_idle(false);
        connection.reset();
        --ledger->open;
        ledger->trace.emit(trace_event::destroyed);
    }
    void set_idle(bool now) noexcept {
        if (now == is_idle) return;
        is_idle = now;
        now ? ++ledger->idle : --ledger->idle;
    }

    std::shared_ptr<connection_ledger> const ledger;
    std::unique_ptr<T> connection;
    bool is_idle = false;
    bool in_check = false; // its answer may still be on the way
    typename Clock::time_point usable_until{};
    typename Clock::time_point last_used{};
    typename Clock::time_point acquired{};
    std::source_location where = std::source_location::current();
    // In the list of those that somebody has, under the pool's lock.
    connection_slot* next_held = nullptr;
    connection_slot* previous_held = nullptr;
};

template <class T, class Clock, class Executor>
class connection_pool_state
    : public std::enable_shared_from_this<connection_pool_state<T, Clock, Executor>> {
    using slot = connection_slot<T, Clock>;
    using slots = basic_object_pool<slot, Clock, Executor>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

public:
    using connection = basic_connection<T, Clock, Executor>;

    template <class Open, class Validate>
    static std::shared_ptr<connection_pool_state> make(Executor const& executor,
                                                       connection_pool_options const& options,
                                                       Open open, Validate validate) {
        check_option<std::size_t>("connection_pool min_size", options.min_size(), 0,
                                  options.max_size());
        auto state = std::make_shared<connection_pool_state>(executor, options);
        state->open_ = [open = std::make_shared<Open>(std::move(open))] {
            return make_later<T>(open);
        };
        state->validate_ = [check = std::make_shared<Validate>(std::move(validate))](T& one) {
            return (*check)(one);
        };
        return state;
    }

    connection_pool_state(Executor const& executor, connection_pool_options const& options)
        : options_(options), slots_(executor, slot_options(), [ledger = ledger_] {
              return std::make_unique<slot>(ledger);
          }) {}

    Executor executor() const noexcept { return slots_.get_executor(); }

    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        ledger_->trace.attach("connection_pool", std::move(observer), std::move(name));
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<connection, CoroutineExecutor>
    acquire(std::shared_ptr<connection_pool_state> self, std::source_location where) {
        if (!self->ledger_->trace.is_heard()) [[likely]]
            return obtain<CoroutineExecutor>(std::move(self), where);
        return acquire_heard<CoroutineExecutor>(std::move(self), where);
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<connection, CoroutineExecutor>
    acquire_heard(std::shared_ptr<connection_pool_state> self, std::source_location where) {
        time_point const began = Clock::now();
        try {
            auto held = co_await obtain<CoroutineExecutor>(self, where);
            self->ledger_->trace.emit(trace_event::acquired, 1, {}, since(began));
            co_return std::move(held);
        } catch (...) {
            self->tell_failure(code_of(std::current_exception()), since(began));
            throw;
        }
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<connection, CoroutineExecutor>
    obtain(std::shared_ptr<connection_pool_state> self, std::source_location where) {
        auto place = self->slots_.try_acquire();
        if (!place) {
            auto waiting = self->slots_.async_acquire_for(in_clock(self->options_.wait_timeout()),
                                                          boost::asio::deferred);
            place = co_await std::move(waiting);
        }
        connection held(self, std::move(place));
        slot& mine = *held.slot_;
        time_point const now = Clock::now();
        self->note_acquired(mine, where, now);
        if (mine.connection && mine.usable_until <= now) {
            ++self->too_old_;
            mine.close();
        }
        if (mine.connection && now - mine.last_used >= in_clock(self->options_.validate_after())) {
            mine.in_check = true;
            bool const good = co_await is_good<CoroutineExecutor>(self, *mine.connection);
            mine.in_check = false;
            if (!good) {
                ++self->validation_failures_;
                mine.close();
            }
        }
        if (!mine.connection) {
            auto opened = co_await open<CoroutineExecutor>(self, mine);
            mine.put(std::move(opened));
        }
        co_return held;
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<void, CoroutineExecutor>
    warm_up(std::shared_ptr<connection_pool_state> self) {
        std::vector<typename slots::lease> all; // kept, to come to those without a connection
        while (self->ledger_->open < self->options_.min_size()) {
            all.push_back(self->slots_.try_acquire());
            if (!all.back()) {
                if (self->closed_) throw boost::system::system_error(error::closed);
                co_return; // whoever has the other places opens connections in them
            }
            slot& mine = *all.back();
            mine.set_idle(false);
            if (mine.connection) continue;
            auto opened = co_await open<CoroutineExecutor>(self, mine);
            mine.put(std::move(opened));
            mine.last_used = Clock::now();
        }
    }

    std::vector<held_connection<time_point>> held_longer_than(duration time) const {
        std::vector<held_connection<time_point>> all;
        time_point const now = Clock::now();
        std::lock_guard lock(mutex_);
        for (slot const* one = first_held_; one; one = one->next_held) {
            if (now - one->acquired > time) all.push_back({one->acquired, one->where});
        }
        return all;
    }

    connection_pool_statistics statistics() const noexcept {
        connection_pool_statistics all;
        all.open = ledger_->open;
        all.idle = ledger_->idle;
        all.waiting = slots_.waiting();
        all.connected = connected_;
        all.connect_failures = connect_failures_;
        all.validation_failures = validation_failures_;
        all.discarded = discarded_;
        all.too_old = too_old_;
        return all;
    }

    void close() noexcept {
        closed_ = true;
        slots_.close();
    }

    // For connections ---------------------------------------------------------------------------

    void note_discarded(slot& one) noexcept {
        if (!one.connection) return;
        ++discarded_;
        one.close();
    }
    void note_released(slot& one) noexcept {
        if (std::exchange(one.in_check, false)) one.close();
        one.last_used = Clock::now();
        std::lock_guard lock(mutex_);
        (one.previous_held ? one.previous_held->next_held : first_held_) = one.next_held;
        if (one.next_held) one.next_held->previous_held = one.previous_held;
        one.next_held = one.previous_held = nullptr;
    }

private:
    static duration in_clock(std::chrono::nanoseconds time) {
        return std::chrono::duration_cast<duration>(time);
    }

    object_pool_options<slot> slot_options() {
        object_pool_options<slot> all;
        all.max_size(options_.max_size() + options_.max_overflow());
        all.min_size(options_.min_size());
        if (auto const time = options_.max_idle_time()) all.max_idle_time(*time);
        // A place without a connection, or one too many, need not be kept.
        all.recycle([this](slot& one) {
            bool const keep =
                one.connection && (ledger_->open <= options_.max_size() || slots_.waiting() > 0);
            one.set_idle(keep);
            return keep;
        });
        return all;
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<std::unique_ptr<T>, CoroutineExecutor>
    open(std::shared_ptr<connection_pool_state> self, slot& mine) {
        time_point const began = Clock::now();
        auto opening = [&self] { return self->open_(); };
        outcome<std::unique_ptr<T>> result;
        co_await attempt_within<CoroutineExecutor, Clock>(self->options_.connect_timeout(), opening,
                                                          result);
        ++(result ? self->connected_ : self->connect_failures_);
        if (result) self->ledger_->trace.emit(trace_event::created, 1, {}, since(began));
        auto opened = std::move(result).get();
        double const share = 1 - 0.1 * core::in_unit_interval(thread_random());
        mine.usable_until =
            deadline_in<Clock>(in_clock(std::chrono::nanoseconds(static_cast<std::int64_t>(
                static_cast<double>(self->options_.max_lifetime().count()) * share))));
        co_return std::move(opened);
    }

    // A check that throws has failed, unless the caller does not want it any more.
    template <class CoroutineExecutor>
    static boost::asio::awaitable<bool, CoroutineExecutor>
    is_good(std::shared_ptr<connection_pool_state> self, T& one) {
        auto checking = [&self, &one] { return self->validate_(one); };
        outcome<bool> result;
        co_await attempt_within<CoroutineExecutor, Clock>(self->options_.validate_timeout(),
                                                          checking, result);
        auto const state = co_await boost::asio::this_coro::cancellation_state;
        if (!result && state.cancelled() != boost::asio::cancellation_type::none)
            throw boost::system::system_error(asio::error::operation_aborted);
        co_return result&& result.value();
    }

    static std::chrono::nanoseconds since(time_point began) {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began);
    }

    void tell_failure(error_code const& why, std::chrono::nanoseconds took) const noexcept {
        auto const how = why == error::deadline_exceeded         ? trace_event::timed_out
                         : why == asio::error::operation_aborted ? trace_event::cancelled
                                                                 : trace_event::rejected;
        ledger_->trace.emit(how, 1, why, took);
    }

    void note_acquired(slot& one, std::source_location where, time_point now) noexcept {
        one.set_idle(false);
        one.acquired = now;
        one.where = where;
        std::lock_guard lock(mutex_);
        one.next_held = std::exchange(first_held_, &one);
        if (one.next_held) one.next_held->previous_held = &one;
    }

    connection_pool_options const options_;
    std::function<boost::asio::awaitable<std::unique_ptr<T>>()> open_;
    std::function<boost::asio::awaitable<bool>(T&)> validate_;
    mutable std::mutex mutex_;
    slot* first_held_ = nullptr;
    std::shared_ptr<connection_ledger> const ledger_ = std::make_shared<connection_ledger>();
    std::atomic<std::uint64_t> connected_{0};
    std::atomic<std::uint64_t> connect_failures_{0};
    std::atomic<std::uint64_t> validation_failures_{0};
    std::atomic<std::uint64_t> discarded_{0};
    std::atomic<std::uint64_t> too_old_{0};
    std::atomic<bool> closed_{false};
    slots slots_; // goes before what recycling refers to
};

} // namespace detail
TIDEGATE_END_NAMESPACE
