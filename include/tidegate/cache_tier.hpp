// SPDX-License-Identifier: BSL-1.0
// What a second level of a cache has to do: keep bytes by name.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What a second level keeps of a value.
struct tier_value {
    static constexpr auto for_ever = std::chrono::nanoseconds::max();

    std::string bytes;
    /// How long it may still be used, 1 ns or more. It is what is left, not an instant, since the
    /// clocks of two machines differ.
    std::chrono::nanoseconds time_to_live = for_ever;
};

struct tier_entry {
    std::string key;
    tier_value value;
    /// It was loaded since nothing was there: a level that others write to as well does not let it
    /// replace what they put, or invalidated, meanwhile.
    bool if_missing = false;
};

/// Who is told of changes that others made in a second level: a `tiered_cache`. Called on any
/// thread, with no lock held.
class tier_listener {
public:
    tier_listener() = default;
    tier_listener(tier_listener const&) = delete;
    tier_listener& operator=(tier_listener const&) = delete;
    virtual ~tier_listener() = default;

    /// What is known of the key is not to be used any more.
    virtual void on_changed(std::string_view key) = 0;

    /// Nor what is known of any key: it was all removed, or changes may have been missed.
    virtual void on_all_changed() = 0;
};

/// A place to keep a cache's values outside the process, or beyond its life: `memory_cache_tier`,
/// `file_cache_tier`, `redis::cache_tier`, or yours. See `tiered_cache` for the one who calls it.
///
/// Each operation takes several keys, so that it costs one trip. It may throw anything: that is
/// counted by the caller, and never reaches its callers. Calls overlap; those of `put_many` and
/// `invalidate` by one tiered_cache do not. Calls that take too long are cancelled: `get_many` is
/// left behind if it does not listen; the others are waited for, since a change that comes late
/// could undo the next one.
class cache_tier {
public:
    cache_tier() = default;
    cache_tier(cache_tier const&) = delete;
    cache_tier& operator=(cache_tier const&) = delete;
    virtual ~cache_tier() = default;

    /// As many results as keys, in their order; nothing for what is not there, or whose time is
    /// over.
    virtual boost::asio::awaitable<std::vector<std::optional<tier_value>>>
    get_many(std::vector<std::string> keys) = 0;

    /// Keeps the values, in place of what was there. What cannot be kept (too large, say) is not an
    /// error, but must not leave the older value.
    virtual boost::asio::awaitable<void> put_many(std::vector<tier_entry> entries) = 0;

    /// Forgets the keys. When it completes, no later `get_many` returns what was there.
    virtual boost::asio::awaitable<void> invalidate(std::vector<std::string> keys) = 0;

    /// From now on tells `who`, as long as it lives, of what others change here: not of what comes
    /// through this object. Default: others change nothing.
    virtual void add_listener(std::weak_ptr<tier_listener> who) { static_cast<void>(who); }
};

TIDEGATE_END_NAMESPACE
