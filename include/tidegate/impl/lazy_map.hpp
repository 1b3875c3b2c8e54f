// SPDX-License-Identifier: BSL-1.0
// The state of lazy values.
#pragma once

#include <tidegate/detail/flight_room.hpp>
#include <tidegate/detail/lazy_loader.hpp>
#include <tidegate/lazy_options.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <unordered_map>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

struct get_lazy {};

/// Who wants to know when a load is over.
struct lazy_owner {
    virtual void load_over() noexcept = 0;

protected:
    ~lazy_owner() = default;
};

template <class Key, class T, class Hash, class Equal, class Clock, class Executor>
class lazy_map_state final
    : public flight_room<lazy_map_state<Key, T, Hash, Equal, Clock, Executor>, Key,
                         std::shared_ptr<T>, std::shared_ptr<T>, Hash, Equal, Clock, Executor> {
    using value = std::shared_ptr<T>;
    using base = flight_room<lazy_map_state, Key, value, value, Hash, Equal, Clock, Executor>;
    using typename base::flight_type;
    using time_point = typename Clock::time_point;

public:
    using base::start;

    static std::shared_ptr<lazy_map_state> make(Executor const& executor,
                                                lazy_options const& options) {
        auto state = std::make_shared<lazy_map_state>(executor, options);
        state->enroll();
        return state;
    }

    lazy_map_state(Executor const& executor, lazy_options const& options)
        : base(executor,
               options.load_on() ? options.load_on() : boost::asio::any_io_executor(executor),
               std::chrono::duration_cast<typename Clock::duration>(options.load_timeout())),
          options_(options) {}

    void register_loader(Key key, lazy_loader<T> load) {
        slot old; // goes after the lock
        {
            std::lock_guard lock(this->mutex_);
            auto const it = slots_.try_emplace(std::move(key)).first;
            old = std::exchange(it->second, slot{std::move(load), {}, {}, {}});
            // At once: no load may begin with the old loader after this, or end before it.
            if (auto const one = this->find_flight(it->first)) this->unlist(*one);
        }
        if (old.loaded) this->trace_.emit(trace_event::removed);
    }

    value get_if_ready(Key const& key) const {
        auto found = hit(key);
        if (!found) this->trace_.emit(trace_event::missed);
        return found;
    }

    /// Tells only if it is there.
    value hit(Key const& key) const {
        auto found = find(key);
        if (found) this->trace_.emit(trace_event::hit);
        return found;
    }

    template <class Handler>
    void start(get_lazy, Handler&& handler, Key key, bool anew) {
        if (anew && options_.serve_old_while_reloading()) this->fence(key);
        else if (anew) reset(key);
        else if (this->trace_.is_heard()) [[unlikely]]
            this->trace_.emit(find(key) ? trace_event::hit : trace_event::missed);
        // Which loader is asked only when the load has begun, and `register_loader` can tell it
        // from later ones. The load keeps this alive.
        auto const load = [this](Key const& k) { return loader_of(k)(); };
        typename base::terms how;
        how.kept = options_.keep_loading();
        how.anew = anew;
        base::start(join_flight{}, std::forward<Handler>(handler), std::move(key), load, how);
    }

    void reset(Key const& key) {
        this->fence(key);
        slot gone; // goes after the lock
        {
            std::lock_guard lock(this->mutex_);
            if (auto const it = slots_.find(key); it != slots_.end()) {
                gone.loaded = std::exchange(it->second.loaded, nullptr);
                gone.failure = std::exchange(it->second.failure, nullptr);
            }
        }
        if (gone.loaded) this->trace_.emit(trace_event::removed);
    }

    /// For a lazy value, before anybody else knows of this.
    void set_owner(std::weak_ptr<lazy_owner> owner) noexcept { owner_ = std::move(owner); }
    void take_over(Key const& key, value ready) noexcept {
        slots_.find(key)->second.loaded = std::move(ready);
    }

    /// True, and `ready` is the value, if nothing is loaded and no failure remembered.
    bool is_at_rest(Key const& key, value& ready) const {
        std::lock_guard lock(this->mutex_);
        auto const it = slots_.find(key);
        if (this->in_flight() > 0 || it->second.fails_still()) return false;
        ready = it->second.loaded;
        return true;
    }

    /// Lets go of the value, quietly: somebody else has it now.
    void forget(Key const& key) noexcept {
        value gone; // goes after the lock
        std::lock_guard lock(this->mutex_);
        gone = std::exchange(slots_.find(key)->second.loaded, nullptr);
    }

    std::vector<Key> keys() const {
        std::vector<Key> all;
        std::lock_guard lock(this->mutex_);
        all.reserve(slots_.size());
        for (auto const& [key, s] : slots_) all.push_back(key);
        return all;
    }

    std::size_t loaded() const noexcept {
        std::lock_guard lock(this->mutex_);
        auto const is_loaded = [](auto const& entry) { return entry.second.loaded != nullptr; };
        return static_cast<std::size_t>(std::count_if(slots_.begin(), slots_.end(), is_loaded));
    }

    // For flight_room.
    struct leftovers {
        value old;
        std::exception_ptr forgotten;
    };

    template <class Loaded>
    static value normalised(Loaded&& loaded) {
        return std::forward<Loaded>(loaded);
    }
    void prepare(flight_type const&, value&, leftovers&) noexcept {}
    bool look_again(Key const& key, value& found, std::exception_ptr& failed) {
        auto const it = slots_.find(key);
        if (it == slots_.end()) return false;
        slot const& s = it->second;
        // Both are there when it could not be loaded anew, and the old value is served meanwhile.
        if (s.loaded) found = s.loaded;
        else if (s.fails_still()) failed = s.failure;
        return failed || found;
    }
    value landed(flight_type& one, bool current, std::exception_ptr const& failure, value* loaded,
                 leftovers& rest) {
        if (auto const it = slots_.find(one.key); current && it != slots_.end()) {
            slot& s = it->second;
            if (loaded && !failure) {
                rest.old = std::exchange(s.loaded, *loaded);
                rest.forgotten = std::exchange(s.failure, nullptr);
            } else {
                rest.forgotten = keep_failure(s, failure);
            }
        }
        return loaded && !failure ? *loaded : nullptr;
    }
    void overdue(flight_type& one) noexcept {
        if (auto const it = slots_.find(one.key); one.findable && it != slots_.end())
            one.replaced =
                keep_failure(it->second, to_failure<std::exception_ptr>(error::deadline_exceeded));
    }
    void after_overdue() noexcept {}
    void after_landing(leftovers& rest) noexcept {
        if (rest.old) this->trace_.emit(trace_event::replaced);
        rest = {};
        if (auto const owner = owner_.lock()) owner->load_over();
    }

private:
    struct slot {
        lazy_loader<T> load;
        value loaded;
        std::exception_ptr failure;
        time_point retry_at{};

        bool fails_still() const { return failure && retry_at > Clock::now(); }
    };

    // Returns the one before, which must not go under the lock.
    std::exception_ptr keep_failure(slot& s, std::exception_ptr failure) noexcept {
        if (options_.keep_failure().count() == 0) return nullptr;
        s.retry_at = deadline_in<Clock>(
            std::chrono::duration_cast<typename Clock::duration>(options_.keep_failure()));
        return std::exchange(s.failure, std::move(failure));
    }

    value find(Key const& key) const {
        std::lock_guard lock(this->mutex_);
        auto const it = slots_.find(key);
        return it == slots_.end() ? nullptr : it->second.loaded;
    }

    lazy_loader<T> loader_of(Key const& key) const {
        std::lock_guard lock(this->mutex_);
        auto const it = slots_.find(key);
        if (it != slots_.end()) return it->second.load;
        return []() -> boost::asio::awaitable<value> {
            throw boost::system::system_error(error::not_found);
            co_return nullptr;
        };
    }

    lazy_options const options_;
    std::unordered_map<Key, slot, Hash, Equal> slots_;
    std::weak_ptr<lazy_owner> owner_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
