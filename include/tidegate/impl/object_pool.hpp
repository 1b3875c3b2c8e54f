// SPDX-License-Identifier: BSL-1.0
// The state of an object pool.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/detail/attempt.hpp>
#include <tidegate/detail/side_crew.hpp>
#include <tidegate/detail/spare_slot.hpp>
#include <tidegate/object_pool.hpp>

#include <algorithm>
#include <atomic>
#include <functional>
#include <iterator>
#include <stdexcept>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct acquire_object {};

template <class Lease>
class lease_waiter : public waiter_of<void(error_code, Lease)> {
protected:
    using waiter_of<void(error_code, Lease)>::waiter_of;
};

/// Objects that nobody has are in `idle_`, but for the one that came back last, which is in the
/// slot beside the lock. Whoever looks into `idle_` for one shuts that first, so that all are
/// there, and it stays shut while somebody waits. A lease does not own this: it lives as long as
/// its pool, and then as long as it has objects out.
template <class T, class Clock, class Executor, class Mutex>
class object_pool_state final : public waiting_room<Clock, Executor, Mutex> {
    using room = waiting_room<Clock, Executor, Mutex>;
    using lease = basic_lease<T, Clock, Executor, Mutex>;
    using waiter_type = lease_waiter<lease>;

public:
    using time_point = typename room::time_point;
    using object_ptr = std::unique_ptr<T>;

    template <class Factory>
    static std::shared_ptr<object_pool_state>
    make(Executor const& executor, object_pool_options<T> options, Factory& factory) {
        check<Factory>(options);
        auto state = std::make_shared<object_pool_state>(executor, std::move(options), factory);
        std::size_t const first = state->options_.min_size();
        if (state->makes_later()) {
            state->enroll();
            state->made_ = state->making_ = first;
            state->begin_making(first);
            return state;
        }
        while (state->made_ < first) {
            state->idle_.push_back({state->make_(), Clock::now()});
            ++state->made_;
        }
        state->enroll();
        return state;
    }

    template <class Factory>
    object_pool_state(Executor const& executor, object_pool_options<T>&& options, Factory& factory)
        : room(executor),
          options_(std::move(options)),
          spare_(!trims()),
          crew_(boost::asio::any_io_executor(executor)) {
        idle_.reserve(options_.max_size());
        auto make = std::make_shared<Factory>(std::move(factory));
        if constexpr (returns_awaitable<Factory>) {
            make_later_ = [make = std::move(make)] { return detail::make_later<T>(make); };
            make_by_coroutines_ = &object_pool_state::make_by_coroutines;
        } else {
            make_ = [make = std::move(make)]() -> object_ptr {
                object_ptr made = (*make)();
                if (!made)
                    throw std::logic_error("tidegate: the factory of an object_pool returned null");
                return made;
            };
        }
    }

    /// When an operation ends that says nothing about it.
    time_point usual_deadline() const {
        auto const limit = options_.wait_timeout();
        return limit ? deadline_in<Clock>(in_clock(*limit)) : room::no_deadline;
    }

    lease try_acquire() {
        lease taken = try_before_waiting();
        if (!taken && this->trace_.is_heard()) [[unlikely]] {
            this->trace_.emit(trace_event::rejected, 1,
                              this->is_closed() ? error_code(error::closed)
                                                : error_code(asio::error::would_block));
        }
        return taken;
    }

    /// For those who wait if there is none: it is no refusal.
    lease try_before_waiting() {
        lease taken(*this, spare_.take());
        if (!taken && take_or_reserve(taken)) {
            place_guard place(*this);
            taken = lease(*this, make_());
            place.filled = true;
            this->trace_.emit(trace_event::created);
        }
        if (taken) this->trace_.emit(trace_event::acquired);
        return taken;
    }

    void give_back(object_ptr object) noexcept {
        if (options_.recycle_later()) return (this->*recycle_by_coroutine_)(std::move(object));
        bool const fit = is_fit(*object);
        if (fit && spare_.put(object)) return; // and whoever has it may end this
        auto const kept = self();
        if (!fit) {
            destroy(std::move(object));
            free_place();
            return;
        }
        lend_or_keep(std::move(object));
    }

    template <class Handler>
    void start(acquire_object, Handler&& handler, time_point deadline) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        auto* const cancel = this->connect(*op);
        lease taken;
        bool may_make = false;
        std::size_t to_make = 0;
        // Who has been parked, or made one for, may end the pool.
        auto const kept = self();
        {
            std::lock_guard lock(this->mutex_);
            shut_spare();
            may_make = take_or_reserve_under_lock(taken);
            if (!taken && !may_make && !this->closed_) {
                this->park(waiting_, op, deadline, cancel);
                to_make = reserve_places();
            }
            open_spare();
        }
        if (!op) return begin_making(to_make);
        if (may_make) return make_for(*op.release());
        if (taken) {
            this->trace_.emit(trace_event::acquired);
            op.release()->complete({}, std::move(taken));
        } else {
            this->trace_.emit(trace_event::rejected, 1, error::closed);
            op.release()->abort(error::closed);
        }
    }

    void close() noexcept {
        room::close();
        idle_objects idle; // destroyed after the lock
        std::unique_lock lock(this->mutex_);
        idle.swap(idle_);
        forget_objects(idle.size());
        lock.unlock();
        tell_destroyed(idle.size());
        static_cast<after_handler&>(*this).handler_finished(); // nobody needs the timer any more
        crew_.cancel_all();
    }

    /// The pool object goes.
    void abandon() noexcept {
        close();
        std::lock_guard lock(this->mutex_);
        if (any_lent()) kept_by_leases_ = self();
    }

    void shutdown() noexcept override {
        room::shutdown();
        crew_.shutdown();
    }

    std::size_t size() const noexcept {
        std::lock_guard lock(this->mutex_);
        return made_;
    }
    std::size_t idle() const noexcept {
        std::lock_guard lock(this->mutex_);
        return idle_.size() + (spare_.holds() ? 1 : 0);
    }
    std::size_t waiting() const noexcept {
        std::lock_guard lock(this->mutex_);
        return waiting_.size();
    }

private:
    template <class Factory>
    static void check(object_pool_options<T> const& options) {
        if (options.max_size() == 0)
            throw std::invalid_argument("tidegate: object_pool needs max_size");
        check_option<std::size_t>("object_pool min_size", options.min_size(), 0,
                                  options.max_size());
        if (options.create_timeout() && !returns_awaitable<Factory>) {
            throw std::invalid_argument(
                "tidegate: object_pool create_timeout needs a factory that returns an awaitable");
        }
        if (options.recycle_timeout() && !options.recycle_later()) {
            throw std::invalid_argument(
                "tidegate: object_pool recycle_timeout needs a recycle that returns an awaitable");
        }
    }

    static typename Clock::duration in_clock(std::chrono::nanoseconds time) {
        return std::chrono::duration_cast<typename Clock::duration>(time);
    }

    std::shared_ptr<object_pool_state> self() {
        return std::static_pointer_cast<object_pool_state>(this->shared_from_this());
    }

    struct idle_object {
        object_ptr object;
        time_point since;
    };
    using idle_objects = std::vector<idle_object>;

    // An object for `taken`, or else the place for one, in which case this is true.
    bool take_or_reserve(lease& taken) noexcept {
        std::lock_guard lock(this->mutex_);
        shut_spare();
        bool const reserved = take_or_reserve_under_lock(taken);
        open_spare();
        return reserved;
    }
    bool take_or_reserve_under_lock(lease& taken) noexcept {
        taken = take_under_lock();
        return !taken && !makes_later() && reserve_place();
    }

    // Objects are idle only while nobody waits.
    lease take_under_lock() noexcept {
        if (idle_.empty() || this->closed_) return {};
        lease taken(*this, std::move(idle_.back().object));
        idle_.pop_back();
        settle_alarm();
        return taken;
    }

    void lend_or_keep(object_ptr object, bool fresh = false) noexcept {
        std::unique_lock lock(this->mutex_);
        if (fresh) --making_;
        if (this->closed_) {
            forget_objects(1);
            lock.unlock();
            destroy(std::move(object));
            return;
        }
        auto* const first = static_cast<waiter_type*>(waiting_.front());
        if (!first) return keep(std::move(object));
        this->unpark(*first);
        lock.unlock();
        this->tell_of(*first, trace_event::acquired);
        first->complete({}, lease(*this, std::move(object)));
    }

    // Within the reserved size.
    void keep(object_ptr object) noexcept {
        shut_spare();
        if (!trims()) return spare_.open(std::move(object));
        idle_.push_back({std::move(object), Clock::now()});
        settle_alarm();
    }

    // Those two under the lock.
    void shut_spare() noexcept {
        if (object_ptr spare = spare_.shut()) idle_.push_back({std::move(spare), time_point()});
    }
    void open_spare() noexcept {
        if (waiting_.empty() && !this->closed_ && !trims()) spare_.open();
    }

    // Those three under the lock, and the last two by somebody who keeps this alive.
    bool any_lent() const noexcept { return made_ > making_ + recycling_ + trimming_; }
    void forget_objects(std::size_t n) noexcept {
        made_ -= n;
        let_go_if_none_is_lent();
    }
    void let_go_if_none_is_lent() noexcept {
        if (!any_lent()) kept_by_leases_.reset();
    }

    // Making --------------------------------------------------------------------------------------

    bool reserve_place() noexcept {
        if (this->closed_ || made_ == options_.max_size()) return false;
        ++made_;
        return true;
    }

    // Somebody has a place: makes him an object for it; if that fails, the next one has the place.
    void make_for(waiter_type& w) noexcept {
        waiter_type* next = &w;
        while (next) {
            try {
                lease made(*this, make_());
                this->trace_.emit(trace_event::created);
                this->tell_of(*next, trace_event::acquired);
                next->complete({}, std::move(made));
                return;
            } catch (...) {
                error_code const why = code_of(std::current_exception());
                this->tell_of(*next, trace_event::rejected, why);
                next->abort(why);
            }
            next = pass_place_on();
        }
    }

    void free_place() noexcept {
        if (makes_later()) return begin_making(free_place_later());
        if (auto* const next = pass_place_on()) make_for(*next);
    }

    // The next one in line, who has the place now; without one it is free.
    waiter_type* pass_place_on() noexcept {
        std::lock_guard lock(this->mutex_);
        auto* const first = static_cast<waiter_type*>(waiting_.front());
        if (first) this->unpark(*first);
        else forget_objects(1);
        return first;
    }

    struct place_guard {
        explicit place_guard(object_pool_state& p) noexcept : pool(p) {}
        place_guard(place_guard const&) = delete;
        place_guard& operator=(place_guard const&) = delete;
        ~place_guard() {
            if (!filled) pool.free_place();
        }
        object_pool_state& pool;
        bool filled = false;
    };

    error_code code_of(std::exception_ptr thrown) noexcept {
        if (options_.on_exception()) options_.on_exception()(thrown);
        error_code const code = failure(std::move(thrown)).code();
        return code ? code : make_error_code(error::exception_thrown);
    }

    // Making by coroutines ------------------------------------------------------------------------

    bool makes_later() const noexcept { return make_by_coroutines_ != nullptr; }

    // How many objects to begin to make, in places that are theirs now: one for each who waits.
    // Under the lock.
    std::size_t reserve_places() noexcept {
        if (!makes_later() || this->closed_) return 0;
        std::size_t const unserved = waiting_.size() - std::min(waiting_.size(), making_);
        std::size_t const n = std::min(unserved, options_.max_size() - made_);
        made_ += n;
        making_ += n;
        return n;
    }

    std::size_t free_place_later() noexcept {
        std::lock_guard lock(this->mutex_);
        forget_objects(1);
        return reserve_places();
    }

    void begin_making(std::size_t n) noexcept {
        if (n > 0) (this->*make_by_coroutines_)(n);
    }

    void make_by_coroutines(std::size_t n) noexcept {
        for (; n > 0; --n) {
            try {
                crew_.start(make_in_time(self()),
                            [pool = self()](std::exception_ptr failed, object_ptr made) noexcept {
                                pool->begin_making(pool->made_one(failed, std::move(made)));
                            });
            } catch (...) {
                n += made_one(std::current_exception(), nullptr);
            }
        }
    }

    static boost::asio::awaitable<object_ptr>
    make_in_time(std::shared_ptr<object_pool_state> pool) {
        outcome<object_ptr> made;
        co_await attempt_within<boost::asio::any_io_executor, Clock>(
            pool->options_.create_timeout().value_or(std::chrono::seconds(10)), pool->make_later_,
            made);
        co_return std::move(made).get();
    }

    // Returns how many to make now.
    std::size_t made_one(std::exception_ptr const& failed, object_ptr made) noexcept {
        if (!failed) {
            this->trace_.emit(trace_event::created);
            lend_or_keep(std::move(made), true);
            return 0;
        }
        error_code const why = this->is_closed() ? error_code(error::closed) : code_of(failed);
        waiter* first = nullptr;
        std::size_t to_make = 0;
        {
            std::lock_guard lock(this->mutex_);
            --making_;
            forget_objects(1);
            first = waiting_.front();
            if (first) this->unpark(*first);
            to_make = reserve_places();
        }
        if (first) {
            this->tell_of(*first, trace_event::rejected, why);
            first->abort(why);
        }
        return to_make;
    }

    // Recycling by coroutines ---------------------------------------------------------------------

    void recycle_by_coroutine(object_ptr object) noexcept {
        auto const kept = self();
        if (this->is_closed()) return lend_or_keep(std::move(object)); // which destroys it
        note_recycling();
        try {
            crew_.start(recycle_in_time(kept, std::move(object)),
                        [pool = kept](std::exception_ptr, object_ptr fit) noexcept {
                            pool->recycled(std::move(fit));
                        });
        } catch (...) { // and the object is destroyed
            recycled(nullptr);
        }
    }

    void note_recycling() noexcept {
        std::lock_guard lock(this->mutex_);
        ++recycling_;
        let_go_if_none_is_lent();
    }

    struct one_recycling {
        std::function<boost::asio::awaitable<bool>(T&)> const& how;
        T& object;
        boost::asio::awaitable<bool> operator()() const { // a coroutine: what `how` throws counts
            auto recycling = how(object);
            co_return co_await std::move(recycling);
        }
    };

    // Null if it is not fit.
    static boost::asio::awaitable<object_ptr>
    recycle_in_time(std::shared_ptr<object_pool_state> pool, object_ptr object) {
        one_recycling recycling{pool->options_.recycle_later(), *object};
        outcome<bool> fit;
        co_await attempt_within<boost::asio::any_io_executor, Clock>(
            pool->options_.recycle_timeout().value_or(std::chrono::seconds(1)), recycling, fit);
        if (!fit && pool->options_.on_exception() && !pool->is_closed())
            pool->options_.on_exception()(to_exception(fit.why()));
        if (!fit || !fit.value()) object.reset();
        co_return std::move(object);
    }
    static std::exception_ptr to_exception(failure const& why) {
        return why.exception() ? why.exception() : to_failure<std::exception_ptr>(why.code());
    }

    void recycled(object_ptr fit) noexcept {
        {
            std::lock_guard lock(this->mutex_);
            --recycling_;
        }
        if (fit) return lend_or_keep(std::move(fit));
        tell_destroyed(1);
        free_place();
    }

    void destroy(object_ptr object) noexcept {
        object.reset(); // with no lock held: its destructor is the user's
        tell_destroyed(1);
    }
    void tell_destroyed(std::size_t objects) noexcept {
        if (objects > 0) this->trace_.emit(trace_event::destroyed, objects);
    }

    bool is_fit(T& object) noexcept {
        if (!options_.recycle()) return true;
        if (ended_.load(std::memory_order_relaxed)) return false;
        try {
            return options_.recycle()(object);
        } catch (...) {
            if (options_.on_exception()) options_.on_exception()(std::current_exception());
            return false;
        }
    }

    // Trimming ------------------------------------------------------------------------------------

    bool trims() const noexcept { return options_.max_idle_time().has_value(); }

    // Those that came back first are in front.
    void settle_alarm() noexcept {
        if (!trims()) return;
        bool const any =
            !idle_.empty() && made_ - trimming_ > options_.min_size() && !this->closed_;
        this->set_alarm(any ? idle_.front().since + max_idle() : room::no_deadline);
    }
    typename Clock::duration max_idle() const noexcept {
        return in_clock(*options_.max_idle_time());
    }

    void on_alarm(time_point now, waiter_list&) noexcept override {
        std::size_t const staying = made_ - trimming_;
        std::size_t old = 0;
        while (old < idle_.size() && staying - old > options_.min_size() &&
               idle_[old].since + max_idle() <= now) {
            ++old;
        }
        auto const end = idle_.begin() + static_cast<std::ptrdiff_t>(old);
        std::move(idle_.begin(), end, std::back_inserter(trimmed_));
        idle_.erase(idle_.begin(), end);
        trimming_ += old;
        settle_alarm();
    }

    // The place of an object is free once that is destroyed.
    void complete(waiter_list&) noexcept override {
        idle_objects trimmed; // destroyed after the lock
        {
            std::lock_guard lock(this->mutex_);
            trimmed.swap(trimmed_);
        }
        for (idle_object& one : trimmed) {
            destroy(std::move(one.object));
            {
                std::lock_guard lock(this->mutex_);
                --trimming_;
            }
            free_place();
        }
    }

    void on_close() noexcept override {
        ended_ = true;
        shut_spare();
        this->set_alarm(room::no_deadline);
    }

    void take_all(waiter_list& all) noexcept override { all.append(waiting_); }

    object_pool_options<T> const options_;
    spare_slot<T, Mutex> spare_;
    std::atomic<bool> ended_{false}; // as closed_, without the lock
    std::function<object_ptr()> make_;
    std::function<boost::asio::awaitable<object_ptr>()> make_later_; // one of the two
    // By way of pointers, so that what needs no coroutines compiles none, and the others where the
    // pool is made: not deep in a header, where g++ warns of types in unnamed namespaces.
    void (object_pool_state::*make_by_coroutines_)(std::size_t) = nullptr;
    void (object_pool_state::*recycle_by_coroutine_)(object_ptr) =
        &object_pool_state::recycle_by_coroutine;
    std::size_t made_ = 0;   // or being made
    std::size_t making_ = 0; // of those, by coroutines
    std::size_t recycling_ = 0;
    std::size_t trimming_ = 0; // on their way out
    std::shared_ptr<object_pool_state> kept_by_leases_;
    idle_objects idle_;
    idle_objects trimmed_;
    waiter_list waiting_;
    side_crew crew_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
