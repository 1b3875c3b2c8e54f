// SPDX-License-Identifier: BSL-1.0
// The state of a batcher.
#pragma once

#include <tidegate/batcher.hpp>
#include <tidegate/detail/one_run.hpp>

#include <functional>
#include <list>
#include <span>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct submit_item {};

/// A caller with its item; later, with its place in a running batch.
template <class In, class Out, class TimePoint>
class item_waiter : public waiter_of<void(std::exception_ptr, Out), result_waiter> {
    using base = waiter_of<void(std::exception_ptr, Out), result_waiter>;

public:
    In item;
    TimePoint arrived{};
    std::uint64_t number = 0; // in the order of arrival
    std::size_t place = 0;    // in the running batch

    void carry(std::exception_ptr failure, Out value) noexcept {
        outcome_.emplace(std::move(failure), std::move(value));
        this->results_ = &*outcome_;
    }

protected:
    item_waiter(waiter::finish_fn how, In&& i) : base(how), item(std::move(i)) {}

private:
    std::optional<typename base::results> outcome_;
};

template <class In, class Out, class Clock, class Executor>
class batcher_state final : public delivering_room<Clock, Executor> {
    static_assert(std::is_nothrow_move_constructible_v<In>, "items must move without throwing");
    static_assert(std::is_default_constructible_v<Out> && std::is_nothrow_move_constructible_v<Out>,
                  "results need a default state and must move without throwing");

    using room = delivering_room<Clock, Executor>;
    using waiter_type = item_waiter<In, Out, typename room::time_point>;

public:
    using time_point = typename room::time_point;

    template <class Run>
    static std::shared_ptr<batcher_state> make(basic_worker_pool<Executor>& pool,
                                               batcher_options const& settings, Run run) {
        auto state = std::make_shared<batcher_state>(pool, settings, std::move(run));
        state->enroll();
        return state;
    }

    template <class Run>
    batcher_state(basic_worker_pool<Executor>& pool, batcher_options const& settings, Run run)
        : room(pool.get_executor()),
          pool_(worker_pool_access::state_of(pool)),
          run_([run = std::make_shared<Run>(std::move(run))](std::span<In> items) {
              return (*run)(items);
          }),
          rule_(settings.max_size(),
                std::chrono::duration_cast<typename Clock::duration>(settings.max_delay())),
          max_in_flight_(settings.max_in_flight() ? settings.max_in_flight() : pool.size()) {
        stats_.by_size.resize(settings.max_size() + 1);
    }

    template <class Handler>
    void start(submit_item, Handler&& handler, In item) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), std::move(item));
        op->at_home = op->completes_at_home();
        auto* const cancel = this->connect(*op);
        op->arrived = now();
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            if (!this->closed_) {
                time_point const arrived = op->arrived;
                op->number = arrivals_++;
                this->park(queue_, op, room::no_deadline, cancel);
                begin = ask_for_executions(arrived);
            }
        }
        if (op) op.release()->abort(error::closed);
        begin_executions(begin);
    }

    void flush() {
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            flush_below_ = arrivals_;
            begin = ask_for_executions(now());
        }
        begin_executions(begin);
    }

    std::size_t queued() const noexcept {
        std::lock_guard lock(this->mutex_);
        return queue_.size();
    }

    batcher_stats stats() const {
        std::lock_guard lock(this->mutex_);
        return stats_;
    }

private:
    /// The callers of a batch that runs; those who leave early unlink themselves.
    struct running_batch {
        waiter_list members;
    };

    // With no delay the time does not matter, and reading the clock costs more than the rest.
    time_point now() const noexcept {
        return rule_.max_delay() > Clock::duration::zero() ? Clock::now() : time_point{};
    }

    time_point oldest() const noexcept {
        return queue_.empty() ? time_point{} : static_cast<waiter_type*>(queue_.front())->arrived;
    }

    // Was `flush` called since the item arrived that is behind the first `covered` ones? Exact for
    // the first; where callers have left it may say yes too often, and `take_items` then takes
    // none.
    bool flushing(std::size_t covered) const noexcept {
        auto const* const first = static_cast<waiter_type const*>(queue_.front());
        return first && first->number + covered < flush_below_;
    }

    // How many executions to ask the pool for, beside those that were asked for and have not
    // started: each of them will take as much as it can. Called under the lock.
    std::size_t ask_for_executions(time_point at) {
        std::size_t begin = 0;
        std::size_t covered = asked_ * rule_.max_size();
        while (asked_ + running_.size() < max_in_flight_ && queue_.size() > covered &&
               rule_.close(queue_.size() - covered, oldest(), at, flushing(covered))) {
            ++asked_;
            ++begin;
            covered += rule_.max_size();
        }
        bool const some_wait = queue_.size() > covered && asked_ + running_.size() < max_in_flight_;
        this->set_alarm(some_wait ? rule_.due(oldest()) : room::no_deadline);
        return begin;
    }

    void begin_executions(std::size_t n) {
        for (; n > 0; --n) {
            auto self = std::static_pointer_cast<batcher_state>(this->shared_from_this());
            one_run<batcher_state, &batcher_state::execute, &batcher_state::never_executed> job(
                std::move(self));
            static_cast<void>(pool_->post(std::move(job), true));
        }
    }

    // The pool was closed, or has dropped the batch to make room for a newer job.
    void never_executed() noexcept {
        if (!pool_->accepts()) {
            this->close();
            return;
        }
        waiter_list dropped;
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            --asked_;
            while (!queue_.empty() && dropped.size() < rule_.max_size()) {
                waiter& w = *queue_.front();
                this->unpark(w);
                dropped.push_back(w);
            }
            if (!this->closed_) begin = ask_for_executions(now());
            if (!dropped.empty()) this->retire_timer_after(*dropped.front());
        }
        dropped.abort_all(error::dropped);
        begin_executions(begin);
    }

    // On a thread of the pool.
    void execute() noexcept {
        std::vector<In> items;
        items.reserve(rule_.max_size());
        typename std::list<running_batch>::iterator batch;
        {
            std::lock_guard lock(this->mutex_);
            --asked_;
            batch = running_.emplace(running_.end());
            take_items(items, batch->members);
        }
        std::exception_ptr failure;
        std::vector<Out> results;
        if (!items.empty()) results = run_on(items, failure);
        waiter_list done;
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            while (waiter* const w = batch->members.front()) {
                this->unpark(*w);
                done.push_back(*w);
            }
            running_.erase(batch);
            if (!this->closed_) begin = ask_for_executions(now());
            if (!done.empty()) this->retire_timer_after(*done.front());
        }
        hand_out(done, std::move(failure), results);
        begin_executions(begin);
    }

    // Moves the first items and their callers into a batch, which closes it.
    void take_items(std::vector<In>& items, waiter_list& members) noexcept {
        auto const reason = rule_.close(queue_.size(), oldest(), now(), flushing(0));
        if (!reason) return; // callers have left
        while (items.size() < rule_.max_size()) {
            auto* const w = static_cast<waiter_type*>(queue_.pop_front());
            if (!w) break;
            w->place = items.size();
            items.push_back(std::move(w->item));
            members.push_back(*w);
        }
        ++stats_.batches;
        stats_.items += items.size();
        ++stats_.by_size[items.size()];
        ++stats_.by_reason[static_cast<std::size_t>(*reason)];
    }

    std::vector<Out> run_on(std::vector<In>& items, std::exception_ptr& failure) noexcept {
        try {
            std::size_t const expected = items.size();
            std::vector<Out> results = run_(std::span<In>(items));
            if (results.size() == expected) return results;
            failure = to_failure<std::exception_ptr>(error::result_count_mismatch);
        } catch (...) {
            failure = std::current_exception();
        }
        return {};
    }

    // Without the lock: results are the user's.
    void hand_out(waiter_list& done, std::exception_ptr failure,
                  std::vector<Out>& results) noexcept {
        bool const failed = failure != nullptr;
        while (auto* const w = static_cast<waiter_type*>(done.pop_front())) {
            w->carry(failure, failed ? Out{} : std::move(results[w->place]));
            // The last reference goes to the last caller: the exception ends where it is handled.
            if (done.empty()) failure = nullptr;
            this->deliver(*w);
        }
    }

    void on_alarm(time_point at, waiter_list&) noexcept override {
        begin_after_alarm_ += ask_for_executions(at);
    }

    void complete(waiter_list&) noexcept override {
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            begin = std::exchange(begin_after_alarm_, 0);
        }
        begin_executions(begin);
    }

    void after_departure(waiter_list&) noexcept override {
        if (queue_.empty()) this->set_alarm(room::no_deadline);
    }

    void on_close() noexcept override { this->set_alarm(room::no_deadline); }

    void take_all(waiter_list& all) noexcept override {
        all.append(queue_);
        for (running_batch& batch : running_) all.append(batch.members);
    }

    void shutdown() noexcept override {
        room::shutdown();
        this->drop_undelivered();
    }

    std::shared_ptr<worker_pool_state<Executor>> pool_;
    std::function<std::vector<Out>(std::span<In>)> run_;
    core::batch_rule<time_point> const rule_;
    std::size_t const max_in_flight_;
    waiter_list queue_;
    std::list<running_batch> running_;
    std::size_t asked_ = 0; // executions that the pool has not started
    std::uint64_t arrivals_ = 0;
    std::uint64_t flush_below_ = 0; // items with smaller numbers are not to wait
    std::size_t begin_after_alarm_ = 0;
    batcher_stats stats_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
