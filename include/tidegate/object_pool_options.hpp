// SPDX-License-Identifier: BSL-1.0
// How many objects a pool has, and what becomes of those that come back.
#pragma once

#include <tidegate/core/check_option.hpp>
#include <tidegate/detail/operation_traits.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// Settings of an object_pool, with their defaults.
template <class T>
class object_pool_options {
    static constexpr std::size_t most = std::size_t{1} << 24;
    using nanoseconds = std::chrono::nanoseconds;

public:
    /// Objects at most, lent or not; 1 to 2^24; must be set. They are made when they are needed.
    object_pool_options& max_size(std::size_t n) {
        detail::check_option<std::size_t>("object_pool max_size", n, 1, most);
        max_size_ = n;
        return *this;
    }
    /// Objects that are made at the start (with a factory that returns an awaitable: begun to be
    /// made), and not trimmed; 0 to 2^24, at most `max_size`. Default: 0.
    object_pool_options& min_size(std::size_t n) {
        detail::check_option<std::size_t>("object_pool min_size", n, 0, most);
        min_size_ = n;
        return *this;
    }
    /// Makes an object that comes back fit for the next one: `how(T&)` returns whether it is, or an
    /// awaitable of that. The first is called on the thread that gives the object back, with no
    /// lock held; the second runs detached on the executor of the pool, and meanwhile the object is
    /// neither idle nor lent. If it is false, or throws, or an awaitable takes longer than
    /// `recycle_timeout`, the object is destroyed, and its place is free.
    template <class How>
        requires std::is_invocable_v<How&, T&>
    object_pool_options& recycle(How how) {
        recycle_ = nullptr;
        recycle_later_ = nullptr;
        if constexpr (detail::returns_awaitable<How, T&>) recycle_later_ = std::move(how);
        else recycle_ = std::move(how);
        return *this;
    }

    /// How long `async_acquire` and `acquire` wait, the making of an object included, if the call
    /// says nothing else; then `error::deadline_exceeded`. 1 ns to 10 years; default: as long as it
    /// takes.
    object_pool_options& wait_timeout(nanoseconds time) {
        return set("object_pool wait_timeout in ns", wait_timeout_, time);
    }
    /// How long a factory that returns an awaitable may take to make one object; then it is
    /// cancelled and waited for, and that is a failure with `error::deadline_exceeded`. Only for
    /// such a factory. 1 ns to 10 years; default: 10 s.
    object_pool_options& create_timeout(nanoseconds time) {
        return set("object_pool create_timeout in ns", create_timeout_, time);
    }
    /// The same for a `recycle` that returns an awaitable. 1 ns to 10 years; default: 1 s.
    object_pool_options& recycle_timeout(nanoseconds time) {
        return set("object_pool recycle_timeout in ns", recycle_timeout_, time);
    }

    /// Objects that nobody has used for that long are destroyed, but for `min_size`. The context
    /// has work while there are some. 1 ns to 10 years; default: never.
    object_pool_options& max_idle_time(nanoseconds time) {
        return set("object_pool max_idle_time in ns", max_idle_time_, time);
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
    std::function<boost::asio::awaitable<bool>(T&)> const& recycle_later() const noexcept {
        return recycle_later_;
    }
    std::optional<nanoseconds> wait_timeout() const noexcept { return wait_timeout_; }
    std::optional<nanoseconds> create_timeout() const noexcept { return create_timeout_; }
    std::optional<nanoseconds> recycle_timeout() const noexcept { return recycle_timeout_; }
    std::optional<nanoseconds> max_idle_time() const noexcept { return max_idle_time_; }
    std::function<void(std::exception_ptr)> const& on_exception() const noexcept {
        return on_exception_;
    }

private:
    object_pool_options& set(char const* option, std::optional<nanoseconds>& to, nanoseconds time) {
        detail::check_option<std::int64_t>(option, time.count(), 1, 315'576'000'000'000'000);
        to = time;
        return *this;
    }

    std::size_t max_size_ = 0;
    std::size_t min_size_ = 0;
    std::function<bool(T&)> recycle_;
    std::function<boost::asio::awaitable<bool>(T&)> recycle_later_;
    std::optional<nanoseconds> wait_timeout_;
    std::optional<nanoseconds> create_timeout_;
    std::optional<nanoseconds> recycle_timeout_;
    std::optional<nanoseconds> max_idle_time_;
    std::function<void(std::exception_ptr)> on_exception_;
};

TIDEGATE_END_NAMESPACE
