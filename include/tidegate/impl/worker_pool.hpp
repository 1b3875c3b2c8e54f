// SPDX-License-Identifier: BSL-1.0
// The queue and the threads of a worker pool.
#pragma once

#include <tidegate/detail/cpu_pause.hpp>
#include <tidegate/detail/lock_patiently.hpp>
#include <tidegate/detail/pool_job.hpp>
#include <tidegate/detail/thread_name.hpp>
#include <tidegate/worker_pool.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <thread>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

inline worker_pool_options::worker_pool_options()
    : threads_(std::max(1u, std::thread::hardware_concurrency())),
      on_exception_([](std::exception_ptr thrown) {
          try {
              std::rethrow_exception(thrown);
          } catch (std::exception const& e) {
              std::fprintf(stderr, "tidegate: a detached job threw: %s\n", e.what());
          } catch (...) {
              std::fputs("tidegate: a detached job threw an unknown exception\n", stderr);
          }
      }) {}

namespace detail {

struct submit_job {};

/// A job is in `waiting_`, then in `queue_`, then with the thread that runs it, which delivers it.
template <class Executor>
class worker_pool_state final : public delivering_room<std::chrono::steady_clock, Executor> {
    using room = delivering_room<std::chrono::steady_clock, Executor>;

public:
    static std::shared_ptr<worker_pool_state> make(Executor const& executor,
                                                   worker_pool_options&& settings) {
        auto state = std::make_shared<worker_pool_state>(executor, std::move(settings));
        try {
            state->enroll();
            state->start_threads(state);
        } catch (...) {
            state->close();
            state->join();
            throw;
        }
        return state;
    }

    worker_pool_state(Executor const& executor, worker_pool_options&& settings)
        : room(executor), settings_(std::move(settings)) {}

    ~worker_pool_state() {
        // Still joinable if the pool's last owner went on a thread of its own: each has let go of
        // this state by now.
        for (std::thread& thread : threads_) {
            if (thread.joinable()) thread.detach();
        }
        while (detached_job* const job = free_) {
            free_ = job->next_free;
            delete job;
        }
    }

    worker_pool_options const& settings() const noexcept { return settings_; }
    std::size_t queued() const noexcept {
        return locked([this] { return queue_.size(); });
    }
    std::size_t waiting() const noexcept {
        return locked([this] { return waiting_.size(); });
    }
    bool accepts() const noexcept {
        std::lock_guard lock(this->mutex_);
        return !this->closed_ && !draining_;
    }
    std::size_t active() const noexcept {
        return locked([this] { return active_; });
    }

    template <class Handler, class Function>
    void start(submit_job, Handler&& handler, Function job) {
        using signature = typename submit_signature<std::invoke_result_t<Function&>>::type;
        using op_type = wait_op<awaited_job<Function, signature>, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor(), std::move(job));
        op->at_home = op->completes_at_home();
        auto* const cancel = this->connect(*op);
        waiter* dropped = nullptr;
        bool wake = false;
        error_code ec;
        {
            auto const lock = lock_patiently(this->mutex_);
            if (this->closed_ || draining_) {
                ec = error::closed;
            } else if (queue_.size() < settings_.queue()) {
                this->park(queue_, op, room::no_deadline, cancel);
                wake = call_for_job();
            } else if (settings_.full() == when_full::wait) {
                this->park(waiting_, op, room::no_deadline, cancel);
            } else if (settings_.full() == when_full::drop_oldest) {
                this->park(queue_, op, room::no_deadline, cancel);
                dropped = queue_.front();
                this->unpark(*dropped);
            } else {
                ec = error::queue_full;
            }
        }
        if (wake) work_there_.notify_one();
        if (dropped) dropped->abort(error::dropped);
        if (ec) op.release()->abort(ec);
    }

    /// With `may_wait` a job that finds the queue full waits in line, whatever the policy says.
    template <class Function>
    bool post(Function job, bool may_wait = false) {
        if constexpr (detached_job::fits<Function>) {
            return post_small(std::move(job), may_wait);
        } else {
            return post_small([call = std::make_unique<Function>(std::move(job))] { (*call)(); },
                              may_wait);
        }
    }

    void drain() noexcept {
        std::lock_guard lock(this->mutex_);
        draining_ = true;
        work_there_.notify_all();
    }

    void join() noexcept {
        if (pool_of_this_thread() == this) return;
        std::lock_guard one_at_a_time(joining_);
        for (std::thread& thread : threads_) {
            if (thread.joinable()) thread.join();
        }
    }

private:
    template <class Function>
    bool post_small(Function function, bool may_wait) {
        waiter* dropped = nullptr;
        bool wake = false;
        {
            auto const lock = lock_patiently(this->mutex_);
            if (this->closed_ || draining_) return false;
            bool const full = queue_.size() >= settings_.queue();
            bool const drop = full && !may_wait && settings_.full() == when_full::drop_oldest;
            if (full && !may_wait && !drop) return false;
            detached_job* const job = take_free();
            job->hold(std::move(function));
            (full && may_wait ? waiting_ : queue_).push_back(*job);
            if (drop) {
                dropped = queue_.front();
                this->unpark(*dropped);
            }
            wake = call_for_job();
        }
        if (wake) work_there_.notify_one();
        if (dropped) dropped->abort(error::dropped);
        return true;
    }

    detached_job* take_free() {
        if (!free_) return new detached_job;
        return std::exchange(free_, free_->next_free);
    }

    void start_threads(std::shared_ptr<worker_pool_state> const& self) {
        threads_.reserve(settings_.threads());
        for (std::size_t i = 0; i < settings_.threads(); ++i) {
            threads_.emplace_back([self, i] {
                name_this_thread(self->settings_.name() + "-" + std::to_string(i));
                self->work();
            });
        }
    }

    static worker_pool_state const*& pool_of_this_thread() noexcept {
        static thread_local worker_pool_state const* pool = nullptr;
        return pool;
    }

    void work() noexcept {
        pool_of_this_thread() = this;
        auto lock = lock_patiently(this->mutex_);
        while (pool_job* const job = next(lock)) {
            ++active_;
            lock.unlock();
            // Gone before the lock is taken: what was thrown may use the pool when it ends.
            if (std::exception_ptr thrown = job->run()) settings_.on_exception()(std::move(thrown));
            bool const detached = job->is_detached;
            if (!detached) this->deliver(*job); // gone after this
            lock_patiently(lock);
            --active_;
            if (detached) keep_for_reuse(static_cast<detached_job&>(*job));
        }
    }

    // The next job, or null when there will be none.
    pool_job* next(std::unique_lock<std::mutex>& lock) noexcept {
        bool may_spin = settings_.spin().count() > 0;
        while (queue_.empty()) {
            if (this->closed_ || draining_) return nullptr;
            if (may_spin && !spinning_) {
                look_out(lock);
            } else {
                sleep(lock);
            }
            may_spin = false;
        }
        auto* const job = static_cast<pool_job*>(queue_.front());
        this->unpark(*job);
        if (waiter* const w = waiting_.pop_front()) {
            queue_.push_back(*w);
            if (call_for_job()) work_there_.notify_one();
        }
        if (queue_.empty()) work_seen_.store(false, std::memory_order_relaxed);
        return job;
    }

    void look_out(std::unique_lock<std::mutex>& lock) noexcept {
        using clock = std::chrono::steady_clock;
        spinning_ = true;
        lock.unlock();
        for (auto const end = clock::now() + settings_.spin(); clock::now() < end;) {
            for (int i = 0; i < 8; ++i) cpu_pause();
            if (work_seen_.load(std::memory_order_relaxed)) break;
        }
        lock_patiently(lock);
        spinning_ = false;
    }

    void sleep(std::unique_lock<std::mutex>& lock) noexcept {
        ++asleep_;
        work_there_.wait(lock, [this] { return called_ > 0 || this->closed_ || draining_; });
        --asleep_;
        if (called_ > 0) --called_;
    }

    // A job was queued. True if a sleeper has to be notified for it, after unlocking: those who
    // look out, or were called and have not come yet, take one each, and go on while there are
    // more.
    bool call_for_job() noexcept {
        work_seen_.store(true, std::memory_order_relaxed);
        if (asleep_ == called_ || queue_.size() <= called_ + spinning_) return false;
        ++called_;
        return true;
    }

    void keep_for_reuse(detached_job& job) noexcept { job.next_free = std::exchange(free_, &job); }

    void take_all(waiter_list& all) noexcept override {
        all.append(waiting_);
        all.append(queue_);
    }

    void on_close() noexcept override { work_there_.notify_all(); }

    // The departed may have made room in the queue.
    void after_departure(waiter_list&) noexcept override {
        while (queue_.size() < settings_.queue()) {
            waiter* const w = waiting_.pop_front();
            if (!w) break;
            queue_.push_back(*w);
            if (call_for_job()) work_there_.notify_one();
        }
    }

    void shutdown() noexcept override {
        room::shutdown();
        join(); // what still runs must end while there is a context to post its completion to
        this->drop_undelivered();
    }

    template <class Read>
    std::size_t locked(Read read) const noexcept {
        std::lock_guard lock(this->mutex_);
        return read();
    }

    worker_pool_options const settings_;
    std::condition_variable work_there_;
    waiter_list waiting_; // for room in the queue
    waiter_list queue_;   // for a thread
    bool draining_ = false;
    std::size_t asleep_ = 0;
    std::size_t called_ = 0; // of those, notified and not yet awake
    bool spinning_ = false;
    std::atomic<bool> work_seen_{false}; // a hint for the one that spins
    std::size_t active_ = 0;
    detached_job* free_ = nullptr;
    std::mutex joining_;
    std::vector<std::thread> threads_;
};

/// For the primitives that run their work on a pool.
class worker_pool_access {
public:
    template <class Executor>
    static std::shared_ptr<worker_pool_state<Executor>> const&
    state_of(basic_worker_pool<Executor>& pool) noexcept {
        return pool.state_;
    }
};

} // namespace detail
TIDEGATE_END_NAMESPACE
