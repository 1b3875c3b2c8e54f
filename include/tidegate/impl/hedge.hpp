// SPDX-License-Identifier: BSL-1.0
// How attempts race each other.
#pragma once

#include <tidegate/detail/held_handler.hpp>
#include <tidegate/detail/one_block_allocator.hpp>
#include <tidegate/detail/side_task.hpp>
#include <tidegate/hedge.hpp>
#include <tidegate/semaphore.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// What the attempts of one call share. Each holds a permit until it has ended, whichever way, so
/// that waiting for a permit is waiting for an attempt to end.
template <class Clock, class T>
class hedge_race : public std::enable_shared_from_this<hedge_race<Clock, T>> {
    using context = basic_call_context<Clock>;
    using semaphore_type = basic_semaphore<Clock>;
    using permit = typename semaphore_type::permit;
    using time_point = typename Clock::time_point;

public:
    hedge_race(asio::any_io_executor const& executor, std::size_t attempts)
        : executors_(executor), ended_(executor, attempts) {
        permits_.reserve(attempts);
        attempts_.reserve(attempts);
        for (std::size_t i = 0; i < attempts; ++i) permits_.push_back(ended_.try_acquire());
    }

    std::size_t started() const noexcept { return attempts_.size(); }

    template <class Op, class Start>
    void start(Op& op, context const& here, Start& start_attempt, time_point now) {
        auto one = std::make_shared<attempt>(executors_.next(), here, now);
        attempts_.push_back(one);
        try {
            auto ended = [race = this->shared_from_this(), one, number = started(),
                          permit = std::move(permits_[started() - 1])](std::exception_ptr thrown,
                                                                       outcome<T> came) mutable {
                if (thrown) came.fail(failure(thrown));
                race->end(*one, number, std::move(came));
            };
            one->start(start_attempt(op, one->here), std::move(ended));
        } catch (...) {
            attempts_.pop_back();
            permits_[started()] = ended_.try_acquire(); // it went with `ended`, as if one had ended
            throw;
        }
    }

    /// Completes when one more attempt has ended, with `deadline_exceeded`, or with
    /// `not_enough_memory`. Never throws: Asio destroys a coroutine that awaits what throws when it
    /// is started, and the attempts use what is in it.
    auto async_wait_until(time_point t) { return wait(t, true); }

    /// Completes when one more attempt has ended, cancelled or not. Allocates nothing.
    auto async_wait_on() { return wait(context::no_deadline, false); }

    /// The number of the attempt that won, 1 for the first; 0 if none has.
    std::size_t winner() const {
        std::lock_guard lock(mutex_);
        return winner_;
    }

    /// Cancels what still runs, where it runs. One for which there is no memory to do so runs on.
    void cancel_all() noexcept {
        for (auto const& one : attempts_) {
            try {
                one->cancel();
            } catch (...) {
                continue; // the others may be luckier
            }
        }
    }

    /// What came of the attempt that decided, for how long a layer in it goes on refusing and had
    /// it wait, and whether anything was started.
    outcome<T> take_result(context& here) {
        std::lock_guard lock(mutex_);
        here.set_retry_after(retry_after_);
        here.set_starts(starts_);
        here.set_waited(waited_);
        return std::move(result_);
    }

    /// Of the attempts after the first, when all have ended: those that did not get to the
    /// operation.
    std::size_t not_made() const {
        std::lock_guard lock(mutex_);
        auto const refused = [](auto const& one) { return !one->was_made(); };
        auto const n = std::count_if(attempts_.begin() + 1, attempts_.end(), refused);
        return static_cast<std::size_t>(n);
    }

    /// For each attempt: how long it took, or had been given when the race ended; none for one that
    /// failed by itself.
    std::vector<std::chrono::nanoseconds> latencies(time_point now) const {
        std::lock_guard lock(mutex_);
        std::vector<std::chrono::nanoseconds> all;
        for (auto const& one : attempts_) {
            if (one->succeeded || !one->over) {
                all.push_back((one->over ? one->ended : now) - one->started);
            }
        }
        return all;
    }

private:
    struct attempt : side_task {
        attempt(asio::any_io_executor executor, context const& call, time_point now)
            : side_task(std::move(executor)), here(call), started(now), starts(call.starts()) {}

        context here; // the attempt's own, until it is over
        time_point started;
        time_point ended{};
        bool over = false; // changes under the lock
        bool succeeded = false;

        bool was_made() const noexcept { return here.starts() != starts; }

    private:
        std::uint32_t const starts; // the call's, before
    };

    auto wait(time_point t, bool stoppable) {
        auto start = [race = this->shared_from_this(), t, stoppable](auto handler) {
            race->start_wait(std::move(handler), t, stoppable);
        };
        using token = asio::as_tuple_t<asio::deferred_t>;
        token how(asio::deferred);
        return asio::async_initiate<token, void(error_code, permit)>(std::move(start), how);
    }

    template <class Handler>
    void start_wait(Handler handler, time_point t, bool stoppable) {
        auto const kept = this->shared_from_this();
        std::optional<held_handler<Handler, hedge_race>> held;
        std::size_t const place = ++waits_ % 2;
        try {
            held.emplace(kept, handler_memory_[place], wait_memory_[place], std::move(handler),
                         stoppable);
            ended_.async_acquire_until(t, *held);
        } catch (...) {
            // Here and now, which a coroutine can bear: posting may find no memory either.
            auto const why = make_error_code(boost::system::errc::not_enough_memory);
            if (held) (*held)(why, permit());
            else std::move(handler)(why, permit());
        }
    }

    void end(attempt& one, std::size_t number, outcome<T>&& came) {
        auto const now = Clock::now();
        std::lock_guard lock(mutex_);
        one.over = true;
        one.ended = now;
        one.succeeded = came.has_value();
        starts_ = std::max(starts_, one.here.starts());
        if (winner_ != 0) return;
        if (came) winner_ = number;
        bool const refused = !came && came.why().is_refusal() && !one.was_made();
        if (refused && heard_) return; // which says less than the failure that there is
        heard_ = !refused;
        result_ = std::move(came);
        retry_after_ = one.here.retry_after();
        waited_ = one.here.waited();
    }

    serial_executors const executors_;
    semaphore_type ended_;
    // Of the one wait at a time; the start of the one before may still be on its way out.
    std::array<one_block, 2> handler_memory_;
    std::array<held_wait_block, 2> wait_memory_;
    std::size_t waits_ = 0;
    std::vector<permit> permits_;
    std::vector<std::shared_ptr<attempt>> attempts_;
    mutable std::mutex mutex_;
    std::size_t winner_ = 0;
    outcome<T> result_;
    bool heard_ = false; // an attempt that was not refused has ended
    std::chrono::nanoseconds retry_after_{0};
    typename Clock::duration waited_{0};
    std::uint32_t starts_ = 0;
};

} // namespace detail

template <class Clock>
bool basic_hedge<Clock>::may_hedge(hedge_options const& settings, context const& here) const {
    auto const& budget = settings.budget();
    bool const in_time = here.deadline() == context::no_deadline || here.remaining().count() > 0;
    bool const paid = in_time && (!budget || budget->try_withdraw());
    std::lock_guard lock(shared_->mutex);
    if (paid) ++shared_->statistics.hedges;
    else if (in_time) ++shared_->statistics.out_of_budget;
    return paid;
}

// An attempt that cannot be started has cost nothing; those that run may answer yet.
template <class Clock>
template <class Start>
bool basic_hedge<Clock>::try_hedge(Start start, hedge_options const& settings) const {
    try {
        start();
        return true;
    } catch (...) {
        if (auto const& budget = settings.budget()) budget->refund();
        std::lock_guard lock(shared_->mutex);
        --shared_->statistics.hedges;
        return false;
    }
}

template <class Clock>
template <class Executor, class Op, class T, class Start>
boost::asio::awaitable<void, Executor>
basic_hedge<Clock>::race(Op& op, context& here, outcome<T>& result, Start start) const {
    auto kept = shared_->current(); // others may be set meanwhile
    auto const& budget = kept->budget();
    if (budget && here.first_use_of(*budget)) budget->deposit();
    if (!kept->idempotent() || here.is_probe())
        return run_alone<Executor>(op, here, result, std::move(start),
                                   kept->quantile().has_value());
    return run_several<Executor>(op, here, result, std::move(start), std::move(kept));
}

// In the caller's coroutine: nobody has to cancel this attempt but the caller.
template <class Clock>
template <class Executor, class Op, class T, class Start>
boost::asio::awaitable<void, Executor>
basic_hedge<Clock>::run_alone(Op& op, context& here, outcome<T>& result, Start start,
                              bool measured) const {
    auto const began = here.now();
    context own = here;
    auto only = start(op, own);
    result = co_await std::move(only);
    here.set_retry_after(own.retry_after());
    here.set_starts(own.starts());
    here.set_waited(own.waited());
    if (result && measured) shared_->latencies.record(Clock::now() - began);
    std::lock_guard lock(shared_->mutex);
    ++shared_->statistics.calls;
}

template <class Clock>
template <class Executor, class Op, class T, class Start>
boost::asio::awaitable<void, Executor>
basic_hedge<Clock>::run_several(Op& op, context& here, outcome<T>& result, Start start,
                                std::shared_ptr<hedge_options const> kept) const {
    namespace asio = boost::asio;
    hedge_options const& settings = *kept;
    std::size_t const most = 1 + settings.max_hedges();
    auto const executor = co_await asio::this_coro::executor;
    // The attempts have to be waited for even when the caller has cancelled this coroutine.
    bool const throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);

    auto const attempts = std::make_shared<detail::hedge_race<Clock, T>>(executor, most);
    std::vector<typename basic_semaphore<Clock>::permit> ended_permits; // not to be taken twice
    ended_permits.reserve(most);
    std::vector<std::chrono::nanoseconds> latencies;
    std::size_t running = 0;
    std::exception_ptr broken; // to be thrown when nothing runs any more
    try {
        auto const pause = std::chrono::ceil<typename Clock::duration>(delay_by(settings));
        auto now = here.now();
        attempts->start(op, here, start, now);
        ++running;
        auto const state = co_await asio::this_coro::cancellation_state;
        bool cancelled = state.cancelled() != asio::cancellation_type::none;
        bool may_start = true;
        auto next = now + pause;
        while (!cancelled && running > 0 && attempts->winner() == 0) {
            bool const more = may_start && attempts->started() < most;
            auto waiting = attempts->async_wait_until(more ? next : context::no_deadline);
            auto ended = co_await std::move(waiting);
            error_code const ec = std::get<0>(ended);
            if (!ec) {
                ended_permits.push_back(std::move(std::get<1>(ended)));
                --running;
            } else if (ec == error::deadline_exceeded) {
                here.forget_now();
                now = here.now();
                may_start = may_hedge(settings, here);
                if (!may_start) continue;
                shared_->trace.emit(trace_event::hedged, attempts->started() + 1, {}, pause);
                may_start = try_hedge([&] { attempts->start(op, here, start, now); }, settings);
                running += may_start;
                next = now + pause;
            } else if (ec == boost::system::errc::not_enough_memory) {
                throw std::bad_alloc();
            } else {
                cancelled = true;
            }
        }
        if (settings.quantile()) latencies = attempts->latencies(Clock::now());
    } catch (...) {
        broken = std::current_exception();
    }
    if (running > 0) attempts->cancel_all();
    while (running > 0) {
        auto waiting = attempts->async_wait_on();
        auto ended = co_await std::move(waiting);
        if (std::get<0>(ended)) continue; // could not be waited for: it still has to be
        ended_permits.push_back(std::move(std::get<1>(ended)));
        --running;
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    if (broken) std::rethrow_exception(broken);

    std::size_t const winner = attempts->winner();
    result = attempts->take_result(here);
    if (auto const& budget = settings.budget()) {
        for (std::size_t n = attempts->not_made(); n > 0; --n) budget->refund();
    }
    if (winner != 0) {
        for (auto const latency : latencies) shared_->latencies.record(latency);
    }
    std::lock_guard lock(shared_->mutex);
    ++shared_->statistics.calls;
    if (winner > 1) ++shared_->statistics.won;
}

TIDEGATE_END_NAMESPACE
