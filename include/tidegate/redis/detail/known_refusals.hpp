// SPDX-License-Identifier: BSL-1.0
// Remembers for a while who was refused, in bounded memory.
#pragma once

#include <tidegate/config.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace redis::detail {

/// A table with one place for each hash: what comes later takes the place, and what it replaced is
/// asked again. What was to be forgotten since one looked is not remembered. O(1), one lock of
/// sixteen.
class known_refusals {
public:
    using time_point = std::chrono::steady_clock::time_point;

    explicit known_refusals(std::size_t places) : places_(places) {}

    struct known {
        std::optional<time_point> until; // when `n` permits, or more, are refused
        std::uint64_t forgotten = 0;     // how often until now; for `remember`
    };

    known look(std::string_view key, std::uint64_t n, time_point now) {
        if (places_.empty()) return {};
        std::size_t const at = place_of(key);
        std::lock_guard lock(mutex_of(at));
        place const& p = places_[at];
        if (p.until <= now || n < p.permits || p.key != key) return {std::nullopt, p.forgotten};
        return {p.until, p.forgotten};
    }

    void remember(std::string_view key, std::uint64_t n, time_point until,
                  std::uint64_t forgotten) {
        if (places_.empty()) return;
        std::size_t const at = place_of(key);
        std::lock_guard lock(mutex_of(at));
        place& p = places_[at];
        if (p.forgotten != forgotten) return;
        p.key = key;
        p.permits = n;
        p.until = until;
    }

    void forget(std::string_view key) {
        if (places_.empty()) return;
        std::size_t const at = place_of(key);
        std::lock_guard lock(mutex_of(at));
        place& p = places_[at];
        ++p.forgotten;
        if (p.key == key) p.until = {};
    }

private:
    struct place {
        std::string key;
        std::uint64_t permits = 0;
        time_point until;
        std::uint64_t forgotten = 0; // of whatever key of this place
    };

    std::size_t place_of(std::string_view key) const noexcept {
        return std::hash<std::string_view>{}(key) % places_.size();
    }
    std::mutex& mutex_of(std::size_t at) noexcept { return mutexes_[at % mutexes_.size()]; }

    std::vector<place> places_;
    std::array<std::mutex, 16> mutexes_;
};

} // namespace redis::detail
TIDEGATE_END_NAMESPACE
