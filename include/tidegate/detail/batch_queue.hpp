// SPDX-License-Identifier: BSL-1.0
// Items that wait to be batched: by key, within a key by priority, and within that by source.
#pragma once

#include <tidegate/core/batch_rule.hpp>
#include <tidegate/detail/delivering_room.hpp>
#include <tidegate/detail/priority_lines.hpp>

#include <algorithm>
#include <array>
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
    job_priority priority = job_priority::normal;
    std::uint64_t source = 0;
    std::uint64_t number = 0; // in the order of arrival
    TimePoint arrived{};
    bool queued = false;

protected:
    using result_waiter::result_waiter;
};

/// The items of one key and priority: a line a source, served in turns.
template <class TimePoint>
class source_turns {
    using waiter_type = batch_waiter<TimePoint>;

public:
    explicit source_turns(bool by_source) : by_source_(by_source) {}

    bool empty() const noexcept { return size_ == 0; }

    /// The list to put an item of that source into. `added` has to follow.
    waiter_list& line_of(std::uint64_t source) {
        if (!by_source_) {
            if (turns_.empty()) turns_.emplace_back();
            return turns_.front().items;
        }
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

    void added() noexcept { ++size_; }

    /// An item of that source was unlinked.
    void left(std::uint64_t source) noexcept {
        --size_;
        if (!by_source_) return;
        auto const at = lines_.find(source)->second;
        if (at->items.empty()) drop(at);
    }

    /// Unlinks the first item of the source whose turn it is. Not when empty.
    waiter_type& take_next() noexcept {
        auto turn = turns_.begin();
        while (turn->items.empty()) { // made for an item that could not be parked
            drop(turn);
            turn = turns_.begin();
        }
        auto& w = *static_cast<waiter_type*>(turn->items.pop_front());
        --size_;
        if (by_source_ && turn->items.empty()) drop(turn);
        else turns_.splice(turns_.end(), turns_, turn);
        return w;
    }

    /// Null if there is none. O(sources).
    waiter_type* oldest() const noexcept {
        waiter_type* oldest = nullptr;
        for (line const& each : turns_) {
            auto* const first = static_cast<waiter_type*>(each.items.front());
            if (first && (!oldest || first->number < oldest->number)) oldest = first;
        }
        return oldest;
    }

    /// Counts on without them: this is the end.
    void move_all_to(waiter_list& all) noexcept {
        for (line& each : turns_) all.append(each.items);
    }

private:
    struct line {
        waiter_list items;
        std::uint64_t source = 0;
    };
    using place = typename std::list<line>::iterator;

    void drop(place at) noexcept {
        lines_.erase(at->source);
        turns_.erase(at);
    }

    bool by_source_;
    std::size_t size_ = 0;
    std::list<line> turns_;                          // in the order of their turns
    std::unordered_map<std::uint64_t, place> lines_; // not used for a single line
};

/// The items of one key.
template <class TimePoint>
class batch_bucket {
    using waiter_type = batch_waiter<TimePoint>;

public:
    batch_bucket(std::uint32_t patience, bool by_source)
        : lines_{source_turns<TimePoint>(by_source), source_turns<TimePoint>(by_source),
                 source_turns<TimePoint>(by_source)},
          order_(patience) {}
    batch_bucket(batch_bucket const&) = delete;
    batch_bucket& operator=(batch_bucket const&) = delete;

    std::size_t size() const noexcept { return size_; }
    bool has(std::size_t level) const noexcept { return !lines_[level].empty(); }
    /// When the oldest of them came, and as which. Not when empty.
    TimePoint oldest() const noexcept { return oldest_; }
    std::uint64_t oldest_number() const noexcept { return oldest_number_; }

    /// The list to put that item into. `added` has to follow.
    waiter_list& line_of(waiter_type const& w) {
        return lines_[level_of(w.priority)].line_of(w.source);
    }

    void added(waiter_type& w) noexcept {
        lines_[level_of(w.priority)].added();
        if (size_++ == 0 || w.number < oldest_number_) is_oldest(w);
        w.queued = true;
    }

    /// `w` was unlinked from its line. O(sources) if it was the oldest.
    void left(waiter_type& w) noexcept {
        lines_[level_of(w.priority)].left(w.source);
        --size_;
        w.queued = false;
        if (w.number == oldest_number_) find_oldest();
    }

    /// Unlinks the next item. `find_oldest` has to follow. Not when empty.
    waiter_type& take_next() noexcept {
        std::size_t const level = order_.choose([this](std::size_t l) { return !has(l); });
        waiter_type& w = lines_[level].take_next();
        --size_;
        w.queued = false;
        return w;
    }

    /// O(sources).
    void find_oldest() noexcept {
        waiter_type* oldest = nullptr;
        for (auto const& each : lines_) {
            auto* const first = each.oldest();
            if (first && (!oldest || first->number < oldest->number)) oldest = first;
        }
        if (oldest) is_oldest(*oldest);
    }

    /// Null if there is none. O(sources).
    waiter_type* oldest_of(std::size_t level) const noexcept { return lines_[level].oldest(); }

    void move_all_to(waiter_list& all) noexcept {
        for (auto& each : lines_) each.move_all_to(all);
    }

    std::size_t waiting = 0; // for room, to be queued here

private:
    template <class>
    friend class batch_queue;

    void is_oldest(waiter_type const& w) noexcept {
        oldest_ = w.arrived;
        oldest_number_ = w.number;
    }

    static_assert(job_priorities == 3);

    std::array<source_turns<TimePoint>, job_priorities> lines_;
    core::ageing<job_priorities> order_;
    std::size_t size_ = 0;
    TimePoint oldest_{};
    std::uint64_t oldest_number_ = 0;

    // The queue's:
    using place = std::optional<typename std::list<batch_bucket*>::iterator>;
    std::size_t ready_ = 0;                   // batches that could start now
    std::array<place, job_priorities> turns_; // while any could, among those with such items
    place waits_;                             // while none could
    TimePoint waits_since_{};                 // by which it has that place
};

/// Says which bucket's turn it is, how many batches could start, and when the next one is due.
/// Called under the lock. A bucket with a batch that could start is in a list for each priority of
/// which it has items, in the order in which it came there; the others are in one by their oldest
/// item.
template <class TimePoint>
class batch_queue {
    using bucket_type = batch_bucket<TimePoint>;
    using waiter_type = batch_waiter<TimePoint>;

public:
    batch_queue(core::batch_rule<TimePoint> rule, std::uint32_t patience) noexcept
        : rule_(rule), order_(patience) {}

    std::size_t size() const noexcept { return sizes_[0] + sizes_[1] + sizes_[2]; }
    /// Batches that could start, as far as `update` was told the time.
    std::size_t ready() const noexcept { return ready_batches_; }
    /// When the next incomplete batch is due; the largest time for never.
    TimePoint next_due() const noexcept {
        return waiting_.empty() ? TimePoint::max() : rule_.due(waiting_.front()->oldest());
    }

    /// Sees to it that an item can be added to `b`.
    void make_room(bucket_type const& b) {
        if (b.size() > 0) return;
        for (; nodes_ < job_priorities * (used_ + 1); ++nodes_) spare_.emplace_back();
    }

    /// `w` was put into its line, for which there was room.
    void added(waiter_type& w, TimePoint now) noexcept {
        if (w.bucket->size() == 0) ++used_;
        w.bucket->added(w);
        ++sizes_[level_of(w.priority)];
        update(*w.bucket, now);
    }

    /// `w` was unlinked.
    void left(waiter_type& w, TimePoint now) noexcept {
        w.bucket->left(w);
        --sizes_[level_of(w.priority)];
        update(*w.bucket, now);
    }

    /// Time has passed.
    void update(TimePoint now) noexcept {
        while (!waiting_.empty() && rule_.due(waiting_.front()->oldest()) <= now) {
            update(*waiting_.front(), now);
        }
    }

    /// No item with a smaller number than this waits for more to come.
    void flush(std::uint64_t before, TimePoint now) noexcept {
        flushed_before_ = before;
        for (auto& list : ready_) {
            for (bucket_type* const b : list) count(*b, now);
        }
        while (!waiting_.empty()) update(*waiting_.front(), now);
    }

    /// The bucket whose turn it is to make up a batch; null if none can.
    bucket_type* choose() noexcept {
        if (ready_batches_ == 0) return nullptr;
        auto const is_empty = [this](std::size_t level) { return ready_[level].empty(); };
        return ready_[order_.choose(is_empty)].front();
    }

    /// Why a batch out of `b` would be closed now; nothing if it can wait.
    std::optional<core::batch_reason> close(bucket_type const& b, TimePoint now) const noexcept {
        return close(b, b.size(), now);
    }

    /// Unlinks the next item of `b`, to become part of a batch; `batch_taken` has to follow.
    waiter_type& take_next(bucket_type& b) noexcept {
        waiter_type& w = b.take_next();
        --sizes_[level_of(w.priority)];
        return w;
    }

    /// The other buckets have their turn first.
    void batch_taken(bucket_type& b, TimePoint now) noexcept {
        b.find_oldest();
        for (std::size_t level = 0; level < job_priorities; ++level) {
            auto& list = ready_[level];
            if (auto const& turn = b.turns_[level]) list.splice(list.end(), list, *turn);
        }
        update(b, now);
    }

    /// Of the least urgent that are queued, the one that came first. Not when empty. O(keys and
    /// their sources).
    waiter_type& most_expendable() const noexcept {
        std::size_t level = job_priorities - 1;
        while (sizes_[level] == 0) --level;
        waiter_type* oldest = nullptr;
        for (auto const* const buckets : {&ready_[level], &waiting_}) {
            for (bucket_type const* const b : *buckets) {
                auto* const first = b->oldest_of(level);
                if (first && (!oldest || first->number < oldest->number)) oldest = first;
            }
        }
        return *oldest;
    }

    void move_all_to(waiter_list& all) noexcept {
        for (auto const& list : ready_) {
            for (bucket_type* const b : list) b->move_all_to(all);
        }
        for (bucket_type* const b : waiting_) b->move_all_to(all);
    }

private:
    using bucket_list = std::list<bucket_type*>;
    using place = typename bucket_type::place;

    std::optional<core::batch_reason> close(bucket_type const& b, std::size_t items,
                                            TimePoint now) const noexcept {
        return rule_.close(items, b.oldest(), now, b.oldest_number() < flushed_before_);
    }

    // How many batches of `b` could start.
    void count(bucket_type& b, TimePoint now) noexcept {
        bool const rest_too = close(b, b.size() % rule_.max_size(), now).has_value();
        ready_batches_ -= b.ready_;
        b.ready_ = b.size() / rule_.max_size() + rest_too;
        ready_batches_ += b.ready_;
    }

    // Puts `b` into the lists where it belongs now; out of the others first, whose nodes it takes.
    void update(bucket_type& b, TimePoint now) noexcept {
        count(b, now);
        auto const belongs = [&b](std::size_t level) { return b.ready_ > 0 && b.has(level); };
        bool const waits = b.size() > 0 && b.ready_ == 0;
        if (b.waits_ && (!waits || b.waits_since_ != b.oldest())) leave(waiting_, b.waits_);
        for (std::size_t level = 0; level < job_priorities; ++level) {
            if (b.turns_[level] && !belongs(level)) leave(ready_[level], b.turns_[level]);
        }
        for (std::size_t level = 0; level < job_priorities; ++level) {
            if (b.turns_[level] || !belongs(level)) continue;
            enter(ready_[level], ready_[level].end(), b, b.turns_[level]);
        }
        if (waits && !b.waits_) wait(b);
        if (b.size() == 0) --used_;
    }

    // O(keys) where an old item has stayed behind younger ones; else O(1).
    void wait(bucket_type& b) noexcept {
        auto at = waiting_.end();
        while (at != waiting_.begin() && (*std::prev(at))->oldest() > b.oldest()) --at;
        enter(waiting_, at, b, b.waits_);
        b.waits_since_ = b.oldest();
    }

    void enter(bucket_list& list, typename bucket_list::iterator before, bucket_type& b,
               place& mine) noexcept {
        mine = spare_.begin();
        **mine = &b;
        list.splice(before, spare_, *mine);
    }
    void leave(bucket_list& list, place& mine) noexcept {
        spare_.splice(spare_.end(), list, *mine);
        mine.reset();
    }

    core::batch_rule<TimePoint> rule_;
    std::array<bucket_list, job_priorities> ready_;
    core::ageing<job_priorities> order_;
    bucket_list waiting_;
    // Nodes, enough for the most buckets that ever had items to be in the lists of all levels.
    bucket_list spare_;
    std::size_t nodes_ = 0;
    std::size_t used_ = 0; // buckets with items
    std::size_t ready_batches_ = 0;
    std::array<std::size_t, job_priorities> sizes_{};
    std::uint64_t flushed_before_ = 0;
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
    keyed_buckets(KeyOf key_of, std::uint32_t patience, bool by_source)
        : key_of_(std::move(key_of)), patience_(patience), by_source_(by_source) {}

    void with_bucket_of(In const& item, std::mutex& mutex,
                        std::function<void(bucket_type&)> const& use) override {
        Key key = key_of_(item);
        std::lock_guard lock(mutex);
        auto const [at, is_new] = buckets_.try_emplace(std::move(key), patience_, by_source_);
        if (is_new) at->second.key = &at->first;
        ++at->second.waiting; // it may not go meanwhile
        struct let_go {
            keyed_buckets& all;
            bucket_type& bucket;
            ~let_go() {
                --bucket.waiting;
                if (bucket.size() == 0 && bucket.waiting == 0) all.drop(bucket);
            }
        } const at_exit{*this, at->second};
        use(at->second);
    }

    void drop(bucket_type& bucket) noexcept override {
        buckets_.erase(buckets_.find(*static_cast<entry&>(bucket).key));
    }

private:
    struct entry : bucket_type {
        using bucket_type::bucket_type;
        Key const* key = nullptr;
    };

    KeyOf key_of_;
    std::uint32_t patience_;
    bool by_source_;
    std::unordered_map<Key, entry> buckets_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
