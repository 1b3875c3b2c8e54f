// SPDX-License-Identifier: BSL-1.0
// The entries of a registry of tasks.
#pragma once

#include <tidegate/background_tasks.hpp>
#include <tidegate/detail/side_task.hpp>

#include <boost/unordered/unordered_flat_map.hpp>

#include <algorithm>
#include <deque>
#include <new>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct wait_for_task {};
struct wait_for_all_tasks {};

/// A task's entry is in the table while it lives and while it is remembered, and so long in one of
/// three lists: of those that are queued, run, or have ended. The registry's mutex guards all of it
/// but the progress.
template <class Result, class Clock>
class background_tasks_state final : public waiting_room<Clock, asio::any_io_executor, std::mutex> {
    using room = waiting_room<Clock, asio::any_io_executor, std::mutex>;
    using time_point = typename Clock::time_point;
    using registry = basic_background_tasks<Result, Clock>;
    using result_pointer = typename registry::result_pointer;
    using status_type = typename registry::status_type;
    using events = typename registry::events;
    using events_state =
        std::remove_cvref_t<decltype(*channel_access::state_of(std::declval<events&>()))>;

    class result_waiter_type : public waiter_of<void(std::exception_ptr, result_pointer)> {
    protected:
        using waiter_of<void(std::exception_ptr, result_pointer)>::waiter_of;
    };
    class end_waiter_type : public waiter_of<void(error_code)> {
    protected:
        using waiter_of<void(error_code)>::waiter_of;
    };

    struct entry;
    using entry_pointer = std::shared_ptr<entry>;

    struct entry : side_task {
        explicit entry(asio::any_io_executor executor) noexcept
            : side_task(std::move(executor)), context({}, progress) {}
        virtual ~entry() = default;

        /// Starts the task. The entry keeps the callable until the task has ended.
        virtual void run(background_tasks_state& state) = 0;
        virtual void forget_callable() noexcept = 0;

        entry_pointer self() { return std::static_pointer_cast<entry>(this->shared_from_this()); }

        status_type status;
        task_progress progress;
        task_context context;
        bool cancelled = false;         // asked to end
        std::uint64_t cancelled_in = 0; // the last round of `cancel_all` that asked it, if it ran
        result_pointer result;
        waiter_list waiters;
        entry_pointer next; // in the list that it is in
        entry* previous = nullptr;
    };

    /// A list of entries, linked through themselves: to put one in cannot fail.
    class entry_list {
    public:
        entry_list() = default;
        entry_list(entry_list const&) = delete;
        entry_list& operator=(entry_list const&) = delete;
        ~entry_list() {
            while (!empty()) take(front()); // else each would destroy the next one, in itself
        }

        bool empty() const noexcept { return !first_; }
        std::size_t size() const noexcept { return size_; }
        entry& front() const noexcept { return *first_; }

        void push_back(entry_pointer one) noexcept {
            entry_pointer& link = last_ ? last_->next : first_;
            one->previous = std::exchange(last_, one.get());
            link = std::move(one);
            ++size_;
        }
        entry_pointer take(entry& one) noexcept {
            entry_pointer& link = one.previous ? one.previous->next : first_;
            entry_pointer taken = std::move(link);
            link = std::move(one.next);
            (link ? link->previous : last_) = std::exchange(one.previous, nullptr);
            --size_;
            return taken;
        }
        void move_all_to(entry_list& other) noexcept {
            while (!empty()) other.push_back(take(front()));
        }

    private:
        entry_pointer first_;
        entry* last_ = nullptr;
        std::size_t size_ = 0;
    };

    template <class Function>
    struct entry_with final : entry {
        entry_with(asio::any_io_executor executor, Function task)
            : entry(std::move(executor)), callable(std::move(task)) {}

        void run(background_tasks_state& state) override {
            auto begin = [this] {
                if constexpr (moves_in_silence) return (*callable)(this->context);
                else return share();
            };
            auto ended = [all = state.self(), this](std::exception_ptr thrown, auto... value) {
                auto const made = [&]() -> result_pointer {
                    if constexpr (std::is_void_v<Result>) return nullptr;
                    else if constexpr (!moves_in_silence) return (std::move(value), ...);
                    else return std::make_shared<Result const>(std::move(value)...);
                };
                all->task_ended(*this, std::move(thrown), made);
            };
            this->start_later(begin, std::move(ended));
        }
        void forget_callable() noexcept override { callable.reset(); }

        using value_type =
            typename awaited_type<std::invoke_result_t<Function&, task_context&>>::type;
        // Asio moves what the coroutine returned, and what that throws leaves the event loop.
        static constexpr bool moves_in_silence =
            std::is_void_v<value_type> || std::is_nothrow_move_constructible_v<value_type>;

        // Where it does throw, the coroutine itself does what is done after it otherwise.
        asio::awaitable<result_pointer> share() {
            co_return std::make_shared<Result const>(co_await (*callable)(this->context));
        }

        std::optional<Function> callable;
    };

public:
    static std::shared_ptr<background_tasks_state> make(asio::any_io_executor const& executor,
                                                        background_tasks_options settings) {
        auto state = std::make_shared<background_tasks_state>(executor, settings);
        state->enroll();
        return state;
    }

    background_tasks_state(asio::any_io_executor const& executor, background_tasks_options settings)
        : room(executor), executors_(executor), settings_(settings) {}

    ~background_tasks_state() {
        for (auto const& channel : subscribers_) {
            if (auto const kept = channel.lock()) kept->close();
        }
    }

    template <class Function>
    task_id spawn(std::string name, Function task) {
        if (this->is_closed()) refuse();
        auto const one = std::make_shared<entry_with<Function>>(executors_.next(), std::move(task));
        one->status.name = std::move(name);
        bool const may_have_to_wait = settings_.max_running() < unlimited;
        auto const now = Clock::now();
        bool to_send = false;
        bool taken = false;
        entry_list gone;
        {
            std::lock_guard lock(this->mutex_);
            forget_old(now, gone);
            taken = takes_tasks_;
            if (taken) {
                one->status.id.value = last_id_ + 1;
                one->context = task_context(one->status.id, one->progress);
                one->status.queued_at = now;
                enter(one, may_have_to_wait, now);
                ++last_id_;
            }
            to_send = !unsent_.empty();
        }
        if (!taken) refuse();
        if (may_have_to_wait) start_queued();
        else run(*one);
        if (to_send) send_events();
        return one->status.id;
    }

    std::optional<status_type> status(task_id id) {
        entry_list gone;
        std::lock_guard lock(this->mutex_);
        auto const one = remembered(id, gone);
        if (!one) return std::nullopt;
        return status_of(*one);
    }

    std::vector<status_type> list() {
        std::vector<status_type> all;
        entry_list gone;
        {
            std::lock_guard lock(this->mutex_);
            forget_old(Clock::now(), gone);
            all.reserve(entries_.size());
            for (auto const& [id, one] : entries_) all.push_back(status_of(*one));
        }
        std::ranges::sort(all, {}, &status_type::id);
        return all;
    }

    result_pointer result(task_id id) {
        entry_list gone;
        std::lock_guard lock(this->mutex_);
        auto const one = remembered(id, gone);
        return one ? one->result : result_pointer();
    }

    std::size_t live() const noexcept {
        std::lock_guard lock(this->mutex_);
        return running_.size() + queued_.size();
    }

    bool cancel_task(task_id id) {
        entry_list gone;
        entry_pointer one;
        {
            std::lock_guard lock(this->mutex_);
            entry* const found = remembered(id, gone);
            if (!found || has_ended(found->status.state)) return false;
            one = found->self();
        }
        cancel(one);
        return true;
    }

    /// Returns what kept it from telling a task: that one runs on.
    std::exception_ptr cancel_all() noexcept {
        std::uint64_t round = 0, last = 0;
        {
            std::lock_guard lock(this->mutex_);
            round = ++cancel_rounds_;
            last = last_id_;
        }
        std::exception_ptr failure;
        while (auto const one = next_to_cancel(round, last)) {
            try {
                cancel(one);
            } catch (...) {
                failure = std::current_exception();
            }
        }
        return failure;
    }

    void take_no_more() noexcept {
        std::lock_guard lock(this->mutex_);
        takes_tasks_ = false;
    }

    events subscribe(std::size_t capacity) {
        events channel(this->executor(), channel_options<task_event>()
                                             .capacity(std::max<std::size_t>(1, capacity))
                                             .mode(channel_mode::drop_oldest));
        std::lock_guard lock(this->mutex_);
        subscribers_.push_back(channel_access::state_of(channel));
        return channel;
    }

    template <class Handler>
    void start(wait_for_task, Handler&& handler, task_id id) {
        using op_type = wait_op<result_waiter_type, std::decay_t<Handler>, asio::any_io_executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        error_code ec;
        std::exception_ptr failure;
        result_pointer result;
        entry_list gone;
        {
            std::lock_guard lock(this->mutex_);
            auto const one = remembered(id, gone);
            if (this->closed_) {
                ec = error::closed;
            } else if (!one) {
                ec = error::not_found;
            } else if (!has_ended(one->status.state)) {
                this->park(one->waiters, op, room::no_deadline, cancel);
            } else {
                failure = failure_of_wait(*one);
                result = one->result;
            }
        }
        if (!op) return;
        if (ec) op.release()->abort(ec);
        else op.release()->complete(std::move(failure), std::move(result));
    }

    template <class Handler>
    void start(wait_for_all_tasks, Handler&& handler) {
        using op_type = wait_op<end_waiter_type, std::decay_t<Handler>, asio::any_io_executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        error_code ec;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) ec = error::closed;
            else if (!running_.empty() || !queued_.empty()) {
                this->park(end_waiters_, op, room::no_deadline, cancel);
            }
        }
        if (op && ec) op.release()->abort(ec);
        else if (op) op.release()->complete({});
    }

private:
    std::shared_ptr<background_tasks_state> self() {
        return std::static_pointer_cast<background_tasks_state>(this->shared_from_this());
    }

    static constexpr std::size_t unlimited = std::size_t{1} << 32;

    // Puts a task into the table, and into the queue or among those that run. Called under the
    // lock.
    void enter(entry_pointer const& one, bool into_queue, time_point now) {
        entries_.emplace(one->status.id, one);
        note(one->status.id, task_state::queued);
        if (!into_queue) note(one->status.id, task_state::running);
        if (into_queue) {
            queued_.push_back(one);
        } else {
            running_.push_back(one);
            one->status.state = task_state::running;
            one->status.started_at = now;
        }
    }

    [[noreturn]] void refuse() {
        this->trace_.emit(trace_event::rejected, 1, error::closed);
        throw boost::system::system_error(error::closed);
    }

    void run(entry& one) {
        if (this->trace_.is_heard()) [[unlikely]]
            tell_start(one);
        try {
            one.run(*this);
        } catch (...) {
            end(one, task_state::failed, std::current_exception(), nullptr);
        }
    }

    // Null if it is not known, or too old by now. Called under the lock; for `gone` see forget_old.
    entry* remembered(task_id id, entry_list& gone) {
        if (!history_.empty()) forget_old(Clock::now(), gone);
        auto const found = entries_.find(id);
        return found == entries_.end() ? nullptr : found->second.get();
    }

    bool is_too_old(entry const& one, time_point now) const {
        return now - *one.status.ended_at > settings_.history_age();
    }

    static status_type status_of(entry const& one) {
        status_type status = one.status;
        status.progress = one.progress.done.load(std::memory_order_relaxed);
        status.progress_of = one.progress.of.load(std::memory_order_relaxed);
        return status;
    }

    static std::exception_ptr failure_of_wait(entry const& one) {
        if (one.status.state != task_state::cancelled) return one.status.failure;
        return to_failure<std::exception_ptr>(asio::error::operation_aborted);
    }

    // Starts queued tasks while there is room for them to run.
    void start_queued() {
        while (entry_pointer const next = next_to_run()) run(*next);
    }

    entry_pointer next_to_run() {
        std::lock_guard lock(this->mutex_);
        if (this->closed_ || queued_.empty() || running_.size() >= settings_.max_running()) {
            return nullptr;
        }
        entry_pointer const next = queued_.take(queued_.front());
        running_.push_back(next);
        next->status.state = task_state::running;
        next->status.started_at = Clock::now();
        note(next->status.id, task_state::running);
        return next;
    }

    template <class MakeResult>
    void task_ended(entry& one, std::exception_ptr thrown, MakeResult const& make_result) {
        result_pointer result;
        try {
            if (!thrown) result = make_result();
        } catch (...) {
            thrown = std::current_exception();
        }
        if (!thrown) return end(one, task_state::done, nullptr, std::move(result));
        bool asked = false;
        {
            std::lock_guard lock(this->mutex_);
            asked = one.cancelled;
        }
        bool const cancelled = asked && is_cancellation(thrown);
        end(one, cancelled ? task_state::cancelled : task_state::failed,
            cancelled ? nullptr : std::move(thrown), nullptr);
    }

    static bool is_cancellation(std::exception_ptr const& thrown) noexcept {
        try {
            std::rethrow_exception(thrown);
        } catch (boost::system::system_error const& e) {
            return e.code() == asio::error::operation_aborted;
        } catch (...) { // some other failure
            return false;
        }
    }

    // One at a time, since a copy of the lists would need memory: first those that are queued, up
    // to `last`, then those that run, of which whose turn it was goes behind the others. The
    // context may be gone, and the tasks with it.
    entry_pointer next_to_cancel(std::uint64_t round, std::uint64_t last) noexcept {
        std::lock_guard lock(this->mutex_);
        if (this->closed_) return nullptr;
        if (!queued_.empty() && queued_.front().status.id.value <= last) {
            return queued_.front().self();
        }
        if (running_.empty() || running_.front().cancelled_in >= round) return nullptr;
        entry_pointer one = running_.take(running_.front());
        one->cancelled_in = round;
        running_.push_back(one);
        return one;
    }

    void cancel(entry_pointer const& one) {
        bool was_queued = false;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_ || has_ended(one->status.state)) return;
            one->cancelled = true;
            was_queued = one->status.state == task_state::queued;
            if (was_queued) { // so that nobody starts it
                running_.push_back(queued_.take(*one));
                one->status.state = task_state::cancelled;
            }
        }
        if (was_queued) end(*one, task_state::cancelled, nullptr, nullptr);
        else one->side_task::cancel();
    }

    static std::chrono::nanoseconds in_ns(typename Clock::duration d) noexcept {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(d);
    }
    // It runs, so that nobody changes its times.
    void tell_start(entry const& one) noexcept {
        this->trace_.emit(trace_event::job_started, 1, {},
                          in_ns(*one.status.started_at - one.status.queued_at));
    }
    // It has ended.
    void tell_end(entry const& one) noexcept {
        auto const& s = one.status;
        error_code const why = s.state == task_state::cancelled
                                   ? error_code(asio::error::operation_aborted)
                                   : code_of(s.failure);
        this->trace_.emit(trace_event::job_finished, 1, why,
                          s.started_at ? in_ns(*s.ended_at - *s.started_at)
                                       : std::chrono::nanoseconds(0));
    }

    void end(entry& one, task_state how, std::exception_ptr failure, result_pointer result) {
        waiter_list waiters, all_ended;
        entry_list gone;
        bool others_wait = false, to_send = false;
        one.forget_callable(); // what it holds is the user's
        auto const now = Clock::now();
        {
            std::lock_guard lock(this->mutex_);
            one.status.state = how;
            one.status.failure = failure;
            one.status.ended_at = now;
            one.result = result;
            if (!this->closed_) history_.push_back(running_.take(one));
            unpark_all(one.waiters, waiters);
            if (running_.empty() && queued_.empty()) unpark_all(end_waiters_, all_ended);
            note(one.status.id, how);
            forget_old(now, gone);
            others_wait = !queued_.empty();
            to_send = !unsent_.empty();
        }
        if (this->trace_.is_heard()) [[unlikely]]
            tell_end(one);
        if (!waiters.empty()) {
            std::exception_ptr const told = failure_of_wait(one); // nobody changes it any more
            while (auto* const w = static_cast<result_waiter_type*>(waiters.pop_front())) {
                w->complete(told, result);
            }
        }
        while (auto* const w = static_cast<end_waiter_type*>(all_ended.pop_front())) {
            w->complete({});
        }
        if (others_wait) start_queued();
        if (to_send) send_events();
    }

    void unpark_all(waiter_list& from, waiter_list& to) noexcept {
        while (waiter* const w = from.front()) {
            this->unpark(*w);
            to.push_back(*w);
        }
    }

    // Moves what is too old to `gone`, which is to go after the lock: results are the user's.
    // Called under the lock.
    void forget_old(time_point now, entry_list& gone) {
        while (!history_.empty() &&
               (history_.size() > settings_.history() || is_too_old(history_.front(), now))) {
            entries_.erase(history_.front().status.id);
            gone.push_back(history_.take(history_.front()));
        }
    }

    // Events --------------------------------------------------------------------------------------

    // Called under the lock. An event that there is no memory for is lost, the change is not.
    void note(task_id id, task_state now) noexcept {
        if (subscribers_.empty()) return;
        try {
            unsent_.push_back({id, now});
        } catch (std::bad_alloc const&) {
            return;
        }
    }

    // One thread at a time sends, in order and without the lock; the others leave theirs to it.
    void send_events() noexcept {
        std::unique_lock lock(this->mutex_);
        if (sending_) return;
        sending_ = true;
        while (!unsent_.empty()) {
            task_event const event = unsent_.front();
            unsent_.pop_front();
            std::erase_if(subscribers_, [](auto const& s) { return s.expired(); });
            send(event, lock);
            if (!lock.owns_lock()) lock.lock();
        }
        sending_ = false;
    }

    void send(task_event const& event, std::unique_lock<std::mutex>& lock) noexcept {
        try {
            auto const to = subscribers_;
            lock.unlock();
            for (auto const& channel : to) {
                if (auto const kept = channel.lock()) kept->try_send(task_event(event));
            }
        } catch (std::bad_alloc const&) {
            return; // lost, as it is for those that lag
        }
    }

    void take_all(waiter_list& all) noexcept override {
        all.append(end_waiters_);
        for (auto const& [id, one] : entries_) all.append(one->waiters);
    }

    // Strands must not outlive their context.
    void shutdown() noexcept override {
        room::shutdown();
        decltype(entries_) gone;
        entry_list all;
        std::lock_guard lock(this->mutex_);
        gone.swap(entries_);
        queued_.move_all_to(all);
        running_.move_all_to(all);
        history_.move_all_to(all);
    }

    serial_executors const executors_;
    background_tasks_options const settings_;
    bool takes_tasks_ = true;
    std::uint64_t last_id_ = 0;
    std::uint64_t cancel_rounds_ = 0;
    boost::unordered_flat_map<task_id, entry_pointer, std::hash<task_id>> entries_;
    entry_list queued_;  // first in, first out
    entry_list running_; // and those that are just about to have ended
    entry_list history_; // in the order in which they ended
    waiter_list end_waiters_;
    std::vector<std::weak_ptr<events_state>> subscribers_;
    std::deque<task_event> unsent_;
    bool sending_ = false;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
