// SPDX-License-Identifier: BSL-1.0
// Items that wait to be batched: by key, and within a key by source.
#pragma once

#include <tidegate/core/batch_rule.hpp>
#include <tidegate/detail/delivering_room.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

template <class TimePoint>
class batch_bucket;

/// What the queue knows of an item.
template <class TimePoint>
class batch_waiter : public result_waiter {
public:
    batch_bucket<TimePoint>* bucket = nullptr; // where it is queued, or is to be
    std::uint64_t source = 0;
    std::uint64_t number = 0; // in the order of arrival
    TimePoint arrived{};
    bool queued = false;

protected:
    using result_waiter::result_waiter;
};

/// The items of one key: a line a source, served in turns.
template <class TimePoint>
class batch_bucket {
    using waiter_type = batch_waiter<TimePoint>;

public:
    explicit batch_bucket(bool by_source = false) : by_source_(by_source) {
        if (!by_source_) turns_.emplace_back();
    }
    batch_bucket(batch_bucket const&) = delete;
    batch_bucket& operator=(batch_bucket const&) = delete;

    std::size_t size() const noexcept { return size_; }
    /// When the oldest of them came. Not when empty.
    TimePoint oldest() const noexcept { return oldest_; }

    /// The list to put an item of that source into. `added` has to follow.
    waiter_list& line_of(std::uint64_t source) {
        if (!by_source_) return turns_.front().items;
        auto const found = lines_.find(source);
        if (found != lines_.end()) return found->second->items;
        auto const at = turns_.emplace(turns_.end());
        at->source = source;
        try {
            lines_.emplace(source, at);
        } catch (...) {
            turns_.erase(at);
            throw;
        }
        return at->items;
    }

    void added(waiter_type& w) noexcept {
        if (size_++ == 0) oldest_ = w.arrived;
        w.queued = true;
    }

    /// `w` was unlinked from its line. `find_oldest` has to follow.
    void left(waiter_type& w) noexcept {
        w.queued = false;
        --size_;
        to_flush = std::min(to_flush, size_);
        if (!by_source_) return;
        auto const at = lines_.find(w.source);
        if (!at->second->items.empty()) return;
        turns_.erase(at->second);
        lines_.erase(at);
    }

    /// That source, whose turn it was, has had it.
    void end_turn(std::uint64_t source) noexcept {
        if (by_source_ && !turns_.empty() && turns_.front().source == source) {
            turns_.splice(turns_.end(), turns_, turns_.begin());
        }
    }

    /// O(sources).
    void find_oldest() noexcept {
        if (size_ > 0) oldest_ = oldest_item().arrived;
    }

    /// The next item, still in its line: the first of the source whose turn it is. Not when empty.
    waiter_type& next() noexcept {
        while (turns_.front().items.empty()) { // made for an item that could not be parked
            lines_.erase(turns_.front().source);
            turns_.pop_front();
        }
        return *static_cast<waiter_type*>(turns_.front().items.front());
    }

    /// Not when empty. O(sources).
    waiter_type& oldest_item() const noexcept {
        waiter_type* oldest = nullptr;
        for (line const& each : turns_) {
            auto* const first = static_cast<waiter_type*>(each.items.front());
            if (first && (!oldest || first->number < oldest->number)) oldest = first;
        }
        return *oldest;
    }

    /// The bucket counts on without them: this is the end.
    void move_all_to(waiter_list& all) noexcept {
        for (line& each : turns_) all.append(each.items);
    }

    std::size_t waiting = 0;  // for room, to be queued here
    std::size_t to_flush = 0; // this many may not wait for more to come
    // Kept by the queue:
    std::size_t ready = 0; // batches that could start now
    typename std::list<batch_bucket*>::iterator position;
    bool listed = false;

private:
    struct line {
        waiter_list items;
        std::uint64_t source = 0;
    };
    bool by_source_;
    std::size_t size_ = 0;
    TimePoint oldest_{};
    std::list<line> turns_; // in the order of their turns
    // By source; not used for a single line.
    std::unordered_map<std::uint64_t, typename std::list<line>::iterator> lines_;
};

/// Says which bucket's turn it is, how many batches could start, and when the next one is due.
/// Called under the lock. Buckets are in one of two lists: those with a batch that could start, in
/// the order in which they came to that, and the others, by their oldest item.
template <class TimePoint>
class batch_queue {
    using bucket_type = batch_bucket<TimePoint>;
    using waiter_type = batch_waiter<TimePoint>;
    using duration = typename TimePoint::duration;

public:
    explicit batch_queue(core::batch_rule<TimePoint> rule) noexcept : rule_(rule) {}

    std::size_t size() const noexcept { return size_; }
    /// Batches that could start, as far as `update` was told the time.
    std::size_t ready() const noexcept { return ready_batches_; }
    /// When the next incomplete batch is due; the largest time for never.
    TimePoint next_due() const noexcept {
        return waiting_.empty() ? TimePoint::max() : rule_.due(waiting_.front()->oldest());
    }

    void added(waiter_type& w, TimePoint now) {
        list(*w.bucket);
        w.bucket->added(w);
        ++size_;
        update(*w.bucket, now);
    }

    /// `w` was unlinked.
    void left(waiter_type& w, TimePoint now) noexcept {
        w.bucket->left(w);
        w.bucket->find_oldest();
        --size_;
        update(*w.bucket, now);
    }

    /// Time has passed.
    void update(TimePoint now) noexcept {
        while (!waiting_.empty() && rule_.due(waiting_.front()->oldest()) <= now) {
            update(*waiting_.front(), now);
        }
    }

    /// Nothing that is queued now waits for more to come.
    void flush(TimePoint now) noexcept {
        for (bucket_type* const b : ready_) b->to_flush = b->size();
        while (!waiting_.empty()) {
            bucket_type& b = *waiting_.front();
            b.to_flush = b.size();
            update(b, now);
        }
        for (bucket_type* const b : ready_) count(*b, now);
    }

    /// Why the batch whose turn it is would be closed now; nothing if none can start. Its items are
    /// then those of `first()`, one by one.
    std::optional<core::batch_reason> close(TimePoint now) const noexcept {
        if (ready_.empty()) return std::nullopt;
        bucket_type const& b = *ready_.front();
        return rule_.close(b.size(), b.oldest(), now, b.to_flush > 0);
    }
    bucket_type& first() noexcept { return *ready_.front(); }

    /// `w` was unlinked to become part of a batch out of `b`; `batch_taken` has to follow.
    void taken(bucket_type& b, waiter_type& w) noexcept {
        if (b.to_flush > 0) --b.to_flush;
        b.left(w);
        b.end_turn(w.source);
        --size_;
    }

    /// The other buckets have their turn first.
    void batch_taken(bucket_type& b, TimePoint now) noexcept {
        b.find_oldest();
        ready_.splice(ready_.end(), ready_, b.position);
        update(b, now);
    }

    /// Of all that is queued, the one that came first. Not when empty. O(keys and their sources).
    waiter_type& oldest() const noexcept {
        waiter_type* oldest = nullptr;
        for (auto const* const buckets : {&ready_, &waiting_}) {
            for (bucket_type const* const b : *buckets) {
                auto& first = b->oldest_item();
                if (!oldest || first.number < oldest->number) oldest = &first;
            }
        }
        return *oldest;
    }

    void move_all_to(waiter_list& all) {
        for (auto const* const buckets : {&ready_, &waiting_}) {
            for (bucket_type* const b : *buckets) b->move_all_to(all);
        }
    }

private:
    void list(bucket_type& b) {
        if (b.listed) return;
        if (spare_.empty()) spare_.emplace_back();
        b.position = spare_.begin();
        *b.position = &b;
        waiting_.splice(waiting_.end(), spare_, b.position);
        b.listed = true;
    }

    // How many batches of `b` could start.
    void count(bucket_type& b, TimePoint now) noexcept {
        std::size_t const rest = b.size() % rule_.max_size();
        bool const rest_too = rule_.close(rest, b.oldest(), now, b.to_flush > 0).has_value();
        ready_batches_ -= b.ready;
        b.ready = b.size() / rule_.max_size() + rest_too;
        ready_batches_ += b.ready;
    }

    // Puts `b` into the list where it belongs now.
    void update(bucket_type& b, TimePoint now) noexcept {
        if (!b.listed) return;
        bool const was_ready = b.ready > 0;
        count(b, now);
        auto& from = was_ready ? ready_ : waiting_;
        if (b.size() == 0) {
            spare_.splice(spare_.end(), from, b.position);
            b.listed = false;
        } else if (b.ready > 0) {
            if (!was_ready) ready_.splice(ready_.end(), from, b.position);
        } else {
            spare_.splice(spare_.end(), from, b.position);
            auto at = waiting_.end();
            while (at != waiting_.begin() && (*std::prev(at))->oldest() > b.oldest()) --at;
            waiting_.splice(at, spare_, b.position);
        }
    }

    core::batch_rule<TimePoint> rule_;
    std::list<bucket_type*> ready_;
    std::list<bucket_type*> waiting_;
    std::list<bucket_type*> spare_; // nodes for the buckets to come
    std::size_t ready_batches_ = 0;
    std::size_t size_ = 0;
};

/// Finds the bucket of an item, where there are keys.
template <class In, class TimePoint>
class batch_buckets {
public:
    using bucket_type = batch_bucket<TimePoint>;

    virtual ~batch_buckets() = default;

    /// Computes the item's key, locks, and calls `use` with the bucket, which is new if the key is.
    virtual void with_bucket_of(In const& item, std::mutex& mutex,
                                std::function<void(bucket_type&)> const& use) = 0;
    /// Nothing is in it or waits for room in it: it may go. Called under the lock.
    virtual void drop(bucket_type& bucket) noexcept = 0;
};

template <class In, class TimePoint, class Key, class KeyOf>
class keyed_buckets final : public batch_buckets<In, TimePoint> {
    using bucket_type = batch_bucket<TimePoint>;

public:
    keyed_buckets(KeyOf key_of, bool by_source)
        : key_of_(std::move(key_of)), by_source_(by_source) {}

    void with_bucket_of(In const& item, std::mutex& mutex,
                        std::function<void(bucket_type&)> const& use) override {
        Key key = key_of_(item);
        std::lock_guard lock(mutex);
        auto const [at, is_new] = buckets_.try_emplace(std::move(key), by_source_);
        if (is_new) at->second.key = &at->first;
        try {
            use(at->second);
        } catch (...) {
            drop_if_unused(at->second);
            throw;
        }
        drop_if_unused(at->second);
    }

    void drop(bucket_type& bucket) noexcept override {
        buckets_.erase(buckets_.find(*static_cast<entry&>(bucket).key));
    }

private:
    struct entry : bucket_type {
        using bucket_type::bucket_type;
        Key const* key = nullptr;
    };

    void drop_if_unused(bucket_type& bucket) noexcept {
        if (bucket.size() == 0 && bucket.waiting == 0) drop(bucket);
    }

    KeyOf key_of_;
    bool by_source_;
    std::unordered_map<Key, entry> buckets_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
