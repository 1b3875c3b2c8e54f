// SPDX-License-Identifier: BSL-1.0
// Circuit breakers by name: one for each host, and never one for two.
#pragma once

#include <tidegate/circuit_breaker.hpp>
#include <tidegate/core/check_option.hpp>

#include <cstddef>
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
/// Guarantees: the same name gives the same breaker as long as anybody holds it or it has something
/// to remember. At most `max_breakers` are kept; when there is no room, those make it that nobody
/// else holds and that have nothing to remember (`is_as_new`).
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
    std::shared_ptr<breaker> get(std::string_view name) { return get(name, defaults_); }
    std::shared_ptr<breaker> get(std::string_view name, options settings) {
        std::lock_guard lock(mutex_);
        if (auto const found = breakers_.find(name); found != breakers_.end()) return found->second;
        if (breakers_.size() >= max_breakers_) make_room();
        if (breakers_.size() >= max_breakers_) {
            throw std::length_error("tidegate: circuit_breaker_registry has " +
                                    std::to_string(breakers_.size()) +
                                    " breakers in use and no room for '" + std::string(name) + "'");
        }
        auto made = std::make_shared<breaker>(std::move(settings));
        breakers_.emplace(name, made);
        return made;
    }

    /// All names, in order.
    std::vector<std::string> names() const {
        std::lock_guard lock(mutex_);
        std::vector<std::string> all;
        all.reserve(breakers_.size());
        for (auto const& entry : breakers_) all.push_back(entry.first);
        return all;
    }

    std::size_t size() const {
        std::lock_guard lock(mutex_);
        return breakers_.size();
    }

private:
    void make_room() {
        std::erase_if(breakers_, [](auto const& entry) {
            auto const& held = entry.second;
            return held.use_count() == 1 && held->is_as_new();
        });
    }

    options const defaults_;
    std::size_t const max_breakers_;
    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<breaker>, std::less<>> breakers_;
};

using circuit_breaker_registry = basic_circuit_breaker_registry<>;

TIDEGATE_END_NAMESPACE
