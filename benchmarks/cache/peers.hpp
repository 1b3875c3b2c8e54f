// SPDX-License-Identifier: BSL-1.0
// Other caches behind the same small interface.
#pragma once

#include "naive_cache.hpp"

#define TBB_PREVIEW_CONCURRENT_LRU_CACHE 1
#include <oneapi/tbb/concurrent_lru_cache.h>

#include <leveldb/cache.h>
#include <rocksdb/cache.h>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/unordered_set.hpp>

#include <memory>
#include <vector>

namespace bench {

// The shape of userver's LRU map: nodes that are in an intrusive list and an intrusive hash table,
// made once and used again; one mutex.
class intrusive_lru_cache {
    struct node : boost::intrusive::list_base_hook<
                      boost::intrusive::link_mode<boost::intrusive::normal_link>>,
                  boost::intrusive::unordered_set_base_hook<
                      boost::intrusive::link_mode<boost::intrusive::normal_link>> {
        std::uint64_t key = 0;
        std::uint64_t value = 0;
    };
    struct key_of {
        using type = std::uint64_t;
        type const& operator()(node const& n) const noexcept { return n.key; }
    };
    using list = boost::intrusive::list<node, boost::intrusive::constant_time_size<false>>;
    using set = boost::intrusive::unordered_set<node, boost::intrusive::key_of_value<key_of>,
                                                boost::intrusive::hash<mixing_hash>,
                                                boost::intrusive::constant_time_size<false>>;

public:
    explicit intrusive_lru_cache(std::size_t capacity)
        : nodes_(capacity),
          buckets_(capacity),
          index_(set::bucket_traits(buckets_.data(), buckets_.size())) {}
    ~intrusive_lru_cache() {
        index_.clear();
        order_.clear();
    }

    std::optional<std::uint64_t> get(std::uint64_t key) {
        std::lock_guard lock(mutex_);
        auto const it = index_.find(key);
        if (it == index_.end()) return std::nullopt;
        order_.splice(order_.end(), order_, order_.iterator_to(*it));
        return it->value;
    }

    void put(std::uint64_t key, std::uint64_t value) {
        std::lock_guard lock(mutex_);
        if (auto const it = index_.find(key); it != index_.end()) {
            it->value = value;
            order_.splice(order_.end(), order_, order_.iterator_to(*it));
            return;
        }
        node* n = nullptr;
        if (used_ < nodes_.size()) {
            n = &nodes_[used_++];
        } else {
            n = &order_.front();
            order_.pop_front();
            index_.erase(index_.iterator_to(*n));
        }
        n->key = key;
        n->value = value;
        index_.insert(*n);
        order_.push_back(*n);
    }

private:
    std::mutex mutex_;
    std::vector<node> nodes_;
    std::size_t used_ = 0;
    std::vector<set::bucket_type> buckets_;
    set index_;
    list order_;
};

// Values are made by a function of the key; capacity counts what nobody holds.
class tbb_lru_cache {
public:
    explicit tbb_lru_cache(std::size_t capacity) : cache_(&make, capacity) {}

    std::optional<std::uint64_t> get(std::uint64_t key) { return cache_[key].value(); }
    void put(std::uint64_t key, std::uint64_t) { cache_[key]; }

private:
    static std::uint64_t make(std::uint64_t key) { return key; }

    tbb::concurrent_lru_cache<std::uint64_t, std::uint64_t> cache_;
};

// A value is a pointer; here it is the number itself.
template <class Slice, class Cache>
class slice_cache {
public:
    explicit slice_cache(std::shared_ptr<Cache> cache) : cache_(std::move(cache)) {}

    std::optional<std::uint64_t> get(std::uint64_t key) {
        key_bytes const bytes(key);
        auto* const handle = cache_->Lookup(bytes.slice());
        if (!handle) return std::nullopt;
        auto const value = reinterpret_cast<std::uint64_t>(cache_->Value(handle));
        cache_->Release(handle);
        return value;
    }

    void put(std::uint64_t key, std::uint64_t value) {
        key_bytes const bytes(key);
        insert(*cache_, bytes.slice(), reinterpret_cast<void*>(value));
    }

private:
    // HyperClockCache takes keys of sixteen bytes only.
    struct key_bytes {
        explicit key_bytes(std::uint64_t key) : words{mixing_hash{}(key), key} {}
        Slice slice() const { return Slice(reinterpret_cast<char const*>(words), sizeof words); }
        std::uint64_t words[2];
    };

    static void forget(Slice const&, void*) {}
    static void insert(rocksdb::Cache& cache, Slice const& key, void* value) {
        cache.Insert(key, value, 1, &forget).PermitUncheckedError();
    }
    static void insert(leveldb::Cache& cache, Slice const& key, void* value) {
        cache.Release(cache.Insert(key, value, 1, &forget));
    }

    std::shared_ptr<Cache> cache_;
};

struct rocksdb_lru_cache : slice_cache<rocksdb::Slice, rocksdb::Cache> {
    explicit rocksdb_lru_cache(std::size_t capacity)
        : slice_cache(rocksdb::NewLRUCache(capacity, 4, false, 0.5, nullptr, false,
                                           rocksdb::kDontChargeCacheMetadata)) {}
};
struct rocksdb_clock_cache : slice_cache<rocksdb::Slice, rocksdb::Cache> {
    explicit rocksdb_clock_cache(std::size_t capacity)
        : slice_cache(rocksdb::HyperClockCacheOptions(capacity, 1, 4, false, nullptr,
                                                      rocksdb::kDontChargeCacheMetadata)
                          .MakeSharedCache()) {}
};
struct leveldb_lru_cache : slice_cache<leveldb::Slice, leveldb::Cache> {
    explicit leveldb_lru_cache(std::size_t capacity)
        : slice_cache(std::shared_ptr<leveldb::Cache>(leveldb::NewLRUCache(capacity))) {}
};

} // namespace bench
