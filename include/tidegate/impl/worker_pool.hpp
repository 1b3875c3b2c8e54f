// SPDX-License-Identifier: BSL-1.0
// The queue and the threads of a worker pool.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/histogram.hpp>
#include <tidegate/detail/cpu_pause.hpp>
#include <tidegate/detail/detached_job.hpp>
#include <tidegate/detail/lock_patiently.hpp>
#include <tidegate/detail/priority_lines.hpp>
#include <tidegate/detail/thread_name.hpp>
#include <tidegate/detail/thread_parker.hpp>
#include <tidegate/worker_pool.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <new>
#include <string>
#include <thread>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct submit_job {};

/// A job is in `waiting_`, then in `queue_`, then with the thread that runs it, which delivers it.
template <class Executor>
class worker_pool_state final : public delivering_room<std::chrono::steady_clock, Executor> {
    using room = delivering_room<std::chrono::steady_clock, Executor>;
    using job_lines = priority_lines<pool_job>;
    using clock = std::chrono::steady_clock;

public:
    static std::shared_ptr<worker_pool_state> make(Executor const& executor,
                                                   worker_pool_options&& settings) {
        auto state = std::make_shared<worker_pool_state>(executor, std::move(settings));
        try {
            state->enroll();
            state->resize(state, state->settings_.threads());
        } catch (...) {
            state->close();
            state->join();
            throw;
        }
        return state;
    }

    worker_pool_state(Executor const& executor, worker_pool_options&& settings)
        : room(executor),
          settings_(std::move(settings)),
          waiting_(settings_.patience()),
          queue_(settings_.patience()) {}

    ~worker_pool_state() {
        // Still joinable if the pool's last owner went on a thread of its own: each has let go of
        // this state by now.
        for (seat& s : seats_) {
            if (s.thread.joinable()) s.thread.detach();
        }
    }

    std::size_t size() const noexcept {
        return locked([this] { return wanted_; });
    }
    std::size_t queued() const noexcept {
        return locked([this] { return queue_.size(); });
    }
    std::size_t waiting() const noexcept {
        return locked([this] { return waiting_.size(); });
    }
    bool accepts() const noexcept {
        return locked([this] { return open(); });
    }
    std::size_t active() const noexcept {
        return locked([this] { return active_; });
    }

    worker_pool_statistics statistics() const {
        std::lock_guard lock(this->mutex_);
        worker_pool_statistics all = counts_;
        all.threads = alive_;
        all.active = active_;
        all.queued = queue_.size();
        all.waiting = waiting_.size();
        all.cancelled = this->cancelled_;
        all.wait = summary(wait_times_);
        all.run = summary(run_times_);
        return all;
    }

    // Submitting --------------------------------------------------------------------------------

    /// To await what `job()` returns, for those who keep the pool's threads but not the pool.
    template <class Job>
    auto submit(Job job) {
        using signature = typename submit_signature<std::invoke_result_t<Job&>>::type;
        return boost::asio::async_initiate<boost::asio::deferred_t const, signature>(
            initiation<worker_pool_state, submit_job>(*this), boost::asio::deferred, std::move(job),
            submission{});
    }

    template <class Handler, class Function>
    void start(submit_job, Handler&& handler, Function job, submission how) {
        using signature = typename submit_signature<std::invoke_result_t<Function&>>::type;
        using op_type = wait_op<awaited_job<Function, signature>, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), std::move(job));
        op->at_home = op->completes_at_home();
        op->priority = how.priority;
        auto* const cancel = this->connect(*op);
        called_for called;
        admission verdict;
        {
            auto const lock = lock_patiently(this->mutex_);
            verdict = admit(how.may_wait);
            if (verdict == admission::to_queue || verdict == admission::to_line) {
                job_lines& lines = verdict == admission::to_queue ? queue_ : waiting_;
                measure(*op);
                this->park(lines.line_of(how.priority), op, room::no_deadline, cancel);
                called = call(verdict);
            }
        }
        finish_call(called);
        switch (verdict) {
        case admission::to_queue:
        case admission::to_line: break;
        case admission::to_caller:
            run_traced([&] { return op->run(); });
            this->deliver(*op.release());
            break;
        case admission::full: refuse(*op.release(), error::queue_full); break;
        case admission::closed: refuse(*op.release(), error::closed); break;
        }
    }

    /// With `insist` a job that finds the queue full waits in line, whatever the policy says. What
    /// throws for want of memory leaves a small job as it was.
    template <class Function>
        requires(!std::is_reference_v<Function>)
    bool post(Function&& job, bool insist = false, job_priority priority = job_priority::normal) {
        if constexpr (detached_job::fits<Function>) {
            return post_small(job, insist, priority);
        } else {
            boxed<Function> small(std::forward<Function>(job));
            return post_small(small, insist, priority);
        }
    }

    // Ending ------------------------------------------------------------------------------------

    void drain() noexcept {
        std::lock_guard lock(this->mutex_);
        draining_ = true;
        wake_all();
    }

    void stop() noexcept {
        auto const kept = this->weak_from_this().lock(); // a job may own the pool
        this->close();
        for (auto job = one_to_stop(); job.stop_possible(); job = one_to_stop()) {
            job.request_stop();
        }
    }

    void join() noexcept {
        if (pool_of_this_thread() == this) return;
        {
            std::unique_lock lock(this->mutex_);
            all_left_.wait(lock, [this] { return alive_ == 0; });
        }
        std::lock_guard seating(seating_);
        for (seat& s : seats_) {
            if (s.thread.joinable()) s.thread.join();
        }
    }

    // Threads -----------------------------------------------------------------------------------

    void resize(std::shared_ptr<worker_pool_state> const& self, std::size_t threads) {
        check_option<std::size_t>("worker_pool threads", threads, 1, 4096);
        std::lock_guard seating(seating_);
        {
            std::lock_guard lock(this->mutex_);
            if (!open()) return;
            wanted_ = threads;
            if (staying_ > wanted_) wake_all(); // those too many leave
        }
        for (std::size_t i = 0; seat* const s = free_seat(i); ++i) {
            if (s->thread.joinable()) s->thread.join(); // it is past everything but its end
            start_thread(self, i, *s);
        }
    }

private:
    /// Place `i` of the pool for a thread. Its thread takes `taken` back as the last thing.
    struct seat {
        std::thread thread;
        thread_parker parker;
        seat* next_idle = nullptr; // guarded by mutex_, as what follows
        bool taken = false;
    };

    enum class admission { to_queue, to_line, to_caller, full, closed };

    /// What is to be done, without the lock, for a job that was queued.
    struct called_for {
        seat* sleeper = nullptr; // keeps this state until it is woken
        pool_job* dropped = nullptr;
        std::shared_ptr<void> kept; // while it is dropped: a job may own the pool
    };

    /// What a thread of the pool does next. Without a job it leaves.
    struct turn {
        pool_job* job = nullptr;
        seat* sleeper = nullptr; // to be woken without the lock: it may take this processor
    };

    bool open() const noexcept { return !this->closed_ && !draining_; }

    // What is to be done with a new job. Counts those that are refused.
    admission admit(bool may_wait) noexcept {
        if (!open()) return admission::closed;
        if (queue_.size() < settings_.queue()) return admission::to_queue;
        switch (settings_.full()) {
        case when_full::wait:
            if (may_wait) return admission::to_line;
            break;
        case when_full::reject: break;
        case when_full::drop_oldest: return admission::to_queue;
        case when_full::caller_runs: ++counts_.caller_ran; return admission::to_caller;
        }
        ++counts_.rejected;
        return admission::full;
    }

    // A job was put where the verdict says. Called under the lock.
    called_for call(admission verdict) noexcept {
        called_for called;
        if (verdict != admission::to_queue) return called;
        if (queue_.size() > settings_.queue()) {
            called.dropped = &queue_.most_expendable();
            called.kept = this->weak_from_this().lock();
            this->unpark(*called.dropped);
            ++counts_.dropped;
        }
        called.sleeper = call_for_job();
        return called;
    }

    void finish_call(called_for const& called) noexcept {
        wake(called.sleeper);
        if (!called.dropped) return;
        this->tell_of(*called.dropped, trace_event::dropped, error::dropped);
        called.dropped->abort(error::dropped);
    }

    void refuse(pool_job& job, error why) noexcept {
        this->tell_of(job, trace_event::rejected, why);
        job.abort(why);
    }

    template <class Function>
    bool post_small(Function& function, bool insist, job_priority priority) {
        called_for called;
        admission verdict;
        {
            auto const lock = lock_patiently(this->mutex_);
            bool const in_line = insist && open() && queue_.size() >= settings_.queue();
            verdict = in_line ? admission::to_line : admit(false);
            if (verdict == admission::to_queue || verdict == admission::to_line) {
                detached_job& job = detached_.take();
                job.hold(std::move(function));
                job.priority = priority;
                measure(job);
                (in_line ? waiting_ : queue_).push(job);
                called = call(verdict);
            }
        }
        finish_call(called);
        // Moved from for other verdicts only. NOLINTNEXTLINE(bugprone-use-after-move)
        if (verdict == admission::to_caller) run_traced([&] { return run_here(function); });
        bool const accepted = verdict != admission::full && verdict != admission::closed;
        if (!accepted) {
            this->trace_.emit(trace_event::rejected, 1,
                              verdict == admission::full ? error::queue_full : error::closed);
        }
        return accepted;
    }

    template <class Function>
    std::exception_ptr run_here(Function& function) noexcept {
        try {
            function();
        } catch (...) {
            tell(std::current_exception());
            return std::current_exception();
        }
        return nullptr;
    }

    /// What nobody waits for.
    void tell(std::exception_ptr thrown) noexcept {
        try {
            settings_.on_exception()(std::move(thrown));
        } catch (std::exception const& e) {
            std::fprintf(stderr, "tidegate: a worker pool's on_exception threw: %s\n", e.what());
        } catch (...) {
            std::fputs("tidegate: a worker pool's on_exception threw an unknown exception\n",
                       stderr);
        }
    }

    /// On the caller's thread.
    template <class Run>
    void run_traced(Run run) noexcept {
        if (!this->trace_.is_heard()) [[likely]]
            return static_cast<void>(run());
        this->trace_.emit(trace_event::job_started);
        auto const started = clock::now();
        error_code const failure = code_of(run());
        this->trace_.emit(trace_event::job_finished, 1, failure, clock::now() - started);
    }

    // The first seat from `i` on that is free, if another thread is wanted; `i` becomes its number.
    seat* free_seat(std::size_t& i) {
        std::lock_guard lock(this->mutex_);
        if (staying_ >= wanted_) return nullptr;
        while (i < seats_.size() && seats_[i].taken) ++i;
        if (i == seats_.size()) seats_.emplace_back();
        seats_[i].taken = true;
        ++staying_;
        ++alive_;
        return &seats_[i];
    }

    void start_thread(std::shared_ptr<worker_pool_state> const& self, std::size_t i, seat& s) {
        try {
            s.thread = std::thread([self, i, &s] { self->work(i, s); });
        } catch (...) {
            std::lock_guard lock(this->mutex_);
            --staying_;
            wanted_ = std::max<std::size_t>(1, staying_);
            vacate(s);
            throw;
        }
    }

    // Call with the lock held.
    void vacate(seat& s) noexcept {
        s.taken = false;
        if (--alive_ == 0) all_left_.notify_all();
    }

    static worker_pool_state const*& pool_of_this_thread() noexcept {
        static thread_local worker_pool_state const* pool = nullptr;
        return pool;
    }

    // On a thread of the pool -------------------------------------------------------------------

    void work(std::size_t number, seat& here) noexcept {
        pool_of_this_thread() = this;
        name_this_thread(settings_.name(), number);
        auto const& cpus = settings_.affinity();
        if (!cpus.empty()) bind_this_thread(cpus[number % cpus.size()]);
        run_hook(settings_.on_thread_start(), number);
        auto lock = lock_patiently(this->mutex_);
        for (turn t = next(here, lock); t.job; t = next(here, lock)) run(t, lock);
        --staying_;
        // Called for a job, it may be leaving instead.
        if (!queue_.empty()) wake(call_for_job());
        lock.unlock();
        run_hook(settings_.on_thread_stop(), number);
        lock.lock();
        vacate(here);
    }

    void run_hook(std::function<void(std::size_t)> const& hook, std::size_t number) noexcept {
        auto const call = [&] { hook(number); };
        if (hook) static_cast<void>(run_here(call));
    }

    void run(turn const& t, std::unique_lock<std::mutex>& lock) noexcept {
        pool_job& job = *t.job;
        ++active_;
        auto const started = job.since;
        bool const detached = job.is_detached;
        bool const stoppable = job.is_running;
        bool const sample = job.is_sample;
        lock.unlock();
        wake(t.sleeper);
        this->trace_.emit(trace_event::job_started, 1, {}, job.waited);
        error_code failure;
        // Gone before the lock is taken: what was thrown may use the pool when it ends.
        if (std::exception_ptr thrown = job.run()) {
            if (this->trace_.is_heard()) failure = code_of(thrown);
            if (detached) tell(std::move(thrown));
        }
        auto const took = started ? clock::now() - *started : clock::duration(0);
        this->trace_.emit(trace_event::job_finished, 1, failure, took);
        if (!detached) {
            if (stoppable) {
                lock_patiently(lock);
                this->unpark(job);
                lock.unlock();
            }
            this->deliver(job); // gone after this
        }
        // Jobs that nobody awaits come in bursts: asleep here, the thread lets whoever posts them
        // put many. To take turns at the lock for each would take both twice as long.
        detached ? lock.lock() : lock_patiently(lock);
        --active_;
        if (sample) record(run_times_, took);
        if (!detached) return;
        if (stoppable) this->unpark(job);
        detached_.keep(static_cast<detached_job&>(job));
    }

    turn next(seat& here, std::unique_lock<std::mutex>& lock) noexcept {
        bool may_spin = settings_.spin().count() > 0;
        while (staying_ <= wanted_ && queue_.empty()) {
            if (!open()) return {};
            if (may_spin && !spinning_) {
                look_out(lock);
            } else {
                sleep(here, lock);
            }
            may_spin = false;
        }
        if (staying_ > wanted_) return {};
        pool_job& job = queue_.next();
        take_out(job);
        ++counts_.started;
        turn const mine{&job, move_up()};
        if (queue_.empty()) work_seen_.store(false, std::memory_order_relaxed);
        return mine;
    }

    // One that can be stopped keeps its id, so that cancelling it reaches it while it runs.
    void take_out(pool_job& job) noexcept {
        if (job.can_stop()) {
            queue_.line_of(job.priority).erase(job);
            running_.push_back(job);
            job.is_running = true;
        } else {
            this->unpark(job);
        }
        if (!job.since) return;
        auto const now = clock::now();
        job.waited = now - *job.since;
        job.since = now;
        if (job.is_sample) record(wait_times_, job.waited);
    }

    // Moves whose turn it is from the line to the queue, if there is room. Returns whom to wake.
    seat* move_up() noexcept {
        if (waiting_.empty() || queue_.size() >= settings_.queue()) return nullptr;
        pool_job& job = waiting_.next();
        waiting_.line_of(job.priority).erase(job);
        queue_.push(job);
        return call_for_job();
    }

    void look_out(std::unique_lock<std::mutex>& lock) noexcept {
        spinning_ = true;
        lock.unlock();
        for (auto const end = clock::now() + settings_.spin(); clock::now() < end;) {
            for (int i = 0; i < 8; ++i) cpu_pause();
            if (work_seen_.load(std::memory_order_relaxed)) break;
        }
        lock_patiently(lock);
        spinning_ = false;
    }

    void sleep(seat& here, std::unique_lock<std::mutex>& lock) noexcept {
        // There is nothing to do now, also for those who were called: whoever is called from now on
        // does not wait for one of them that gets no processor.
        called_ = 0;
        here.next_idle = std::exchange(idle_, &here);
        lock.unlock();
        here.parker.park();
        lock_patiently(lock);
        if (called_ > 0) --called_;
    }

    // A job was queued. Returns the sleeper to wake for it, best after unlocking, or null: those
    // who look out, or were called and have not come yet, take one each, and go on while there are
    // more.
    seat* call_for_job() noexcept {
        work_seen_.store(true, std::memory_order_relaxed);
        if (queue_.size() <= called_ + spinning_) return nullptr;
        return call_idle();
    }

    // The one who fell asleep last: its caches are warm, and the others can sleep on.
    seat* call_idle() noexcept {
        if (!idle_) return nullptr;
        ++called_;
        return std::exchange(idle_, idle_->next_idle);
    }

    static void wake(seat* sleeper) noexcept {
        if (sleeper) sleeper->parker.unpark();
    }

    // Call with the lock held.
    void wake_all() noexcept {
        while (idle_) wake(call_idle());
    }

    // Statistics --------------------------------------------------------------------------------

    void measure(pool_job& job) noexcept {
        job.is_sample = settings_.measure_every() > 0 && unmeasured_-- == 0;
        if (job.is_sample) unmeasured_ = settings_.measure_every() - 1;
        if (job.is_sample || this->trace_.is_heard()) job.since = clock::now();
    }

    // A sample that there is no memory for is lost.
    static void record(core::histogram& times, clock::duration took) noexcept {
        auto const ns = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
        try {
            times.record(ns > 0 ? static_cast<std::uint64_t>(ns) : 0);
        } catch (std::bad_alloc const&) {
            return;
        }
    }

    static job_times summary(core::histogram const& times) noexcept {
        auto const ns = [](auto value) {
            return std::chrono::nanoseconds(static_cast<std::int64_t>(value));
        };
        return {times.count(),
                ns(times.mean()),
                ns(times.percentile(0.50)),
                ns(times.percentile(0.95)),
                ns(times.percentile(0.99)),
                ns(times.max())};
    }

    template <class Read>
    auto locked(Read read) const noexcept {
        std::lock_guard lock(this->mutex_);
        return read();
    }

    // Leaving early -----------------------------------------------------------------------------

    typename room::trace_of_wait traced(waiter const& w) const noexcept override {
        return {1, static_cast<pool_job const&>(w).since.value_or(clock::time_point())};
    }

    void take_all(waiter_list& all) noexcept override {
        waiting_.move_all_to(all);
        queue_.move_all_to(all);
    }

    void on_close() noexcept override { wake_all(); }

    // The departed may have made room in the queue.
    void after_departure(waiter_list&) noexcept override {
        while (!waiting_.empty() && queue_.size() < settings_.queue()) wake(move_up());
    }

    // A job that runs cannot be taken out, but asked to stop.
    bool stays(waiter& w, std::unique_lock<std::mutex>& lock) noexcept override {
        auto const& job = static_cast<pool_job const&>(w);
        if (!job.is_running) return false;
        std::stop_source const asked = job.stop; // the job may go any moment
        lock.unlock();
        asked.request_stop();
        return true;
    }

    // The stop source of a job that runs and was not asked yet; an empty one if there is none.
    std::stop_source one_to_stop() noexcept {
        std::lock_guard lock(this->mutex_);
        for (std::size_t i = running_.size(); i > 0; --i) {
            auto& job = static_cast<pool_job&>(*running_.pop_front());
            running_.push_back(job);
            if (!job.stop.stop_requested()) return job.stop;
        }
        return std::stop_source(std::nostopstate);
    }

    void shutdown() noexcept override {
        room::shutdown();
        stop();
        join(); // what still runs must end while there is a context to post its completion to
        this->drop_undelivered();
    }

    worker_pool_options const settings_;
    detached_jobs detached_{this->mutex_}; // before the lines that hold them
    job_lines waiting_;                    // for room in the queue
    job_lines queue_;                      // for a thread
    waiter_list running_;                  // of the jobs that run, those that can be stopped
    bool draining_ = false;
    seat* idle_ = nullptr;   // those asleep, the last first
    std::size_t called_ = 0; // taken from there for a job, and not yet awake; never too high
    bool spinning_ = false;
    std::atomic<bool> work_seen_{false}; // a hint for the one that spins
    std::size_t active_ = 0;

    std::uint32_t unmeasured_ = 0; // jobs until the next that is measured
    core::histogram wait_times_;
    core::histogram run_times_;
    worker_pool_statistics counts_; // of which only the counts so far are used

    std::size_t wanted_ = 0;  // threads
    std::size_t staying_ = 0; // of the living, those that have not decided to leave
    std::size_t alive_ = 0;   // started and not past their last hook
    std::condition_variable all_left_;
    std::mutex seating_;     // for starting threads and joining those that have ended
    std::deque<seat> seats_; // changed with both mutexes held
};

template <class Executor>
std::shared_ptr<worker_pool_state<Executor>> const&
state_of(basic_worker_pool<Executor> const& pool) noexcept {
    return pool.state_;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
