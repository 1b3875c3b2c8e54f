// SPDX-License-Identifier: BSL-1.0
// What people write in an afternoon: a list, a map, a mutex.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

namespace bench {

// As tidegate mixes what std::hash leaves as it is.
struct mixing_hash {
    std::size_t operator()(std::uint64_t key) const noexcept {
        std::uint64_t h = key * 0x9E3779B97F4A7C15u;
        h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
        return h ^ (h >> 32);
    }
};

// Without times.
class naive_cache {
public:
    explicit naive_cache(std::size_t capacity) : capacity_(capacity) { map_.reserve(capacity); }

    std::optional<std::uint64_t> get(std::uint64_t key) {
        std::lock_guard lock(mutex_);
        auto const it = map_.find(key);
        if (it == map_.end()) return std::nullopt;
        entries_.splice(entries_.begin(), entries_, it->second);
        return it->second->second;
    }

    void put(std::uint64_t key, std::uint64_t value) {
        std::lock_guard lock(mutex_);
        if (auto const it = map_.find(key); it != map_.end()) {
            it->second->second = value;
            entries_.splice(entries_.begin(), entries_, it->second);
            return;
        }
        if (map_.size() == capacity_) {
            map_.erase(entries_.back().first);
            entries_.pop_back();
        }
        entries_.emplace_front(key, value);
        map_[key] = entries_.begin();
    }

private:
    std::size_t capacity_;
    std::mutex mutex_;
    std::list<std::pair<std::uint64_t, std::uint64_t>> entries_;
    std::unordered_map<std::uint64_t, decltype(entries_)::iterator, mixing_hash> map_;
};

// With a time to live, as tidegate's has here.
class naive_ttl_cache {
    using clock = std::chrono::steady_clock;
    struct timed {
        std::uint64_t key;
        std::uint64_t value;
        clock::time_point until;
    };

public:
    explicit naive_ttl_cache(std::size_t capacity) : capacity_(capacity) { map_.reserve(capacity); }

    std::optional<std::uint64_t> get(std::uint64_t key) {
        std::lock_guard lock(mutex_);
        auto const it = map_.find(key);
        if (it == map_.end() || it->second->until <= clock::now()) return std::nullopt;
        entries_.splice(entries_.begin(), entries_, it->second);
        return it->second->value;
    }

    void put(std::uint64_t key, std::uint64_t value) {
        auto const until = clock::now() + std::chrono::hours(1);
        std::lock_guard lock(mutex_);
        if (auto const it = map_.find(key); it != map_.end()) {
            it->second->value = value;
            it->second->until = until;
            entries_.splice(entries_.begin(), entries_, it->second);
            return;
        }
        if (map_.size() == capacity_) {
            map_.erase(entries_.back().key);
            entries_.pop_back();
        }
        entries_.push_front({key, value, until});
        map_[key] = entries_.begin();
    }

private:
    std::size_t capacity_;
    std::mutex mutex_;
    std::list<timed> entries_;
    std::unordered_map<std::uint64_t, std::list<timed>::iterator, mixing_hash> map_;
};

} // namespace bench
