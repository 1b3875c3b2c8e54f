// SPDX-License-Identifier: BSL-1.0
// What follows from the options of a cache.
#pragma once

#include <tidegate/cache_options.hpp>
#include <tidegate/core/cache/store.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <thread>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

template <class Key, class V>
struct cache_settings {
    using options = cache_options<Key, V>;

    /// Throws std::invalid_argument for settings that contradict each other.
    static void check(options const& s) {
        auto const refuse = [](char const* what) { throw std::invalid_argument(what); };
        if (s.max_entries_.has_value() == s.max_weight_.has_value())
            refuse("tidegate: cache needs max_entries or max_weight, and not both");
        if (s.max_weight_ && !s.weigher_) refuse("tidegate: cache max_weight needs a weigher");
        if (s.negative_weight_ > s.max_weight_.value_or(1))
            refuse("tidegate: cache negative_time_to_live weight needs that much max_weight");
        if (s.refresh_after_ && !(s.time_to_live_ && *s.refresh_after_ < *s.time_to_live_))
            refuse("tidegate: cache refresh_after needs a longer time_to_live");
        if ((s.stale_if_error_.count() || s.stale_while_revalidate_.count()) && !s.time_to_live_)
            refuse("tidegate: cache stale_if_error and stale_while_revalidate need a time_to_live");
        if (s.refresh_load_ && !s.refresh_after_ && !s.stale_while_revalidate_.count())
            refuse("tidegate: cache refresh_together needs refresh_after or "
                   "stale_while_revalidate");
        if (s.soft_timeout_ && !s.stale_if_error_.count())
            refuse("tidegate: cache soft_timeout needs stale_if_error");
    }

    static std::size_t shard_count(options const& s) {
        std::size_t const most = static_cast<std::size_t>(
            std::min<std::uint64_t>(1024, s.max_weight_ ? *s.max_weight_ : *s.max_entries_));
        if (s.shards_) return std::bit_floor(std::min(*s.shards_, most));
        if (s.max_weight_) return 1;
        std::size_t const processors = std::max(1u, std::thread::hardware_concurrency());
        return std::bit_floor(std::clamp<std::size_t>(*s.max_entries_ / 4096, 1,
                                                      std::min<std::size_t>(64, processors * 4)));
    }

    static core::store_features features(options const& s) {
        core::store_features f;
        f.weighs = s.max_weight_.has_value();
        f.max_entries = s.max_entries_.value_or(0);
        f.expires = true; // a time to live may come with a value
        f.keeps_stale = s.stale_if_error_.count() > 0 || s.stale_while_revalidate_.count() > 0;
        f.keeps_times = f.keeps_stale || s.refresh_after_ || s.time_to_idle_;
        return f;
    }

    static std::uint64_t capacity(options const& s) noexcept {
        return s.max_weight_.value_or(s.max_entries_.value_or(0));
    }
};

} // namespace detail
TIDEGATE_END_NAMESPACE
