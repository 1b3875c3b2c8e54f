// SPDX-License-Identifier: BSL-1.0
// A second level in memory: for tests, and shared by several caches of one process.
#pragma once

#include <tidegate/cache.hpp>
#include <tidegate/cache_tier.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// Keeps up to so many bytes of values, the least recently used of which make room. Thread-safe.
///
/// Several caches may share an object if their prefixes differ. For the same keys, each needs one
/// of its own, which `another` makes:
///
///     auto tier = std::make_shared<tidegate::memory_cache_tier>(context, 1'000'000);
///     tidegate::tiered_cache<std::string, std::string> here(context, first_level, tier);
///     auto again = tier->another();
///     tidegate::tiered_cache<std::string, std::string> there(context, first_level, again);
///
/// Each is told of what changes by way of the others, before and after it does, and before the
/// change completes; and what it loaded is not written in place of what they changed meanwhile.
template <class Clock = std::chrono::steady_clock>
class basic_memory_cache_tier final : public cache_tier {
    struct kept_value {
        std::string bytes;
        typename Clock::time_point until;
    };
    using entries = basic_cache<std::string, kept_value, eviction::lru, cache_hash<std::string>,
                                std::equal_to<>, Clock>;
    using options = cache_options<std::string, kept_value>;

    // What several objects share.
    struct shared_values {
        shared_values(boost::asio::any_io_executor executor, std::uint64_t max_bytes)
            : kept(std::move(executor),
                   options().max_weight(max_bytes,
                                        [](std::string const& key, kept_value const& value) {
                                            return key.size() + value.bytes.size();
                                        })) {}

        entries kept;
        std::mutex mutex; // of all changes, and of what follows
        std::vector<basic_memory_cache_tier*> users;
        bool is_shared = false; // there have been several
    };

public:
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    /// `max_bytes` of keys and values together, 1 to 2^62.
    basic_memory_cache_tier(boost::asio::any_io_executor executor, std::uint64_t max_bytes)
        : basic_memory_cache_tier(std::make_shared<shared_values>(std::move(executor), max_bytes)) {
    }
    template <class Context>
        requires std::is_convertible_v<Context&, boost::asio::execution_context&>
    basic_memory_cache_tier(Context& context, std::uint64_t max_bytes)
        : basic_memory_cache_tier(boost::asio::any_io_executor(context.get_executor()), max_bytes) {
    }
    ~basic_memory_cache_tier() override {
        std::lock_guard lock(values_->mutex);
        std::erase(values_->users, this);
    }

    /// The same values, for one more cache of the same keys. They go with the last of the objects.
    std::shared_ptr<basic_memory_cache_tier> another() const {
        return std::shared_ptr<basic_memory_cache_tier>(new basic_memory_cache_tier(values_));
    }

    awaitable<std::vector<std::optional<tier_value>>>
    get_many(std::vector<std::string> keys) override {
        auto const now = Clock::now();
        std::vector<std::optional<tier_value>> found;
        for (auto const& key : keys) {
            auto kept = values_->kept.get_if_present(key);
            if (!kept) kept = look_again(key);
            auto& one = found.emplace_back();
            if (!kept) continue;
            bool const for_ever = kept->until == Clock::time_point::max();
            one = tier_value{kept->bytes, for_ever ? tier_value::for_ever : kept->until - now};
        }
        co_return found;
    }

    awaitable<void> put_many(std::vector<tier_entry> all) override {
        auto const now = Clock::now();
        std::vector<std::string> changed;
        for (auto const& one : all) {
            if (!one.if_missing) changed.push_back(one.key);
        }
        announce(changed);
        changed.clear();
        listeners who;
        {
            std::lock_guard lock(values_->mutex);
            who = others_listeners();
            for (auto& one : all) {
                if (one.if_missing && !may_write(one.key)) continue;
                note_change(one.key);
                if (!who.empty()) changed.push_back(one.key);
                keep(std::move(one), now);
            }
        }
        tell(who, changed);
        co_return;
    }

    awaitable<void> invalidate(std::vector<std::string> keys) override {
        announce(keys);
        listeners who;
        {
            std::lock_guard lock(values_->mutex);
            who = others_listeners();
            for (auto const& key : keys) {
                note_change(key);
                values_->kept.invalidate(key);
            }
        }
        tell(who, keys);
        co_return;
    }

    void add_listener(std::weak_ptr<tier_listener> who) override {
        std::lock_guard lock(values_->mutex);
        std::erase_if(listeners_, [](auto const& one) { return one.expired(); });
        listeners_.push_back(std::move(who));
    }

    cache_statistics statistics() const noexcept { return values_->kept.statistics(); }

private:
    using listeners = std::vector<std::shared_ptr<tier_listener>>;

    static constexpr std::chrono::nanoseconds longest{315'576'000'000'000'000};
    static constexpr std::size_t most_missing = 16'384; // twice

    explicit basic_memory_cache_tier(std::shared_ptr<shared_values> values)
        : values_(std::move(values)) {
        std::lock_guard lock(values_->mutex);
        values_->users.push_back(this);
        if (values_->users.size() > 1) values_->is_shared = true;
    }

    // Whoever saw that nothing is there may write there while no other changes it. Those who never
    // write are forgotten as others come.
    shared_value<kept_value> look_again(std::string const& key) {
        std::lock_guard lock(values_->mutex);
        if (!values_->is_shared) return {};
        auto kept = values_->kept.peek(key);
        if (kept) return kept;
        if (missing_.size() >= most_missing) {
            missing_before_ = std::move(missing_);
            missing_.clear();
        }
        missing_.insert(key);
        return {};
    }

    // Under the lock, like all that follow.
    bool may_write(std::string const& key) {
        if (!values_->is_shared) return true;
        return forget_missing(key);
    }
    bool forget_missing(std::string const& key) {
        return missing_.erase(key) + missing_before_.erase(key) > 0;
    }
    void note_change(std::string const& key) {
        for (auto* const user : values_->users) {
            if (user != this) user->forget_missing(key);
        }
    }

    void keep(tier_entry&& one, typename Clock::time_point now) {
        auto const time = one.value.time_to_live;
        bool const for_ever = time > longest;
        auto const until = for_ever ? Clock::time_point::max() : now + time;
        kept_value value{std::move(one.value.bytes), until};
        if (for_ever) values_->kept.put(std::move(one.key), std::move(value));
        else values_->kept.put(std::move(one.key), std::move(value), time);
    }

    listeners others_listeners() const {
        listeners all;
        for (auto const* const user : values_->users) {
            if (user == this) continue;
            for (auto const& one : user->listeners_) {
                if (auto living = one.lock()) all.push_back(std::move(living));
            }
        }
        return all;
    }

    // Without the lock, like the next. Others are told before a change, too: what they loaded until
    // now is not to be written after it.
    void announce(std::vector<std::string> const& keys) const {
        listeners who;
        {
            std::lock_guard lock(values_->mutex);
            who = others_listeners();
        }
        tell(who, keys);
    }
    static void tell(listeners const& who, std::vector<std::string> const& changed) {
        for (auto const& listener : who) {
            for (auto const& key : changed) listener->on_changed(key);
        }
    }

    std::shared_ptr<shared_values> const values_;
    std::vector<std::weak_ptr<tier_listener>> listeners_;
    std::unordered_set<std::string> missing_;
    std::unordered_set<std::string> missing_before_;
};

using memory_cache_tier = basic_memory_cache_tier<>;

TIDEGATE_END_NAMESPACE
