// SPDX-License-Identifier: BSL-1.0
// The state of a resource budget: its room, and the loads that fill it.
#pragma once

#include <tidegate/detail/resource_space.hpp>
#include <tidegate/resource_budget.hpp>

#include <boost/asio/as_tuple.hpp>

#include <atomic>
#include <limits>
#include <unordered_map>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct acquire_resource {};

/// Locks: the flights' before the room's.
template <class Key, class T, std::size_t kinds, class Hash, class Equal, class Clock,
          class Executor>
class resource_budget_state final
    : public flight_room<resource_budget_state<Key, T, kinds, Hash, Equal, Clock, Executor>, Key,
                         std::shared_ptr<T>, std::shared_ptr<T>, Hash, Equal, Clock, Executor> {
    using value = std::shared_ptr<T>;
    using base =
        flight_room<resource_budget_state, Key, value, value, Hash, Equal, Clock, Executor>;
    using typename base::flight_type;
    using space_type = resource_space<Key, T, kinds, Hash, Equal, Clock, Executor>;
    using size = resource_size<kinds>;
    using duration = typename Clock::duration;
    using measure = std::function<size(T const&)>;

public:
    using base::start;

    static std::shared_ptr<resource_budget_state> make(Executor const& executor, size const& limit,
                                                       resource_budget_options const& options) {
        for (std::uint64_t const of : limit) {
            check_option<std::uint64_t>("resource_budget limit", of, 1, std::uint64_t{1} << 62);
        }
        auto state = std::make_shared<resource_budget_state>(executor, limit, options);
        state->enroll();
        state->space_->enroll();
        return state;
    }

    resource_budget_state(Executor const& executor, size const& limit,
                          resource_budget_options const& options)
        : base(executor,
               options.load_on() ? options.load_on() : boost::asio::any_io_executor(executor),
               in_clock(options.max_wait() + options.load_timeout())),
          options_(options),
          space_(std::make_shared<space_type>(executor, limit, options.max_waiting_loads(),
                                              options.time_to_idle()
                                                  ? std::optional(in_clock(*options.time_to_idle()))
                                                  : std::nullopt,
                                              options.unload_first(), options.unload_on())) {}

    void add(Key key, size const& estimate, lazy_loader<T> load, measure how_large) {
        auto how = std::make_shared<recipe>(estimate, std::move(load), std::move(how_large), false);
        std::lock_guard lock(this->mutex_);
        auto& known = recipes_[std::move(key)];
        if (known) how->pinned = known->pinned.load();
        known.swap(how); // the old one goes after the lock
    }

    bool pin(Key const& key, bool pinned) {
        std::shared_ptr<recipe> how;
        {
            std::lock_guard lock(this->mutex_);
            auto const it = recipes_.find(key);
            if (it == recipes_.end()) return false;
            how = it->second;
            how->pinned = pinned;
        }
        space_->pin(key, pinned); // things may be destroyed there
        return true;
    }

    void observe_all(std::shared_ptr<trace_observer> observer, std::string name) {
        this->observe("resource_budget", observer, name);
        space_->observe("resource_budget", std::move(observer), std::move(name));
    }

    value try_acquire(Key const& key) {
        auto leased = hit(key);
        if (!leased) this->trace_.emit(trace_event::missed);
        return leased;
    }
    /// Tells only if it is there.
    value hit(Key const& key) {
        auto leased = space_->try_lease(key);
        if (leased) this->trace_.emit(trace_event::hit);
        return leased;
    }

    template <class Handler>
    void start(acquire_resource, Handler&& handler, Key key) {
        if (this->trace_.is_heard()) [[unlikely]]
            this->trace_.emit(space_->has(key) ? trace_event::hit : trace_event::missed);
        auto load = [self = std::static_pointer_cast<resource_budget_state>(
                         this->shared_from_this())](Key const& k) { return fetch(self, k); };
        base::start(join_flight{}, std::forward<Handler>(handler), std::move(key), std::move(load),
                    typename base::terms{});
    }

    bool unload(Key const& key) {
        this->fence(key);
        {
            std::lock_guard lock(this->mutex_);
            if (auto const it = recipes_.find(key); it != recipes_.end()) {
                it->second->unloaded_after = loads_begun_;
            }
        }
        return space_->remove(key);
    }

    resource_budget_statistics<kinds> statistics() const {
        resource_budget_statistics<kinds> all;
        space_->add_to(all);
        all.loads = loads_.load(std::memory_order_relaxed);
        return all;
    }

    void close() noexcept {
        base::close();
        space_->close();
    }

    // For flight_room.
    using leftovers = value;

    template <class Loaded>
    static value normalised(Loaded&& loaded) {
        return std::forward<Loaded>(loaded);
    }
    void prepare(flight_type const&, value&, leftovers&) noexcept {}
    bool look_again(Key const& key, value& found, std::exception_ptr&) {
        found = space_->try_lease(key);
        return found != nullptr;
    }
    value landed(flight_type& one, bool current, std::exception_ptr const& failure, value* loaded,
                 leftovers& rest) {
        if (failure || !loaded) return nullptr;
        if (!current) space_->remove_if_is(one.key, loaded->get());
        rest = *loaded; // so that a lease that nobody takes ends after the lock
        return *loaded;
    }
    void overdue(flight_type&) noexcept {}
    void after_overdue() noexcept {}
    void after_landing(leftovers& rest) noexcept { rest.reset(); }

private:
    struct recipe {
        recipe(size const& estimate, lazy_loader<T> l, measure m, bool p)
            : takes(estimate), load(std::move(l)), how_large(std::move(m)), pinned(p) {}

        size takes;                       // an estimate, until it has been loaded
        std::uint64_t unloaded_after = 0; // the number of the last load that had begun then
        lazy_loader<T> const load;
        measure const how_large;
        std::atomic<bool> pinned;
    };

    static duration in_clock(std::chrono::nanoseconds time) {
        return std::chrono::duration_cast<duration>(time);
    }

    std::shared_ptr<recipe> recipe_of(Key const& key) const {
        std::lock_guard lock(this->mutex_);
        auto const it = recipes_.find(key);
        if (it == recipes_.end()) throw boost::system::system_error(error::not_found);
        return it->second;
    }

    // Room that is set aside, until it is kept.
    class reservation {
    public:
        reservation(std::shared_ptr<space_type> space, size const& takes) noexcept
            : space_(std::move(space)), takes_(takes) {}
        reservation(reservation const&) = delete;
        reservation& operator=(reservation const&) = delete;
        ~reservation() {
            if (space_) space_->give_back(takes_);
        }

        bool correct(size const& actual) {
            if (actual == takes_) return true;
            if (!space_->correct(takes_, actual)) return false;
            takes_ = actual;
            return true;
        }
        void keep() noexcept { space_.reset(); }

    private:
        std::shared_ptr<space_type> space_;
        size takes_;
    };

    static boost::asio::awaitable<value> fetch(std::shared_ptr<resource_budget_state> self,
                                               Key key) {
        auto const how = self->recipe_of(key);
        std::uint64_t const number = self->begin_load();
        size takes = self->takes_of(*how);
        for (;;) {
            if (!self->space_->can_ever_hold(takes)) {
                throw boost::system::system_error(error::over_budget);
            }
            auto reserving =
                boost::asio::async_initiate<boost::asio::deferred_t const, void(error_code, bool)>(
                    initiation<space_type, set_aside>(*self->space_), boost::asio::deferred, takes,
                    deadline_in<Clock>(in_clock(self->options_.max_wait())));
            co_await std::move(reserving);
            reservation room(self->space_, takes);
            auto const began = Clock::now();
            auto loading = how->load();
            value thing = co_await std::move(loading);
            auto const took = Clock::now() - began;
            self->loads_.fetch_add(1, std::memory_order_relaxed);
            if (self->is_closed()) throw boost::system::system_error(error::closed);
            size const actual = how->how_large ? how->how_large(std::as_const(*thing)) : takes;
            self->learn(*how, actual);
            if (room.correct(actual)) {
                auto leased =
                    self->space_->settle(key, actual, std::move(thing), how->pinned, took, number);
                room.keep();
                // A load may go on when nobody waits for it any more, and nobody sees it land.
                if (self->was_unloaded_since(number, *how))
                    self->space_->remove_if_is(key, leased.get());
                co_return leased;
            }
            takes = actual; // `thing` goes before the room does
        }
    }

    std::uint64_t begin_load() {
        std::lock_guard lock(this->mutex_);
        return ++loads_begun_;
    }
    bool was_unloaded_since(std::uint64_t load, recipe const& how) const {
        std::lock_guard lock(this->mutex_);
        return load <= how.unloaded_after;
    }
    size takes_of(recipe const& how) const {
        std::lock_guard lock(this->mutex_);
        return how.takes;
    }
    void learn(recipe& how, size const& actual) {
        std::lock_guard lock(this->mutex_);
        how.takes = actual;
    }

    resource_budget_options const options_;
    std::shared_ptr<space_type> space_;
    std::unordered_map<Key, std::shared_ptr<recipe>, Hash, Equal> recipes_;
    std::uint64_t loads_begun_ = 0;
    std::atomic<std::uint64_t> loads_{0};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
