// SPDX-License-Identifier: BSL-1.0
// How many objects a pool has, and what becomes of those that come back.
#pragma once

#include <tidegate/core/check_option.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of an object_pool, with their defaults.
template <class T>
class object_pool_options {
    static constexpr std::size_t most = std::size_t{1} << 24;

public:
    /// Objects at most, lent or not; 1 to 2^24; must be set. They are made when they are needed.
    object_pool_options& max_size(std::size_t n) {
        detail::check_option<std::size_t>("object_pool max_size", n, 1, most);
        max_size_ = n;
        return *this;
    }
    /// Objects that are made at the start, and not trimmed; 0 to 2^24, at most `max_size`. Default:
    /// 0.
    object_pool_options& min_size(std::size_t n) {
        detail::check_option<std::size_t>("object_pool min_size", n, 0, most);
        min_size_ = n;
        return *this;
    }
    /// Makes an object that comes back fit for the next one; on the thread that gives it back, with
    /// no lock held. If it returns false or throws, the object is destroyed, and its place is free.
    object_pool_options& recycle(std::function<bool(T&)> how) {
        recycle_ = std::move(how);
        return *this;
    }
    /// Objects that nobody has used for that long are destroyed, but for `min_size`. The context
    /// has work while there are some. 1 ns to 10 years; default: never.
    object_pool_options& max_idle_time(std::chrono::nanoseconds time) {
        detail::check_option<std::int64_t>("object_pool max_idle_time in ns", time.count(), 1,
                                           315'576'000'000'000'000);
        max_idle_time_ = time;
        return *this;
    }
    /// Told of what `recycle` throws, and of what making throws where it reaches nobody as it is.
    /// Must not throw. Default: it is dropped.
    object_pool_options& on_exception(std::function<void(std::exception_ptr)> handler) {
        on_exception_ = std::move(handler);
        return *this;
    }

    std::size_t max_size() const noexcept { return max_size_; }
    std::size_t min_size() const noexcept { return min_size_; }
    std::function<bool(T&)> const& recycle() const noexcept { return recycle_; }
    std::optional<std::chrono::nanoseconds> max_idle_time() const noexcept {
        return max_idle_time_;
    }
    std::function<void(std::exception_ptr)> const& on_exception() const noexcept {
        return on_exception_;
    }

private:
    std::size_t max_size_ = 0;
    std::size_t min_size_ = 0;
    std::function<bool(T&)> recycle_;
    std::optional<std::chrono::nanoseconds> max_idle_time_;
    std::function<void(std::exception_ptr)> on_exception_;
};

TIDEGATE_END_NAMESPACE
