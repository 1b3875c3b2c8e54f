// SPDX-License-Identifier: BSL-1.0
// Circuit breakers by name: one for each host, and never one for two.
#pragma once

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/core/check_option.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Named circuit breakers, made when they are first asked for.
///
/// Guarantees: the same name gives the same breaker as long as anybody holds it, or it is not
/// closed or recovers carefully (`has_recovered`). At most `max_breakers` are kept. When there is
/// no room, of the others all go that have nothing to remember (`is_as_new`) and the default
/// settings; if there is none, the one that was asked for longest ago goes, with what is in its
/// window. Those with settings of their own, given to `get` or to `reconfigure`, go last: asked for
/// by name alone, they would come back with the defaults.
///
/// Permits and policies refer to a breaker without holding it: keep the pointer for as long as
/// them. `registry.get(name)->try_acquire()` leaves a permit of a breaker that may go any time.
///
/// Thread-safe, apart from construction and destruction. O(log n), and O(n) when there is no room.
template <class Clock = std::chrono::steady_clock>
class basic_circuit_breaker_registry {
public:
    using breaker = basic_circuit_breaker<Clock>;
    using options = circuit_breaker_options;

    /// `defaults` are the settings of breakers that are asked for by name alone; `max_breakers` is
    /// 1 to 10^6.
    explicit basic_circuit_breaker_registry(options defaults = {}, std::size_t max_breakers = 1000)
        : defaults_(std::move(defaults)), max_breakers_(max_breakers) {
        detail::check_option<std::size_t>("circuit_breaker_registry max_breakers", max_breakers, 1,
                                          1'000'000);
    }

    /// The breaker of that name; made with the default settings, or those given, if it is new.
    /// Throws std::length_error when there are too many that are in use.
    std::shared_ptr<breaker> get(std::string_view name) { return get(name, defaults_, false); }
    std::shared_ptr<breaker> get(std::string_view name, options settings) {
        return get(name, std::move(settings), true);
    }

    /// All names, in order.
    std::vector<std::string> names() const {
        std::lock_guard lock(mutex_);
        std::vector<std::string> all;
        all.reserve(breakers_.size());
        for (auto const& named : breakers_) all.push_back(named.first);
        return all;
    }

    std::size_t size() const {
        std::lock_guard lock(mutex_);
        return breakers_.size();
    }

private:
    struct entry {
        std::shared_ptr<breaker> held;
        bool own_settings;
        std::uint64_t asked; // counts on

        // Whoever holds it beside this registry, or what it is careful about, keeps it.
        bool may_go() const { return held.use_count() == 1 && held->has_recovered(); }
        bool has_own_settings() const { return own_settings || held->was_reconfigured(); }
    };

    std::shared_ptr<breaker> get(std::string_view name, options settings, bool own_settings) {
        std::vector<std::shared_ptr<breaker>> gone; // listeners go with them: without the lock
        std::lock_guard lock(mutex_);
        if (auto const found = breakers_.find(name); found != breakers_.end()) {
            found->second.asked = ++asked_;
            return found->second.held;
        }
        if (breakers_.size() >= max_breakers_) make_room(gone);
        if (breakers_.size() >= max_breakers_) {
            throw std::length_error("tidegate: circuit_breaker_registry has " +
                                    std::to_string(breakers_.size()) +
                                    " breakers in use and no room for '" + std::string(name) + "'");
        }
        auto made = std::make_shared<breaker>(std::move(settings));
        breakers_.emplace(name, entry{made, own_settings, ++asked_});
        return made;
    }

    void make_room(std::vector<std::shared_ptr<breaker>>& gone) {
        for (auto it = breakers_.begin(); it != breakers_.end();) {
            entry const& e = it->second;
            if (e.may_go() && !e.has_own_settings() && e.held->is_as_new()) {
                gone.push_back(e.held);
                it = breakers_.erase(it);
            } else {
                ++it;
            }
        }
        if (!gone.empty()) return;
        auto first = breakers_.end();
        std::pair<bool, std::uint64_t> rank;
        for (auto it = breakers_.begin(); it != breakers_.end(); ++it) {
            if (!it->second.may_go()) continue;
            std::pair const mine(it->second.has_own_settings(), it->second.asked);
            if (first != breakers_.end() && rank < mine) continue;
            first = it;
            rank = mine;
        }
        if (first == breakers_.end()) return;
        gone.push_back(first->second.held);
        breakers_.erase(first);
    }

    options const defaults_;
    std::size_t const max_breakers_;
    mutable std::mutex mutex_;
    std::uint64_t asked_ = 0;
    std::map<std::string, entry, std::less<>> breakers_;
};

using circuit_breaker_registry = basic_circuit_breaker_registry<>;

TIDEGATE_END_NAMESPACE
