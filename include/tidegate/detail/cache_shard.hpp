// SPDX-License-Identifier: BSL-1.0
// One part of a cache: a store with a lock, and what is counted of it.
#pragma once

#include <tidegate/cache_options.hpp>
#include <tidegate/core/cache/store.hpp>
#include <tidegate/detail/sequence_lock.hpp>
#include <tidegate/shared_value.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {

/// How a value is kept: as it is, and a flag for "there is none", where copies are cheap; shared
/// otherwise.
template <class V>
using stored_value = std::conditional_t<is_cheap_to_copy<V>, V, std::shared_ptr<V const>>;

template <class V>
stored_value<V> to_stored(shared_value<V> value) {
    if constexpr (is_cheap_to_copy<V>) return value.value_or(V{});
    else return value;
}
template <class V>
shared_value<V> from_stored(stored_value<V> const& value, bool absent) {
    if constexpr (is_cheap_to_copy<V>) return absent ? std::nullopt : shared_value<V>(value);
    else return value;
}

/// What left a cache, until the lock is released.
template <class Key, class V>
struct removed_entry {
    Key key;
    stored_value<V> value;
    bool absent;
    removal_cause cause;
};
/// Some of them; the first few, which is all that a call removes most often, without allocating.
/// (As boost::container::small_vector, which takes a fifth as long to compile as all of the cache.)
template <class Key, class V>
class removed_entries {
    using entry = removed_entry<Key, V>;

public:
    removed_entries() noexcept {}
    removed_entries(removed_entries const&) = delete;
    removed_entries& operator=(removed_entries const&) = delete;
    ~removed_entries() { std::destroy_n(few_, n_); }

    void push_back(entry&& one) {
        if (n_ < most_here) std::construct_at(few_ + n_++, std::move(one));
        else more_.push_back(std::move(one));
    }

    template <class Visit>
    void for_each(Visit&& visit) const {
        std::for_each_n(few_, n_, visit);
        for (entry const& one : more_) visit(one);
    }

private:
    static constexpr std::size_t most_here = 8;

    union {
        entry few_[most_here];
    };
    std::size_t n_ = 0; // of them
    std::vector<entry> more_;
};

template <class Types>
struct alignas(64) cache_shard {
    using Key = typename Types::key_type;
    using V = typename Types::value_type;
    using Policy = typename Types::policy_type;
    using Equal = typename Types::equal_type;

    /// Whether look-ups may go beside the lock. Keys are compared before it is known whether they
    /// are there, which calls for nothing unknown and one word; values are copied before that; and
    /// a hit changes no order.
    static constexpr bool is_readable =
        std::is_same_v<typename Types::mutex_type, sequence_lock> && std::is_scalar_v<Key> &&
        sizeof(Key) <= 8 &&
        (std::is_same_v<Equal, std::equal_to<>> || std::is_same_v<Equal, std::equal_to<Key>>) &&
        is_cheap_to_copy<V> && requires { Policy::most_uses; };
    using store_type = core::cache_store<Key, stored_value<V>, Policy, is_readable>;

    struct counters {
        std::uint64_t hits = 0;
        std::uint64_t misses = 0;
        std::uint64_t refused = 0;
        std::uint64_t removed[4] = {}; // by cause

        template <class Statistics>
        void add_to(Statistics& sum) const noexcept {
            auto const of = [this](removal_cause c) { return removed[static_cast<int>(c)]; };
            sum.hits += hits;
            sum.misses += misses;
            sum.refused += refused;
            sum.expired += of(removal_cause::expired);
            sum.evicted += of(removal_cause::size);
            sum.replaced += of(removal_cause::replaced);
            sum.invalidated += of(removal_cause::explicit_);
        }
    };

    /// Takes what leaves the store. Should there be no memory to keep it, it is destroyed under the
    /// lock, and the listener not told.
    struct sink_type {
        counters& counts;
        removed_entries<Key, V>& gone;
        bool wanted;

        void operator()(Key&& key, stored_value<V>&& value, bool absent,
                        removal_cause cause) const noexcept {
            ++counts.removed[static_cast<int>(cause)];
            if constexpr (std::is_trivially_destructible_v<Key> &&
                          std::is_trivially_destructible_v<stored_value<V>>) {
                if (!wanted) return;
            }
            try {
                gone.push_back({std::move(key), std::move(value), absent, cause});
            } catch (std::bad_alloc const&) {
                return;
            }
        }
    };

    cache_shard(std::uint64_t capacity, core::store_features features, std::int64_t now)
        : store(capacity, features, now) {}

    shared_value<V> handle_of(core::entry_id id) const {
        return from_stored<V>(store.value(id), store.flag(id));
    }
    sink_type sink(removed_entries<Key, V>& gone, bool wanted) noexcept {
        return {counts, gone, wanted};
    }

    mutable typename Types::mutex_type mutex;
    counters counts;
    store_type store;
    // Of those who looked beside the lock, for the policy; by mark. Not where they read.
    alignas(64) std::atomic<std::uint64_t> heard_hits[2]{};
};

} // namespace detail
TIDEGATE_END_NAMESPACE
