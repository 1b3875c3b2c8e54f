// SPDX-License-Identifier: BSL-1.0
// The state of a batcher.
#pragma once

#include <tidegate/batcher.hpp>
#include <tidegate/call.hpp>
#include <tidegate/detail/batch_queue.hpp>
#include <tidegate/detail/lock_patiently.hpp>
#include <tidegate/detail/one_run.hpp>

#include <algorithm>
#include <functional>
#include <list>
#include <span>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct submit_item {};

/// A caller with its item; later, with its place in a running batch.
template <class In, class Out, class TimePoint>
class item_waiter : public waiter_of<void(std::exception_ptr, Out), batch_waiter<TimePoint>> {
    using base = waiter_of<void(std::exception_ptr, Out), batch_waiter<TimePoint>>;

public:
    In item;
    std::size_t place = 0; // in the running batch

    void carry(std::exception_ptr failure, Out value) noexcept {
        outcome_.emplace(std::move(failure), std::move(value));
        this->results_ = &*outcome_;
    }

protected:
    item_waiter(waiter::finish_fn how, In&& i) : base(how), item(std::move(i)) {}

private:
    std::optional<typename base::results> outcome_;
};

/// What came of a batch: results, and which of them are none.
template <class Out>
struct batch_results {
    std::vector<Out> values;
    std::vector<std::exception_ptr> failures; // empty, or one a value

    /// Fills them from what the batch function returned.
    void take(std::vector<Out>&& returned) { values = std::move(returned); }
    void take(std::vector<outcome<Out>>&& returned) {
        values.reserve(returned.size());
        failures.reserve(returned.size());
        for (outcome<Out>& each : returned) {
            bool const failed = !each;
            failures.push_back(failed ? exception_of(each.why()) : nullptr);
            values.push_back(failed ? Out{} : std::move(each.value()));
        }
    }

private:
    static std::exception_ptr exception_of(failure const& why) {
        return why.exception() ? why.exception() : to_failure<std::exception_ptr>(why.code());
    }
};

template <class In, class Out, class Clock, class Executor>
class batcher_state final : public delivering_room<Clock, Executor> {
    static_assert(std::is_nothrow_move_constructible_v<In>, "items must move without throwing");
    static_assert(std::is_default_constructible_v<Out> && std::is_nothrow_move_constructible_v<Out>,
                  "results need a default state and must move without throwing");

    using room = delivering_room<Clock, Executor>;
    using waiter_type = item_waiter<In, Out, typename room::time_point>;
    using bucket_type = batch_bucket<typename room::time_point>;

public:
    using time_point = typename room::time_point;

    /// `key`, `source` and `priority` may be std::monostate.
    template <class Run, class Key, class Source, class Priority>
    static std::shared_ptr<batcher_state> make(basic_worker_pool<Executor>& pool,
                                               batcher_options const& settings, Run run, Key key,
                                               Source source, Priority priority) {
        constexpr bool by_source = !std::is_same_v<Source, std::monostate>;
        auto state = std::make_shared<batcher_state>(pool, settings, std::move(run), by_source);
        if constexpr (by_source) {
            state->source_of_ = [source = std::move(source)](In const& item) mutable {
                auto const value = source(item);
                return std::uint64_t{std::hash<std::decay_t<decltype(value)>>()(value)};
            };
        }
        if constexpr (!std::is_same_v<Key, std::monostate>) {
            using key_type = std::decay_t<std::invoke_result_t<Key&, In const&>>;
            state->buckets_ = std::make_unique<keyed_buckets<In, time_point, key_type, Key>>(
                std::move(key), settings.patience(), by_source);
        }
        if constexpr (!std::is_same_v<Priority, std::monostate>) {
            state->priority_of_ = std::move(priority);
        }
        state->enroll();
        return state;
    }

    template <class Run>
    batcher_state(basic_worker_pool<Executor>& pool, batcher_options const& settings, Run run,
                  bool by_source)
        : room(pool.get_executor()),
          pool_(state_of(pool)),
          run_([run = std::make_shared<Run>(std::move(run))](std::span<In> items,
                                                             batch_results<Out>& results) {
              results.take((*run)(items));
          }),
          rule_(settings.max_size(),
                std::chrono::duration_cast<typename Clock::duration>(settings.max_delay())),
          settings_(settings),
          max_in_flight_(settings.max_in_flight() ? settings.max_in_flight() : pool.size()),
          only_bucket_(settings.patience(), by_source),
          queue_(rule_, settings.patience()),
          waiting_(settings.patience()) {
        statistics_.by_size.resize(settings.max_size() + 1);
    }

    template <class Handler>
    void start(submit_item, Handler&& handler, In item) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), std::move(item));
        op->at_home = op->completes_at_home();
        auto* const cancel = this->connect(*op);
        admitted came;
        std::exception_ptr thrown;
        try {
            if (source_of_) op->source = source_of_(op->item);
            if (priority_of_) op->priority = known(priority_of_(op->item));
            op->arrived = now();
            if (!buckets_) {
                auto const lock = lock_patiently(this->mutex_);
                came = admit(op, only_bucket_, cancel);
            } else {
                auto const admit_to = [&](bucket_type& bucket) {
                    came = admit(op, bucket, cancel);
                };
                buckets_->with_bucket_of(op->item, this->mutex_, std::ref(admit_to));
            }
        } catch (...) {
            thrown = std::current_exception(); // by the user's functions, or for want of memory
        }
        if (came.dropped) {
            this->tell_of(*came.dropped, trace_event::dropped, error::dropped);
            came.dropped->abort(error::dropped);
        }
        if (thrown && op) {
            op.release()->complete(std::move(thrown), Out{});
        } else if (op) {
            this->tell_of(*op, trace_event::rejected, came.refused);
            op.release()->abort(came.refused);
        }
        begin_executions(came.begin);
    }

    void flush() {
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) return;
            queue_.flush(arrivals_, now());
            begin = ask_for_executions(now());
        }
        begin_executions(begin);
    }

    std::size_t queued() const noexcept {
        std::lock_guard lock(this->mutex_);
        return this->closed_ ? 0 : queue_.size();
    }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        return waiting_.size();
    }

    batcher_statistics statistics() const {
        std::lock_guard lock(this->mutex_);
        batcher_statistics all = statistics_;
        all.cancelled = this->cancelled_;
        return all;
    }

private:
    /// The callers of a batch that runs, those who leave early unlink themselves, and its items.
    struct running_batch {
        waiter_list members;
        std::vector<In> items;
    };
    using batches = std::list<running_batch>;

    /// What became of a new item, and what is to be done without the lock.
    struct admitted {
        std::size_t begin = 0; // executions
        waiter* dropped = nullptr;
        error_code refused; // if it was not taken
    };

    // With no delay the time does not matter, and reading the clock costs more than the rest.
    time_point now() const noexcept {
        return rule_.max_delay() > Clock::duration::zero() ? Clock::now() : time_point{};
    }

    // Puts an item where it has to wait, or says why not. Called under the lock.
    template <class Op>
    admitted admit(waiter_ptr<Op>& op, bucket_type& bucket, typename room::canceller* cancel) {
        admitted came;
        if (this->closed_) {
            came.refused = error::closed;
            return came;
        }
        bool const full = queue_.size() >= settings_.queue();
        if (full && settings_.full() == when_full::reject) {
            ++statistics_.rejected;
            came.refused = error::queue_full;
            return came;
        }
        waiter_type& w = *op;
        w.bucket = &bucket;
        w.number = arrivals_++;
        if (full && settings_.full() == when_full::wait) {
            this->park(waiting_.line_of(w.priority), op, room::no_deadline, cancel);
            ++bucket.waiting;
            return came;
        }
        queue_.make_room(bucket);
        this->park(bucket.line_of(w), op, room::no_deadline, cancel);
        queue_.added(w, w.arrived);
        if (full) came.dropped = drop_one();
        came.begin = ask_for_executions(w.arrived);
        return came;
    }

    waiter* drop_one() noexcept {
        auto& dropped = static_cast<waiter_type&>(queue_.most_expendable());
        this->unpark(dropped);
        leave_queue(dropped);
        ++statistics_.dropped;
        return &dropped;
    }

    // `w` was unlinked.
    void leave_queue(waiter_type& w) noexcept {
        bucket_type& bucket = *w.bucket;
        if (w.queued) queue_.left(w, now());
        else --bucket.waiting;
        w.bucket = nullptr;
        drop_if_unused(bucket);
    }

    void drop_if_unused(bucket_type& bucket) noexcept {
        if (buckets_ && bucket.size() == 0 && bucket.waiting == 0) buckets_->drop(bucket);
    }

    // Lets those who wait for room into the queue. No memory for that leaves no way to keep the
    // promise to run them: terminate.
    void admit_waiting(time_point at) noexcept {
        while (!waiting_.empty() && queue_.size() < settings_.queue()) {
            waiter_type& w = waiting_.next();
            waiting_.line_of(w.priority).erase(w);
            --w.bucket->waiting;
            queue_.make_room(*w.bucket);
            w.bucket->line_of(w).push_back(w);
            queue_.added(w, at);
        }
    }

    // How many executions to ask the pool for, beside those that were asked for and have not
    // started: each of them will take as much as it can. Called under the lock.
    std::size_t ask_for_executions(time_point at) noexcept {
        queue_.update(at);
        std::size_t const may_run = max_in_flight_ - std::min(max_in_flight_, running_.size());
        std::size_t const wanted = std::min(queue_.ready(), may_run);
        std::size_t const begin = wanted - std::min(wanted, asked_);
        asked_ += begin;
        this->set_alarm(asked_ < may_run ? queue_.next_due() : room::no_deadline);
        return begin;
    }

    // An execution that there is no memory for fails a batch: nobody else might come for it.
    void begin_executions(std::size_t n) noexcept {
        while (n > 0) {
            --n;
            auto self = std::static_pointer_cast<batcher_state>(this->shared_from_this());
            one_run<batcher_state, &batcher_state::execute, &batcher_state::never_executed> job(
                std::move(self));
            try {
                static_cast<void>(pool_->post(std::move(job), true));
            } catch (...) {
                job.forget(); // it would begin others in here, as deep as there are batches
                n += fail_batch(std::current_exception());
            }
        }
    }

    // The pool takes nothing more, or has dropped the batch to make room for a newer job.
    void never_executed() noexcept {
        if (pool_->accepts()) {
            begin_executions(fail_batch(to_failure<std::exception_ptr>(error::dropped)));
        } else {
            end_with_pool();
        }
    }

    // In place of an execution that was asked for: the callers of the batch whose turn it is get
    // `why`. Returns how many executions to begin.
    std::size_t fail_batch(std::exception_ptr const& why) noexcept {
        waiter_list members, gone;
        std::size_t begin = 0;
        {
            std::lock_guard lock(this->mutex_);
            --asked_;
            if (this->closed_) return 0;
            static_cast<void>(take_batch(members, now()));
            begin = ask_for_executions(now());
            unpark_all(members, gone);
            if (!gone.empty()) this->retire_timer_after(*gone.front());
        }
        this->tell_all(gone, trace_event::dropped, code_of(why));
        while (auto* const w = static_cast<waiter_type*>(gone.pop_front())) {
            w->complete(why, Out{});
        }
        return begin;
    }

    void end_with_pool() noexcept {
        waiter_list gone;
        {
            std::lock_guard lock(this->mutex_);
            --asked_;
            // A pool that drains still comes for what is queued, as long as it was asked to.
            if (this->closed_ || asked_ > 0) return;
            take_queued(gone);
            this->closed_ = true;
            on_close();
            if (!gone.empty()) this->retire_timer_after(*gone.front());
        }
        this->tell_all(gone, trace_event::rejected, error::closed);
        gone.abort_all(error::closed);
    }

    // All but those in batches that run: they get their results.
    void take_queued(waiter_list& gone) noexcept {
        waiter_list queued;
        waiting_.move_all_to(queued);
        queue_.move_all_to(queued);
        unpark_all(queued, gone);
    }

    void unpark_all(waiter_list& from, waiter_list& to) noexcept {
        while (waiter* const w = from.front()) {
            this->unpark(*w);
            to.push_back(*w);
        }
    }

    // Allocates without the lock, and leaves that open if there is no memory.
    void make_spare_batch(std::unique_lock<std::mutex>& lock) {
        lock.unlock();
        batches fresh(1);
        fresh.front().items.reserve(rule_.max_size());
        lock_patiently(lock);
        spare_batches_.splice(spare_batches_.end(), fresh);
    }

    // On a thread of the pool.
    void execute() noexcept {
        typename batches::iterator batch;
        std::size_t others = 0;
        {
            auto lock = lock_patiently(this->mutex_);
            if (spare_batches_.empty()) {
                try {
                    make_spare_batch(lock);
                } catch (...) { // there is no memory
                    return begin_executions(fail_batch(std::current_exception()));
                }
            }
            --asked_;
            if (this->closed_) return;
            batch = spare_batches_.begin();
            running_.splice(running_.end(), spare_batches_, batch);
            time_point const at = now();
            take_items(*batch, at);
            // What is left behind has its own time; what was let into the queue has nobody yet.
            others = ask_for_executions(at);
        }
        begin_executions(others);
        std::exception_ptr failure;
        batch_results<Out> results;
        if (!batch->items.empty()) run_traced(batch->items, results, failure);
        batch->items.clear(); // the items are the user's
        waiter_list done;
        std::size_t begin = 0;
        {
            auto const lock = lock_patiently(this->mutex_);
            unpark_all(batch->members, done);
            spare_batches_.splice(spare_batches_.end(), running_, batch);
            if (!this->closed_) begin = ask_for_executions(now());
            // While anything goes on, the timer is soon needed again.
            bool const last = (this->closed_ || queue_.size() == 0) && running_.empty();
            if (last && !done.empty()) this->retire_timer_after(*done.back());
        }
        hand_out(done, std::move(failure), results);
        begin_executions(begin);
    }

    // Moves the items of the batch whose turn it is out of the queue, in the order of their turns.
    std::optional<batch_reason> take_batch(waiter_list& members, time_point at) noexcept {
        queue_.update(at);
        bucket_type* const bucket = queue_.choose();
        if (!bucket) return std::nullopt; // callers have left
        auto const reason = queue_.close(*bucket, at);
        if (!reason) return reason;
        for (std::size_t n = std::min(bucket->size(), rule_.max_size()); n > 0; --n) {
            auto& w = queue_.take_next(*bucket);
            w.bucket = nullptr;
            members.push_back(w);
        }
        queue_.batch_taken(*bucket, at);
        drop_if_unused(*bucket);
        admit_waiting(at);
        return reason;
    }

    void take_items(running_batch& batch, time_point at) noexcept {
        auto const reason = take_batch(batch.members, at);
        if (!reason) return;
        waiter_list in_order;
        while (auto* const w = static_cast<waiter_type*>(batch.members.pop_front())) {
            w->place = batch.items.size();
            batch.items.push_back(std::move(w->item));
            in_order.push_back(*w);
        }
        batch.members.append(in_order);
        ++statistics_.batches;
        statistics_.items += batch.items.size();
        ++statistics_.by_size[batch.items.size()];
        ++statistics_.by_reason[static_cast<std::size_t>(*reason)];
    }

    void run_traced(std::vector<In>& items, batch_results<Out>& results,
                    std::exception_ptr& failed) noexcept {
        if (!this->trace_.is_heard()) [[likely]]
            return run_on(items, results, failed);
        std::size_t const size = items.size();
        this->trace_.emit(trace_event::batch_started, size);
        auto const started = Clock::now();
        run_on(items, results, failed);
        this->trace_.emit(
            trace_event::batch_finished, size, failed ? code_of(failure(failed)) : error_code(),
            std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started));
    }

    void run_on(std::vector<In>& items, batch_results<Out>& results,
                std::exception_ptr& failure) noexcept {
        try {
            std::size_t const expected = items.size();
            run_(std::span<In>(items), results);
            if (results.values.size() == expected) return;
            failure = to_failure<std::exception_ptr>(error::result_count_mismatch);
        } catch (...) {
            failure = std::current_exception();
        }
    }

    // Without the lock: results are the user's.
    void hand_out(waiter_list& done, std::exception_ptr failure,
                  batch_results<Out>& results) noexcept {
        bool const failed = failure != nullptr;
        bool const one_by_one = !failed && !results.failures.empty();
        while (auto* const w = static_cast<waiter_type*>(done.pop_front())) {
            // The last reference goes to the last caller: an exception ends where it is handled.
            auto& mine = one_by_one ? results.failures[w->place] : failure;
            bool const last = one_by_one || done.empty();
            auto told = last ? std::move(mine) : mine;
            w->carry(std::move(told), failed ? Out{} : std::move(results.values[w->place]));
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

    void on_departure(waiter& w) noexcept override {
        auto& item = static_cast<waiter_type&>(w);
        if (item.bucket) leave_queue(item);
    }

    void after_departure(waiter_list&) noexcept override {
        if (this->closed_) return; // a batch that runs was left
        admit_waiting(now());
        begin_after_alarm_ += ask_for_executions(now());
    }

    typename room::trace_of_wait traced(waiter const& w) const noexcept override {
        return {1, static_cast<waiter_type const&>(w).arrived};
    }

    void on_close() noexcept override { this->set_alarm(room::no_deadline); }

    void take_all(waiter_list& all) noexcept override {
        waiting_.move_all_to(all);
        queue_.move_all_to(all);
        for (running_batch& batch : running_) all.append(batch.members);
    }

    void shutdown() noexcept override {
        room::shutdown();
        this->drop_undelivered();
    }

    std::shared_ptr<worker_pool_state<Executor>> pool_;
    std::function<void(std::span<In>, batch_results<Out>&)> run_;
    std::function<std::uint64_t(In const&)> source_of_;  // may be empty
    std::function<job_priority(In const&)> priority_of_; // may be empty
    core::batch_rule<time_point> const rule_;
    batcher_options const settings_;
    std::size_t const max_in_flight_;
    bucket_type only_bucket_;                                // if there are no keys
    std::unique_ptr<batch_buckets<In, time_point>> buckets_; // if there are
    batch_queue<time_point> queue_;
    priority_lines<waiter_type> waiting_; // for room in the queue
    batches running_;
    batches spare_batches_; // for their memory
    std::size_t asked_ = 0; // executions that the pool has not started
    std::uint64_t arrivals_ = 0;
    std::size_t begin_after_alarm_ = 0;
    batcher_statistics statistics_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
