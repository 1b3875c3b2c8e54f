// SPDX-License-Identifier: BSL-1.0
// A rate limit for each of many keys (tenants, addresses), in bounded memory.
#pragma once

#include <tidegate/core/token_bucket.hpp>
#include <tidegate/detail/bucket_table.hpp>
#include <tidegate/detail/key_mixing.hpp>
#include <tidegate/detail/trace_source.hpp>
#include <tidegate/rate_limiter.hpp>

#include <boost/container_hash/hash.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What happens to a new key when there is no room for it and no key can be forgotten.
enum class when_keys_full {
    /// It is refused.
    refuse,
    /// It shares one bucket, of the default quota, with all others that came too late.
    share,
};

/// Settings of a keyed rate limiter, with their defaults.
template <class Key>
class keyed_rate_limiter_options {
public:
    /// The quota of every key that has none of its own; must be set. See `rate_limiter_options`.
    keyed_rate_limiter_options& rate(std::uint64_t permits, std::chrono::nanoseconds per) {
        quota_.rate(permits, per);
        return *this;
    }
    keyed_rate_limiter_options& burst(std::uint64_t permits) {
        quota_.burst(permits);
        return *this;
    }
    /// Keys that are remembered at most, 1 to 2^32; default 100,000.
    keyed_rate_limiter_options& max_keys(std::size_t n) {
        detail::check_option<std::size_t>("keyed_rate_limiter max_keys", n, 1,
                                          std::size_t{1} << 32);
        max_keys_ = n;
        return *this;
    }
    /// Default: refuse.
    keyed_rate_limiter_options& when_full(when_keys_full policy) {
        when_full_ = policy;
        return *this;
    }
    /// The quota of one key, asked for when the key is new; nothing for the usual one. Called with
    /// no lock held, from any thread, and may throw, which leaves the key unknown. At most 255
    /// different quotas are told apart; keys with another one get the usual one. A quota is a rate
    /// and a burst: one with a `warm_up`, `overdraw` or `start_empty` makes `try_acquire` throw
    /// std::invalid_argument, as does one without a rate; limits on waiting have no effect.
    keyed_rate_limiter_options&
    quota_of(std::function<std::optional<rate_limiter_options>(Key const&)> choose) {
        quota_of_ = std::move(choose);
        return *this;
    }

    rate_limiter_options const& quota() const noexcept { return quota_; }
    std::size_t max_keys() const noexcept { return max_keys_; }
    when_keys_full when_full() const noexcept { return when_full_; }
    auto const& quota_of() const noexcept { return quota_of_; }

private:
    rate_limiter_options quota_;
    std::size_t max_keys_ = 100'000;
    when_keys_full when_full_ = when_keys_full::refuse;
    std::function<std::optional<rate_limiter_options>(Key const&)> quota_of_;
};

/// Rate limits by key.
///
/// Guarantees: each key is limited as by a `rate_limiter` of its quota (to within a nanosecond). At
/// most `max_keys` are remembered. A key whose bucket is full is as good as new, and only such keys
/// are forgotten: nobody gains a permit by it. If there is none, `when_full` says what becomes of a
/// new key. Nothing waits: a refusal says when to come again, as a value.
///
/// Thread safety: all members may be called from any thread, except construction and destruction.
/// Keys are spread over up to 16 locks, held for a look-up, each with an equal share of the room:
/// one for every 256 keys. With less than 512 keys there is one, and room for exactly `max_keys`.
/// Memory: 40 bytes a key and 4/5 of the key's size, or less, beside the key itself; a known key
/// allocates nothing. O(1) on average; making room looks at a few keys for each new one.
///
/// Keys are copied, and must move without throwing.
template <class Key, class Hash = boost::hash<Key>, class Equal = std::equal_to<Key>,
          class Clock = std::chrono::steady_clock>
class basic_keyed_rate_limiter {
public:
    using clock_type = Clock;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using options = keyed_rate_limiter_options<Key>;
    using decision = rate_decision<duration>;

    /// Throws std::invalid_argument if `settings` has no rate, or one whose permits are too many
    /// for the default burst.
    explicit basic_keyed_rate_limiter(options settings) : settings_(std::move(settings)) {
        detail::check_option<std::uint64_t>("keyed_rate_limiter permits a period",
                                            settings_.quota().permits(), 1, std::uint64_t{1} << 62);
        auto const now = ns(Clock::now());
        add_quota(settings_.quota(), now);
        shared_.emplace(new_bucket(0, 0, now));
        std::size_t const most = settings_.max_keys();
        for (std::size_t i = 0; i < shard_count_; ++i) {
            shards_[i].most = most / shard_count_ + (i < most % shard_count_ ? 1 : 0);
        }
    }
    basic_keyed_rate_limiter(basic_keyed_rate_limiter const&) = delete;
    basic_keyed_rate_limiter& operator=(basic_keyed_rate_limiter const&) = delete;

    /// Takes `n` permits of `key` if they are there. Throws what `quota_of` throws, and
    /// std::invalid_argument for a quota that a key cannot have.
    decision try_acquire(Key const& key, std::uint64_t n = 1) {
        place const at = place_of(key); // the memory comes while the clock is read
        return try_acquire(key, at, n, Clock::now());
    }
    decision try_acquire(Key const& key, std::uint64_t n, time_point now) {
        return try_acquire(key, place_of(key), n, now);
    }

    /// Gives back `n` permits of `key` that were not used; no effect if it is not remembered.
    void refund(Key const& key, std::uint64_t n = 1) {
        place const at = place_of(key);
        std::lock_guard lock(at.home.mutex);
        if (bucket* const b = at.home.buckets.find(key, at.hash)) {
            b->granted -= std::min(b->granted, terms(*b).units(n));
        }
    }

    /// Tells `observer`, which must not be null, from now on what happens here, of all keys; see
    /// trace.hpp. Events: acquired, rejected.
    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        trace_.attach("keyed_rate_limiter", std::move(observer), std::move(name));
    }

    /// Keys that are remembered at this moment.
    std::size_t size() const {
        std::size_t all = 0;
        for (shard const& s : shards_) {
            std::lock_guard lock(s.mutex);
            all += s.buckets.size();
        }
        return all;
    }

    options const& settings() const noexcept { return settings_; }

    /// For `register_metrics`; see metrics.hpp.
    template <class Writer>
    void report_metrics(Writer& to) const {
        to.gauge("tidegate_keyed_rate_limiter_keys", "Keys that are remembered",
                 static_cast<double>(size()));
        to.gauge("tidegate_keyed_rate_limiter_max_keys", "Keys that can be remembered",
                 static_cast<double>(settings_.max_keys()));
    }

private:
    static constexpr std::size_t most_shards = 16;
    static constexpr std::size_t max_quotas = 256; // with the usual one

    // Counted from the epoch of the quota's terms, which all its keys share.
    using bucket = detail::key_bucket;
    using table = detail::bucket_table<Key, Equal>;
    struct alignas(64) shard {
        mutable std::mutex mutex;
        table buckets;
        std::size_t most = 0;
    };
    // Where a key is to be looked for.
    struct place {
        shard& home;
        std::uint32_t hash;
    };
    // Never changed once it is there, so that it is read without a lock.
    struct quota_terms {
        core::bucket_terms terms;
        std::uint64_t burst;
    };

    static std::int64_t ns(time_point t) noexcept {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
    }

    // So few that none is full long before the others.
    static std::size_t shards_for(std::size_t keys) noexcept {
        return std::clamp<std::size_t>(std::bit_floor(keys / 256), 1, most_shards);
    }

    static std::uint64_t random_seed() {
        std::random_device source;
        return std::uint64_t{source()} << 32 | source();
    }

    place place_of(Key const& key) {
        std::uint64_t const mixed = mixing_(Hash()(key));
        place const at{shards_[mixed & (shard_count_ - 1)], table::stored(mixed)};
        at.home.buckets.prefetch(at.hash);
        return at;
    }

    core::bucket_terms const& terms(bucket const& b) const noexcept { return quota(b.quota).terms; }

    bucket new_bucket(std::uint32_t hash, std::uint32_t which, std::int64_t now) const noexcept {
        auto const& t = quota(which).terms;
        return {t.earned(std::max(now, t.epoch())) - t.burst(), hash, which};
    }

    decision take(bucket& b, std::uint64_t n, std::int64_t now) const noexcept {
        quota_terms const& q = quota(b.quota);
        if (n == 0 || n > q.burst) return decision(decision::verdict::invalid_count);
        std::int64_t const at = std::max(now, q.terms.epoch());
        std::uint64_t const earned = q.terms.earned(at);
        // A clock that went back holds a key up for the time that fills its bucket at most.
        if (b.granted > earned + q.terms.burst()) b.granted = earned;
        std::uint64_t const after = q.terms.take(b.granted, earned, q.terms.units(n));
        if (after == core::bucket_terms::refused) {
            return decision(q.terms.refusal(b.granted, q.terms.units(n), at));
        }
        b.granted = after;
        return decision::grant();
    }

    decision without_room(std::uint64_t n, std::int64_t now) {
        if (settings_.when_full() == when_keys_full::share) {
            std::lock_guard lock(shared_mutex_);
            return take(*shared_, n, now);
        }
        return decision(core::bucket_refusal(settings_.quota().period().count()));
    }

    decision try_acquire(Key const& key, place at, std::uint64_t n, time_point now) {
        if (trace_.is_heard()) [[unlikely]]
            return decide_and_tell(key, at, n, now);
        return decide(key, at, n, now);
    }

    decision decide(Key const& key, place at, std::uint64_t n, time_point now) {
        {
            std::lock_guard lock(at.home.mutex);
            if (bucket* const known = at.home.buckets.find(key, at.hash)) {
                return take(*known, n, ns(now));
            }
        }
        return decide_anew(key, at, n, ns(now));
    }

    decision decide_anew(Key const& key, place at, std::uint64_t n, std::int64_t now) {
        std::uint32_t const which = quota_for(key, now);
        shard& s = at.home;
        std::lock_guard lock(s.mutex);
        if (bucket* const known = s.buckets.find(key, at.hash)) return take(*known, n, now);
        if (s.buckets.size() >= s.most) make_room(s, now);
        if (s.buckets.size() >= s.most) return without_room(n, now);
        return take(s.buckets.insert(key, new_bucket(at.hash, which, now)), n, now);
    }

    decision decide_and_tell(Key const& key, place at, std::uint64_t n, time_point now) {
        decision const what = decide(key, at, n, now);
        trace_.emit(what ? trace_event::acquired : trace_event::rejected, n, what.error(),
                    std::chrono::duration_cast<std::chrono::nanoseconds>(what.retry_after()));
        return what;
    }

    // Looks at the next few keys of the table and forgets those whose bucket is full.
    void make_room(shard& s, std::int64_t now) const noexcept {
        s.buckets.sweep(24, [&](bucket const& b) {
            core::bucket_terms const& t = terms(b);
            return t.full(b.granted, t.earned(std::max(now, t.epoch())));
        });
    }

    quota_terms const& quota(std::uint32_t which) const noexcept {
        return *quotas_[which].load(std::memory_order_acquire);
    }

    std::uint32_t quota_for(Key const& key, std::int64_t now) {
        if (!settings_.quota_of()) return 0;
        auto const own = settings_.quota_of()(key);
        return own ? add_quota(*own, now) : 0;
    }

    static void refuse_if(bool is_set, char const* option) {
        if (!is_set) return;
        throw std::invalid_argument(
            std::string("tidegate: keyed_rate_limiter quota_of does not take ") + option);
    }

    // The same as one that is known, or a new one; the usual one when there are too many.
    std::uint32_t add_quota(rate_limiter_options const& own, std::int64_t now) {
        detail::check_option<std::uint64_t>("keyed_rate_limiter permits a period", own.permits(), 1,
                                            std::uint64_t{1} << 62);
        detail::check_option<std::uint64_t>("keyed_rate_limiter burst", own.burst(), 1,
                                            core::bucket_terms::max_burst);
        refuse_if(own.warm_up().count() > 0, "warm_up");
        refuse_if(own.overdraw(), "overdraw");
        refuse_if(own.start_empty(), "start_empty");
        auto const period = static_cast<std::uint64_t>(own.period().count());
        std::lock_guard lock(quotas_mutex_);
        std::tuple const terms(own.permits(), period, own.burst());
        if (auto const known = numbers_.find(terms); known != numbers_.end()) return known->second;
        if (numbers_.size() == max_quotas) return 0;
        // A number last: whoever has one uses what belongs to it.
        kept_.push_back(std::make_unique<quota_terms>(
            quota_terms{core::bucket_terms::lasting(own.permits(), period, own.burst(), now - past),
                        own.burst()}));
        auto const number = static_cast<std::uint32_t>(numbers_.size());
        quotas_[number].store(kept_.back().get(), std::memory_order_release);
        numbers_.emplace(terms, number);
        return number;
    }

    // How far back the clock may go, and half of what the terms hold for: 73 years. Nobody renews
    // them for all keys.
    static constexpr std::int64_t past = std::int64_t{1} << 61;

    options settings_;
    detail::key_mixing const mixing_{random_seed()};
    std::size_t const shard_count_ = shards_for(settings_.max_keys()); // a power of two
    std::array<shard, most_shards> shards_;
    std::mutex quotas_mutex_;
    std::map<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>, std::uint32_t> numbers_;
    std::vector<std::unique_ptr<quota_terms const>> kept_;
    [[no_unique_address]] detail::trace_source trace_; // beside what every request reads
    std::array<std::atomic<quota_terms const*>, max_quotas> quotas_{}; // 0 is the usual one
    std::mutex shared_mutex_;
    std::optional<bucket> shared_;
};

/// With Boost's hash, the standard equality and the steady clock.
template <class Key>
using keyed_rate_limiter = basic_keyed_rate_limiter<Key>;

TIDEGATE_END_NAMESPACE
