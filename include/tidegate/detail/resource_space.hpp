// SPDX-License-Identifier: BSL-1.0
// The room of a resource budget: who has how much of it, who is idle, who waits for some.
#pragma once

#include <tidegate/detail/waiting_room.hpp>
#include <tidegate/unload_order.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ranges>
#include <unordered_map>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct set_aside {};

template <std::size_t kinds>
class room_waiter : public waiter_of<void(error_code, bool)> {
public:
    std::array<std::uint64_t, kinds> wanted{};

protected:
    using waiter_of<void(error_code, bool)>::waiter_of;
};

/// Everything that takes room is an `item`. One that is resident may be looked up; it is idle, in
/// the list of those, while it has no lease. Room comes back only after the thing was destroyed.
template <class Key, class T, std::size_t kinds, class Hash, class Equal, class Clock,
          class Executor>
class resource_space final : public waiting_room<Clock, Executor, std::mutex> {
    using room = waiting_room<Clock, Executor, std::mutex>;
    using waiter_type = room_waiter<kinds>;

public:
    using size = std::array<std::uint64_t, kinds>;
    using time_point = typename Clock::time_point;

    struct item;
    struct spot {
        item* of;
        std::shared_ptr<item> kept = nullptr; // by this, once it is given up
    };
    using line = std::list<spot>;

    struct item : std::enable_shared_from_this<item> {
        item() = default;
        item(item const&) = delete;
        item& operator=(item const&) = delete;

        Key key;
        size takes{};
        std::shared_ptr<T> value;
        std::uint64_t load = 0; // its number
        std::size_t leases = 0;
        bool resident = true; // may be looked up
        bool pinned = false;
        trace_event gone_as = trace_event::removed; // once it is not resident
        double missed_by_a_use = 0;                 // load time, by the share of the budget
        double uses = 0;
        double worth = 0;              // since it was used last
        time_point idle_since{};       // where idle things have a time to live
        std::uint64_t idle_number = 0; // grows
        bool idle = false;
        // Its place in a line, while it is in none, so that becoming idle and going take no memory.
        line out_of_line{spot{this}};
        typename line::iterator const place = out_of_line.begin();
    };

    resource_space(Executor const& executor, size limit, std::size_t max_waiting,
                   std::optional<typename Clock::duration> time_to_idle, unload_order order,
                   boost::asio::any_io_executor unload_on)
        : room(executor),
          limit_(limit),
          max_waiting_(max_waiting),
          time_to_idle_(time_to_idle),
          order_(order),
          unload_on_(std::move(unload_on)) {}

    using room::enroll;

    bool can_ever_hold(size const& wanted) const noexcept { return fits(wanted, size{}); }

    /// Waits until `wanted` is set aside.
    template <class Handler>
    void start(set_aside, Handler&& handler, size wanted, time_point deadline) {
        using op_type = wait_op<waiter_type, std::decay_t<Handler>, Executor>;
        auto op = op_type::make(std::forward<Handler>(handler), this->executor());
        op->wanted = wanted;
        auto* const cancel = this->connect(*op);
        line given_up;
        error_code refused;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_) {
                refused = error::closed;
            } else if (!waiting_.empty() || !fits(wanted, used_)) {
                auto const going = waiting_.empty() ? to_evict(wanted, used_) : std::nullopt;
                if (!going && waiting_.size() >= max_waiting_) {
                    refused = error::queue_full;
                } else {
                    this->park(waiting_, op, deadline, cancel);
                    if (going) evict(*going, given_up);
                }
            } else {
                take(wanted);
            }
        }
        if (refused) {
            this->tell_of(*op, trace_event::rejected, refused);
            op.release()->abort(refused);
        } else if (op) {
            op.release()->complete({}, true);
        }
        unload(std::move(given_up));
    }

    /// Gives back what was set aside for something that is not there after all.
    void give_back(size const& takes) noexcept {
        waiter_list ready;
        line given_up;
        {
            std::lock_guard lock(this->mutex_);
            release(takes);
            serve(ready, given_up);
        }
        complete(ready);
        unload(std::move(given_up));
    }

    /// What was set aside becomes `actual`, having made room for it if need be; false if there is
    /// none now, in which case nothing has changed.
    bool correct(size const& before, size const& actual) {
        return try_correct(before, actual) || try_correct(before, actual);
    }

    /// Makes a loaded thing resident, instead of one of an earlier load of its key, and leases it.
    /// What comes later than a later load, or than `close`, is only leased.
    std::shared_ptr<T> settle(Key const& key, size const& takes, std::shared_ptr<T> value,
                              bool pinned, typename Clock::duration load_time, std::uint64_t load) {
        auto fresh = std::make_shared<item>();
        fresh->load = load;
        fresh->key = key;
        fresh->takes = takes;
        fresh->value = std::move(value);
        fresh->pinned = pinned;
        fresh->missed_by_a_use = std::chrono::duration<double>(load_time).count() / share(takes);
        // All that may throw comes before anything that would have to be taken back.
        line given_up;
        auto mine = new_use();
        std::shared_ptr<T> leased;
        {
            std::lock_guard lock(this->mutex_);
            auto const there = items_.find(key);
            bool const is_late = there != items_.end() && there->second->load > load;
            fresh->resident = !is_late && !this->closed_;
            if (fresh->resident) {
                auto& place = items_[key];
                if (place) retire(*place, trace_event::replaced, given_up);
                place = fresh;
            }
            leased = lease(fresh, std::move(mine));
        }
        unload(std::move(given_up));
        return leased;
    }

    std::shared_ptr<T> try_lease(Key const& key) {
        std::lock_guard lock(this->mutex_);
        auto const it = items_.find(key);
        return it == items_.end() ? nullptr : lease(it->second, new_use());
    }

    bool has(Key const& key) const {
        std::lock_guard lock(this->mutex_);
        return items_.find(key) != items_.end();
    }

    /// Not to be looked up any more; unloaded when nobody uses it.
    bool remove(Key const& key) {
        line given_up;
        {
            std::lock_guard lock(this->mutex_);
            auto const it = items_.find(key);
            if (it == items_.end()) return false;
            auto const one = it->second;
            retire(*one, trace_event::removed, given_up);
            items_.erase(it);
        }
        unload(std::move(given_up));
        return true;
    }
    /// The same, if what is resident is that.
    void remove_if_is(Key const& key, T const* value) {
        {
            std::lock_guard lock(this->mutex_);
            auto const it = items_.find(key);
            if (it == items_.end() || it->second->value.get() != value) return;
        }
        remove(key);
    }

    void pin(Key const& key, bool pinned) {
        waiter_list ready;
        line given_up;
        {
            std::lock_guard lock(this->mutex_);
            auto const it = items_.find(key);
            if (it == items_.end()) return;
            it->second->pinned = pinned;
            settle_alarm();
            serve(ready, given_up); // somebody may wait for its room
        }
        complete(ready);
        unload(std::move(given_up));
    }

    void close() noexcept {
        room::close();
        line given_up;
        {
            std::lock_guard lock(this->mutex_);
            for (auto& [key, one] : items_) retire(*one, trace_event::removed, given_up);
            items_.clear();
        }
        static_cast<after_handler&>(*this).handler_finished(); // nobody needs the timer any more
        unload(std::move(given_up));
    }

    template <class Statistics>
    void add_to(Statistics& sum) const {
        std::lock_guard lock(this->mutex_);
        sum.used = used_;
        sum.limit = limit_;
        sum.resident = items_.size();
        for (auto const& [key, one] : items_) sum.leased += one->leases > 0;
        sum.waiting = waiting_.size();
        sum.unloads = unloads_;
    }

private:
    using items = std::vector<item*>;

    static constexpr auto never = room::no_deadline;

    bool fits(size const& wanted, size const& used) const noexcept {
        for (std::size_t k = 0; k < kinds; ++k) {
            if (wanted[k] > limit_[k] || used[k] > limit_[k] - wanted[k]) return false;
        }
        return true;
    }
    void take(size const& wanted) noexcept {
        for (std::size_t k = 0; k < kinds; ++k) used_[k] += wanted[k];
    }
    void release(size const& takes) noexcept { used_ = without(used_, takes); }
    static size without(size all, size const& part) noexcept {
        for (std::size_t k = 0; k < kinds; ++k) all[k] -= part[k];
        return all;
    }

    bool try_correct(size const& before, size const& actual) {
        waiter_list ready;
        line given_up;
        bool done = false;
        {
            std::lock_guard lock(this->mutex_);
            size const others = without(used_, before);
            done = fits(actual, others);
            if (done) {
                used_ = others;
                take(actual);
                serve(ready, given_up);
            } else if (auto const going = to_evict(actual, others)) {
                evict(*going, given_up);
            }
        }
        complete(ready);
        unload(std::move(given_up));
        return done;
    }

    // Of the kind of memory that it takes most of.
    double share(size const& takes) const noexcept {
        double most = 1e-12;
        for (std::size_t k = 0; k < kinds; ++k)
            most = std::max(most, static_cast<double>(takes[k]) / static_cast<double>(limit_[k]));
        return most;
    }

    // What is idle and not pinned, that first which goes first.
    items in_order(size const& wanted, size after) const {
        items all;
        for (auto const& [one, kept] : idle_) {
            if (order_ == unload_order::idle_longest && fits(wanted, after)) break;
            if (one->pinned) continue;
            all.push_back(one);
            after = without(after, one->takes);
        }
        if (order_ == unload_order::least_missed)
            std::ranges::sort(
                all, {}, [](auto const& one) { return std::pair(one->worth, one->idle_number); });
        return all;
    }

    // What of the idle has to go, in order, so that `wanted` will fit where `used` is in use;
    // nothing if it would not. What is being given up already counts as gone.
    std::optional<items> to_evict(size const& wanted, size const& used) const {
        size after = without(used, leaving_);
        items going = fits(wanted, after) ? items() : in_order(wanted, after);
        auto end = going.begin();
        for (; end != going.end() && !fits(wanted, after); ++end)
            after = without(after, (*end)->takes);
        if (!fits(wanted, after)) return std::nullopt;
        going.erase(end, going.end());
        return going;
    }

    void evict(items const& going, line& given_up) noexcept {
        for (item* const one : going) evict(*one, given_up);
    }
    void evict(item& one, line& given_up) noexcept {
        worth_of_the_last_ = std::max(worth_of_the_last_, one.worth);
        retire(one, trace_event::evicted, given_up);
        items_.erase(one.key);
    }

    // Not to be looked up any more; somebody still keeps it.
    void retire(item& one, trace_event how, line& given_up) noexcept {
        one.resident = false;
        one.gone_as = how;
        if (!one.idle) return; // goes with its last lease
        one.place->kept = one.shared_from_this();
        leave_idle(one, given_up);
        for (std::size_t k = 0; k < kinds; ++k) leaving_[k] += one.takes[k];
    }

    void become_idle(item& one) noexcept {
        one.idle = true;
        one.idle_number = ++times_idle_;
        idle_.splice(idle_.end(), one.out_of_line, one.place);
    }

    void leave_idle(item& one, line& to) noexcept {
        if (!std::exchange(one.idle, false)) return;
        to.splice(to.end(), idle_, one.place);
        settle_alarm();
    }

    // The head of the line gets its room, and so on while there is some.
    void serve(waiter_list& ready, line& given_up) noexcept {
        while (auto* const first = static_cast<waiter_type*>(waiting_.front())) {
            if (!fits(first->wanted, used_)) return make_room(first->wanted, given_up);
            take(first->wanted);
            this->unpark(*first);
            ready.push_back(*first);
        }
    }
    void make_room(size const& wanted, line& given_up) noexcept {
        try {
            if (auto const going = to_evict(wanted, used_)) evict(*going, given_up);
        } catch (std::bad_alloc const&) {
            make_some_room(wanted, given_up);
        }
    }
    // Without memory to choose by: one thing, if all that are idle would do. When it is gone the
    // turn of whoever waits comes again.
    void make_some_room(size const& wanted, line& given_up) noexcept {
        size after = without(used_, leaving_);
        if (fits(wanted, after)) return;
        item* first = nullptr;
        for (auto const& [one, kept] : idle_) {
            if (one->pinned) continue;
            if (!first) first = one;
            after = without(after, one->takes);
        }
        if (first && fits(wanted, after)) evict(*first, given_up);
    }

    void complete(waiter_list& ready) noexcept override {
        line given_up;
        {
            std::lock_guard lock(this->mutex_);
            given_up.swap(overdue_);
        }
        while (auto* const w = static_cast<waiter_type*>(ready.pop_front())) w->complete({}, true);
        unload(std::move(given_up));
    }

    void after_departure(waiter_list& ready) noexcept override { serve(ready, overdue_); }

    // Leases ------------------------------------------------------------------------------------

    struct use {
        explicit use(std::shared_ptr<resource_space> s) noexcept : space(std::move(s)) {}
        use(use const&) = delete;
        use& operator=(use const&) = delete;
        ~use() {
            if (of) space->end_use(std::move(of));
        }

        std::shared_ptr<resource_space> const space;
        std::shared_ptr<item> of;
    };

    std::shared_ptr<use> new_use() {
        return std::make_shared<use>(
            std::static_pointer_cast<resource_space>(this->shared_from_this()));
    }

    std::shared_ptr<T> lease(std::shared_ptr<item> const& one, std::shared_ptr<use> mine) noexcept {
        mine->of = one;
        ++one->leases;
        ++one->uses;
        leave_idle(*one, one->out_of_line);
        T* const value = one->value.get();
        return std::shared_ptr<T>(std::move(mine), value);
    }

    void end_use(std::shared_ptr<item> one) noexcept {
        line given_up;
        waiter_list ready;
        {
            std::lock_guard lock(this->mutex_);
            if (--one->leases > 0) return;
            if (time_to_idle_) one->idle_since = Clock::now();
            one->worth = worth_of_the_last_ + one->uses * one->missed_by_a_use;
            become_idle(*one);
            if (!one->resident) retire(*one, one->gone_as, given_up);
            else serve(ready, given_up);
            settle_alarm();
        }
        complete(ready);
        unload(std::move(given_up));
    }

    // Unloading ---------------------------------------------------------------------------------

    // Destroys the things, without the lock, and then gives their room to others.
    void unload(line given_up) noexcept {
        while (!given_up.empty()) {
            auto const one = std::move(given_up.back().kept);
            given_up.pop_back();
            if (!unload_on_) {
                destroy(*one, given_up);
                continue;
            }
            boost::asio::post(unload_on_, [self = this->shared_from_this(), one] {
                line more;
                auto& space = static_cast<resource_space&>(*self);
                space.destroy(*one, more);
                space.unload(std::move(more));
            });
        }
    }

    void destroy(item& one, line& given_up) noexcept {
        this->trace_.emit(one.gone_as);
        one.value.reset();
        waiter_list ready;
        {
            std::lock_guard lock(this->mutex_);
            ++unloads_;
            release(one.takes);
            leaving_ = without(leaving_, one.takes);
            serve(ready, given_up);
        }
        while (auto* const w = static_cast<waiter_type*>(ready.pop_front())) w->complete({}, true);
    }

    // What has been idle for too long -------------------------------------------------------------

    void settle_alarm() noexcept {
        if (!time_to_idle_) return;
        time_point first = never;
        for (auto const& one : idle_) {
            if (one.of->pinned) continue;
            first = one.of->idle_since + *time_to_idle_;
            break;
        }
        this->set_alarm(this->closed_ ? never : first);
    }

    void on_alarm(time_point now, waiter_list& ready) noexcept override {
        for (auto it = idle_.begin(); it != idle_.end();) {
            item* const one = (it++)->of;
            if (one->pinned || one->idle_since + *time_to_idle_ > now) continue;
            retire(*one, trace_event::expired, overdue_);
            items_.erase(one->key);
        }
        settle_alarm();
        static_cast<void>(ready);
    }

    void take_all(waiter_list& all) noexcept override { all.append(waiting_); }

    size const limit_;
    std::size_t const max_waiting_;
    std::optional<typename Clock::duration> const time_to_idle_;
    unload_order const order_;
    boost::asio::any_io_executor const unload_on_;
    size used_{};
    size leaving_{}; // of that, what is being given up
    std::unordered_map<Key, std::shared_ptr<item>, Hash, Equal> items_;
    line idle_;                    // longest first
    double worth_of_the_last_ = 0; // that was given up: what is used from now on is worth more
    waiter_list waiting_;
    line overdue_;
    std::uint64_t times_idle_ = 0;
    std::uint64_t unloads_ = 0;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
