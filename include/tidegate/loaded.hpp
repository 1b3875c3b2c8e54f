// SPDX-License-Identifier: BSL-1.0
// What a loader may say besides the value.
#pragma once

#include <tidegate/call.hpp>
#include <tidegate/core/check_option.hpp>
#include <tidegate/shared_value.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

/// A loader's result with terms of its own. Loaders may return a `V`, a `std::optional<V>`, whose
/// nullopt means that there is no such thing, a `shared_value<V>`, or one of these:
///
///     co_return tidegate::loaded(page).time_to_live(5s);
///     co_return tidegate::loaded(page).do_not_store();
///     co_return tidegate::loaded<page>::none();
template <class V>
class loaded {
public:
    /// There is no such thing; remembered if the cache is set to (`negative_time_to_live`). What
    /// the cache had goes in either case.
    loaded() noexcept = default;
    static loaded none() noexcept { return {}; }

    loaded(V value) : value_(detail::share<V>(std::move(value))) {}
    template <std::same_as<std::optional<V>> Optional>
    loaded(Optional value) {
        if (value) value_ = detail::share<V>(std::move(*value));
    }
    loaded(std::shared_ptr<V const> value)
        requires(!is_cheap_to_copy<V>)
        : value_(std::move(value)) {}

    /// How long it may be used, 1 ns to 10 years, instead of the cache's own time.
    loaded& time_to_live(std::chrono::nanoseconds time) & {
        detail::check_option<std::int64_t>("loaded time_to_live in ns", time.count(), 1,
                                           315'576'000'000'000'000);
        time_to_live_ = time;
        return *this;
    }
    loaded&& time_to_live(std::chrono::nanoseconds time) && {
        return std::move(time_to_live(time));
    }

    /// It may be used no longer than this, 1 ns to 10 years, whatever the cache's own time.
    loaded& time_to_live_at_most(std::chrono::nanoseconds time) & {
        detail::check_option<std::int64_t>("loaded time_to_live_at_most in ns", time.count(), 1,
                                           315'576'000'000'000'000);
        at_most_ = time;
        return *this;
    }
    loaded&& time_to_live_at_most(std::chrono::nanoseconds time) && {
        return std::move(time_to_live_at_most(time));
    }

    /// Those who wait for it get it; the cache does not keep it, nor the older value that it had.
    loaded& do_not_store() & noexcept {
        store_ = false;
        return *this;
    }
    loaded&& do_not_store() && noexcept { return std::move(do_not_store()); }

    shared_value<V> const& value() const noexcept { return value_; }
    std::optional<std::chrono::nanoseconds> time_to_live() const noexcept { return time_to_live_; }
    std::optional<std::chrono::nanoseconds> time_to_live_at_most() const noexcept {
        return at_most_;
    }
    bool is_to_be_stored() const noexcept { return store_; }

private:
    shared_value<V> value_{};
    std::optional<std::chrono::nanoseconds> time_to_live_;
    std::optional<std::chrono::nanoseconds> at_most_;
    bool store_ = true;
};

namespace detail {

template <class Load, class Key>
auto call_loader(Load& load, Key const& key) {
    if constexpr (std::is_invocable_v<Load&, Key const&>) return load(key);
    else return load();
}

/// One result of a loader of several keys.
template <class V, class T>
void take_loaded(outcome<loaded<V>>& to, T&& result) {
    to.succeed(loaded<V>(std::forward<T>(result)));
}
template <class V, class T>
void take_loaded(outcome<loaded<V>>& to, outcome<T>&& result) {
    if (result) to.succeed(loaded<V>(std::move(result.value())));
    else to.fail(result.why());
}

} // namespace detail
TIDEGATE_END_NAMESPACE
