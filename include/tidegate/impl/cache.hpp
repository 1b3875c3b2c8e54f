// SPDX-License-Identifier: BSL-1.0
// The state of a cache: loads for its parts, and their maintenance.
#pragma once

#include <tidegate/cache.hpp>
#include <tidegate/core/batch_rule.hpp>
#include <tidegate/detail/cache_parts.hpp>
#include <tidegate/timer_for.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <ranges>
#include <unordered_map>
#include <unordered_set>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Locks: the room's mutex before a part's, never the other way round.
template <class Types>
class cache_state final
    : public flight_room<
          cache_state<Types>, typename Types::key_type, shared_value<typename Types::value_type>,
          loaded<typename Types::value_type>, typename Types::hash_type, typename Types::equal_type,
          typename Types::clock_type, typename Types::executor_type> {
    using Key = typename Types::key_type;
    using V = typename Types::value_type;
    using Hash = typename Types::hash_type;
    using Equal = typename Types::equal_type;
    using Clock = typename Types::clock_type;
    using Executor = typename Types::executor_type;
    using base =
        flight_room<cache_state, Key, shared_value<V>, loaded<V>, Hash, Equal, Clock, Executor>;
    using typename base::flight_type;
    using parts = cache_parts<Types>;
    using rules = cache_settings<Key, V>;
    using options = typename parts::options;
    using clock = typename parts::clock;
    using sighting = typename parts::sighting;
    using removed = typename parts::removed;
    using nanoseconds = std::chrono::nanoseconds;

public:
    using handle = shared_value<V>;
    using time_point = typename Clock::time_point;

    static std::shared_ptr<cache_state> make(Executor const& executor, options&& settings) {
        rules::check(settings);
        auto state = std::make_shared<cache_state>(executor, std::move(settings));
        state->enroll();
        return state;
    }

    cache_state(Executor const& executor, options&& settings)
        : base(executor,
               settings.load_on_ ? settings.load_on_ : boost::asio::any_io_executor(executor),
               std::chrono::duration_cast<typename Clock::duration>(settings.load_timeout_)),
          parts_(std::move(settings)),
          gathering_(parts_.settings().most_refreshed_,
                     std::chrono::duration_cast<typename Clock::duration>(
                         parts_.settings().refresh_delay_)) {}

    // Looking up ------------------------------------------------------------------------------

    template <class Q>
    handle get(Q const& key) {
        return parts_.get(key);
    }
    template <class Q>
    handle get(Q const& key, time_point now) {
        return parts_.get(key,
                          std::chrono::duration_cast<nanoseconds>(now.time_since_epoch()).count());
    }
    template <class Q>
    sighting look(Q const& key) {
        return parts_.look(key);
    }
    template <class Q>
    handle peek(Q const& key) const {
        return parts_.peek(key);
    }
    template <class Q>
    bool contains(Q const& key) const {
        return parts_.contains(key);
    }
    template <class Q>
    bool keeps_value(Q const& key) const {
        return parts_.keeps_value(key);
    }

    // Loading ---------------------------------------------------------------------------------

    template <class CoroutineExecutor>
    static boost::asio::awaitable<handle, CoroutineExecutor> ready(handle value) {
        co_return value;
    }

    template <class CoroutineExecutor, class Load>
    static boost::asio::awaitable<handle, CoroutineExecutor>
    load(std::shared_ptr<cache_state> self, Key key, Load load, sighting seen) {
        if (seen.is_usable()) {
            self->refresh(std::move(key), std::move(load));
            co_return std::move(seen.value);
        }
        bool const has_stale = seen.is == sighting::what::stale;
        std::uint64_t const before = self->times_emptied();
        auto joining =
            boost::asio::async_initiate<deferred_tuple const, void(std::exception_ptr, handle)>(
                initiation<cache_state, join_flight>(*self), deferred_tuple(), std::move(key),
                std::move(load), self->terms(has_stale));
        auto joined = co_await std::move(joining);
        std::exception_ptr const& failure = std::get<0>(joined);
        if (!failure) co_return std::move(std::get<1>(joined));
        auto const state = co_await boost::asio::this_coro::cancellation_state;
        bool const left = self->had_to_leave(state.cancelled(), before);
        if (has_stale && !is_the_callers_doing(failure, left)) co_return std::move(seen.value);
        std::rethrow_exception(failure);
    }

    /// What there is for several keys.
    struct sightings {
        std::vector<outcome<handle>> results; ///< nothing for what has to be waited for
        std::vector<handle> stale;            ///< for each key, if there is something
        std::vector<Key> missing;             ///< each once
        std::vector<Key> to_refresh;
        std::vector<std::size_t> place; ///< of each result without a value, in `missing`

        void reserve(std::size_t keys) {
            results.reserve(keys);
            stale.reserve(keys);
            place.reserve(keys);
        }
    };

    template <class Keys>
    sightings look_all(Keys const& keys) {
        static_assert(std::is_copy_constructible_v<Key>, "loading several keys copies them");
        sightings all;
        if constexpr (std::ranges::sized_range<Keys const>) all.reserve(std::ranges::size(keys));
        std::unordered_map<Key, std::size_t, Hash, Equal> known;
        for (auto const& key : keys) {
            sighting seen = look(key);
            bool const usable = seen.is_usable();
            if (usable && !seen.is_enough()) all.to_refresh.push_back(Key(key));
            all.stale.push_back(seen.value);
            all.place.push_back(0);
            auto& result = all.results.emplace_back();
            if (usable) {
                result.succeed(std::move(seen.value));
                continue;
            }
            auto const [it, is_new] = known.try_emplace(Key(key), all.missing.size());
            if (is_new) all.missing.push_back(it->first);
            all.place.back() = it->second;
        }
        return all;
    }

    /// The loads of several keys, so many keys a load, so many loads at a time: a load begins when
    /// its caller waits for the keys of another that began that much earlier. When one cannot
    /// begin, no later one does, and `refusal` is what the keys without a ticket get.
    template <class Load>
    class batches {
    public:
        batches(cache_state& cache, std::vector<Key> keys, Load load)
            : cache_(cache),
              keys_(std::move(keys)),
              load_(std::move(load)),
              most_(cache.batch_size(keys_.size())) {
            tickets_.reserve(keys_.size());
        }

        bool is_due(std::size_t key) const noexcept {
            return !refusal_ && tickets_.size() < keys_.size() &&
                   tickets_.size() / most_ < key / most_ + cache_.settings().batches_at_once_;
        }
        void board_before(std::size_t key) noexcept {
            try {
                while (is_due(key)) board_next();
            } catch (...) {
                refusal_ = std::current_exception();
            }
        }
        /// Null if there is none.
        typename base::ticket const* ticket_of(std::size_t key) const noexcept {
            return key < tickets_.size() ? &tickets_[key] : nullptr;
        }
        std::exception_ptr const& refusal() const noexcept { return refusal_; }

    private:
        void board_next() {
            std::size_t const begin = tickets_.size();
            std::size_t const end = begin + std::min(most_, keys_.size() - begin);
            auto batch = cache_.take_batch(keys_, begin, end);
            for (auto& one : cache_.board(std::move(batch), load_, cache_.settings().keep_loading_))
                tickets_.push_back(std::move(one));
        }

        cache_state& cache_;
        std::vector<Key> keys_;
        Load load_;
        std::size_t most_;
        std::vector<typename base::ticket> tickets_;
        std::exception_ptr refusal_;
    };

    // Most of a batch is over with its first one: nothing is waited for.
    bool take_if_over(flight_type const& one, outcome<handle>& result) const {
        if (!this->is_over(one)) return false;
        if (one.failure) result.fail(failure(one.failure));
        else result.succeed(one.value);
        return true;
    }

    template <class CoroutineExecutor, class Load>
    static boost::asio::awaitable<std::vector<outcome<handle>>, CoroutineExecutor>
    load_all(std::shared_ptr<cache_state> self, sightings seen, Load load) {
        if (!seen.to_refresh.empty()) self->refresh_all(std::move(seen.to_refresh), load);
        if (seen.missing.empty()) co_return std::move(seen.results);
        std::uint64_t const before = self->times_emptied();
        std::vector<outcome<handle>> loaded(seen.missing.size());
        batches<Load> boarding(*self, std::move(seen.missing), std::move(load));
        for (std::size_t i = 0; i < loaded.size(); ++i) {
            auto const state = co_await boost::asio::this_coro::cancellation_state;
            bool const cancelled = state.cancelled() != boost::asio::cancellation_type::none;
            if (boarding.is_due(i)) {
                if (i > 0 && cancelled)
                    throw boost::system::system_error(asio::error::operation_aborted);
                boarding.board_before(i);
            }
            auto const* const mine = boarding.ticket_of(i);
            if (!mine) {
                loaded[i].fail(failure(boarding.refusal()));
                continue;
            }
            if (!mine->load()) {
                loaded[i].succeed(mine->found());
                continue;
            }
            if (!cancelled && self->take_if_over(*mine->load(), loaded[i])) continue;
            auto waiting =
                boost::asio::async_initiate<deferred_tuple const, void(std::exception_ptr, handle)>(
                    initiation<cache_state, await_flight>(*self), deferred_tuple(), mine->load());
            auto done = co_await std::move(waiting);
            if (!std::get<0>(done)) loaded[i].succeed(std::move(std::get<1>(done)));
            else loaded[i].fail(failure(std::move(std::get<0>(done))));
        }
        auto const state = co_await boost::asio::this_coro::cancellation_state;
        bool const left = self->had_to_leave(state.cancelled(), before);
        for (std::size_t i = 0; i < seen.results.size(); ++i) {
            auto& result = seen.results[i];
            if (result) continue;
            auto const& got = loaded[seen.place[i]];
            if (got || !seen.stale[i] || is_the_callers_doing(got.why().exception(), left))
                result = got;
            else result.succeed(std::move(seen.stale[i]));
        }
        co_return std::move(seen.results);
    }

    template <class CoroutineExecutor>
    static boost::asio::awaitable<std::vector<handle>, CoroutineExecutor>
    all_or_throw(boost::asio::awaitable<std::vector<outcome<handle>>, CoroutineExecutor> loading) {
        auto all = co_await std::move(loading);
        std::vector<handle> values;
        values.reserve(all.size());
        for (auto& one : all) values.push_back(std::move(one).get());
        co_return values;
    }

    // Changing --------------------------------------------------------------------------------

    bool put(Key key, handle value, std::optional<nanoseconds> time_to_live) {
        if (time_to_live) {
            check_option<std::int64_t>("cache put time_to_live in ns", time_to_live->count(), 1,
                                       315'576'000'000'000'000);
        }
        return store_value(std::move(key), std::move(value), time_to_live, false);
    }

    bool put_if_absent(Key key, handle value) {
        if (contains(key)) return false;
        return store_value(std::move(key), std::move(value), std::nullopt, true);
    }

    template <class Q>
    bool invalidate(Q const& key) {
        forget_gathered(key);
        removed gone;
        bool const was_there = parts_.erase(key, removal_cause::explicit_, gone, fencing());
        parts_.tell(gone);
        return was_there;
    }

    void invalidate_all() {
        this->fence_all();
        if (gathers()) {
            std::lock_guard lock(this->mutex_);
            gathered_.clear();
        }
        parts_.erase_all();
    }

    template <class Condition>
    std::size_t invalidate_if(Condition& condition) {
        static_assert(std::is_copy_constructible_v<Key>, "invalidate_if copies keys");
        this->fence_all();
        std::size_t removed_ones = 0;
        parts_.for_copies([&](Key const& key, handle const& value) {
            if (condition(key, value)) removed_ones += invalidate(key);
        });
        return removed_ones;
    }

    // Looking at it ---------------------------------------------------------------------------

    void observe(std::shared_ptr<trace_observer> observer, std::string name) {
        base::observe("cache", observer, name);
        parts_.trace().attach("cache", std::move(observer), std::move(name));
    }

    cache_statistics statistics() const noexcept {
        cache_statistics sum;
        parts_.add_to(sum);
        sum.loads = loads_.load(std::memory_order_relaxed);
        sum.load_failures = load_failures_.load(std::memory_order_relaxed);
        sum.load_time = nanoseconds(load_time_.load(std::memory_order_relaxed));
        sum.late_loads = this->late_loads();
        sum.loading = this->in_flight();
        return sum;
    }

    std::vector<Key> hottest_keys(std::size_t most) const { return parts_.hottest_keys(most); }

    void run_maintenance() { parts_.run_maintenance(); }

    void shutdown() noexcept override {
        base::shutdown();
        std::lock_guard lock(this->mutex_);
        maintenance_.reset();
        gathered_timer_.reset();
    }

    // For flight_room ---------------------------------------------------------------------------

    template <class T>
    static loaded<V> normalised(T&& result) {
        return loaded<V>(std::forward<T>(result));
    }

    struct leftovers {
        removed gone;
        std::uint64_t weight = 1;
        std::exception_ptr unheard; // by any caller
    };

    void prepare(flight_type const& one, loaded<V>& result, leftovers& rest) {
        if (result.is_to_be_stored()) rest.weight = parts_.weigh(one.key, result.value());
    }

    bool look_again(Key const& key, handle& found, std::exception_ptr&) {
        return parts_.look_again(key, found);
    }

    handle landed(flight_type& one, bool current, std::exception_ptr const& failure,
                  loaded<V>* result, leftovers& rest) {
        loads_.fetch_add(1, std::memory_order_relaxed);
        load_time_.fetch_add(this->time_of(one).count(), std::memory_order_relaxed);
        if (failure) {
            load_failures_.fetch_add(1, std::memory_order_relaxed);
            if (is_unheard(one)) rest.unheard = failure;
            if (current) parts_.put_off(one.key);
            return {};
        }
        handle value = result->value();
        if (!current) return value;
        auto time_to_live = result->time_to_live();
        if (!value && !time_to_live) time_to_live = settings().negative_time_to_live_;
        if (!result->is_to_be_stored() || (!value && !time_to_live)) {
            // It is newer than what is there.
            parts_.erase(one.key, removal_cause::replaced, rest.gone, parts::locking);
            return value;
        }
        if (auto const most = result->time_to_live_at_most()) {
            time_to_live =
                std::min(time_to_live.value_or(settings().time_to_live_.value_or(*most)), *most);
        }
        parts_.place(std::move(one.key), value, rest.weight, time_to_live, false, rest.gone,
                     parts::locking);
        return value;
    }

    void overdue(flight_type& one) noexcept {
        loads_.fetch_add(1, std::memory_order_relaxed);
        load_failures_.fetch_add(1, std::memory_order_relaxed);
        load_time_.fetch_add(this->time_of(one).count(), std::memory_order_relaxed);
        if (is_unheard(one)) ++unheard_overdue_;
        if (one.findable) parts_.put_off(one.key);
    }

    void after_overdue() noexcept {
        if (!settings().on_exception_) return;
        std::size_t unheard = 0;
        {
            std::lock_guard lock(this->mutex_);
            unheard = std::exchange(unheard_overdue_, 0);
        }
        for (; unheard > 0; --unheard)
            settings().on_exception_(to_failure<std::exception_ptr>(error::deadline_exceeded));
    }

    void after_landing(leftovers& rest) noexcept {
        parts_.tell(rest.gone);
        if (rest.unheard && settings().on_exception_) settings().on_exception_(rest.unheard);
        keep_maintained();
    }

private:
    using deferred_tuple = boost::asio::as_tuple_t<boost::asio::deferred_t>;

    options const& settings() const noexcept { return parts_.settings(); }

    typename base::terms terms(bool has_stale) const {
        typename base::terms t;
        t.kept = settings().keep_loading_;
        if (has_stale && settings().soft_timeout_) {
            t.patience = deadline_in<Clock>(
                std::chrono::duration_cast<typename Clock::duration>(*settings().soft_timeout_));
        }
        return t;
    }

    // No caller would be told how the load failed.
    static bool is_unheard(flight_type const& one) noexcept {
        return one.waiting.empty() && one.tickets == 0;
    }

    // He was cancelled, or whoever waited was sent away since, or nobody may wait any more.
    bool had_to_leave(boost::asio::cancellation_type cancelled,
                      std::uint64_t emptied_before) const {
        return cancelled != boost::asio::cancellation_type::none ||
               this->times_emptied() != emptied_before || this->is_closed();
    }

    // Cancelled, refused: what is stale would not help. A loader may fail with the same codes,
    // which are then those of its own operations.
    static bool is_the_callers_doing(std::exception_ptr const& failure, bool left) {
        try {
            std::rethrow_exception(failure);
        } catch (boost::system::system_error const& e) {
            return e.code() == error::recursive_load ||
                   (left &&
                    (e.code() == asio::error::operation_aborted || e.code() == error::closed));
        } catch (...) { // the loader's
            return false;
        }
    }

    // How a part is locked for what the user changes.
    auto fencing() noexcept {
        return [this](auto const& key, auto& part) {
            return
                typename base::template fencing_lock<typename Types::mutex_type>(*this, key, part);
        };
    }

    bool store_value(Key key, handle value, std::optional<nanoseconds> time_to_live,
                     bool only_if_absent) {
        std::uint64_t const weight = parts_.weigh(key, value);
        removed gone;
        bool stored = false;
        try {
            stored = parts_.place(std::move(key), std::move(value), weight, time_to_live,
                                  only_if_absent, gone, fencing());
        } catch (...) {
            parts_.tell(gone); // room was made in vain
            throw;
        }
        parts_.tell(gone);
        keep_maintained();
        return stored;
    }

    // Refreshing --------------------------------------------------------------------------------

    bool gathers() const noexcept { return static_cast<bool>(settings().refresh_load_); }

    // Whoever causes a refresh has a value: what goes wrong with it is not his.
    template <class Function>
    void in_background(Function work) noexcept {
        try {
            work();
        } catch (...) {
            if (settings().on_exception_ && !this->is_closed())
                settings().on_exception_(std::current_exception());
        }
    }

    template <class Load>
    void refresh(Key&& key, Load&& load) noexcept {
        in_background([&] {
            if constexpr (std::is_copy_constructible_v<Key>) {
                if (gathers()) return gather(std::move(key));
            }
            this->begin_in_background(std::move(key), std::forward<Load>(load));
        });
    }

    template <class Load>
    void refresh_all(std::vector<Key> keys, Load const& load) noexcept {
        in_background([&] {
            if (!gathers()) return board_at_once(std::move(keys), load);
            for (Key& key : keys) gather(std::move(key));
        });
    }

    template <class Load>
    void board_at_once(std::vector<Key> keys, Load const& load) {
        std::size_t const most = batch_size(keys.size());
        for (std::size_t begin = 0; begin < keys.size(); begin += most)
            this->board(take_batch(keys, begin, begin + std::min(most, keys.size() - begin)), load,
                        true);
    }

    std::size_t batch_size(std::size_t keys) const noexcept {
        return std::min(settings().max_batch_.value_or(keys), keys);
    }
    static std::vector<Key> take_batch(std::vector<Key>& keys, std::size_t begin, std::size_t end) {
        auto const first = keys.begin();
        return {std::make_move_iterator(first + static_cast<std::ptrdiff_t>(begin)),
                std::make_move_iterator(first + static_cast<std::ptrdiff_t>(end))};
    }

    void gather(Key&& key) {
        std::vector<Key> batch;
        {
            std::lock_guard lock(this->mutex_);
            if (this->closed_ || this->find_flight(key)) return;
            auto const now = Clock::now();
            if (gathered_.empty()) gathered_since_ = now;
            gathered_.insert(std::move(key));
            if (gathering_.close(gathered_.size(), gathered_since_, now, false))
                take_gathered(batch);
            else if (!gathered_timer_set_) wait_for_others();
        }
        load_gathered(std::move(batch));
    }

    void take_gathered(std::vector<Key>& batch) {
        batch.reserve(gathered_.size());
        while (!gathered_.empty())
            batch.push_back(std::move(gathered_.extract(gathered_.begin()).value()));
        if (gathered_timer_) gathered_timer_->cancel();
        gathered_timer_set_ = false;
    }

    template <class Q>
    void forget_gathered(Q const& key) {
        if (!gathers()) return;
        std::lock_guard lock(this->mutex_);
        if constexpr (std::is_same_v<Q, Key>) gathered_.erase(key);
        else std::erase_if(gathered_, [&](Key const& one) { return Equal{}(one, key); });
    }

    void load_gathered(std::vector<Key> batch) {
        if (!batch.empty()) this->board(std::move(batch), settings().refresh_load_, true);
    }

    // Who comes after a failure to wait tries again.
    void wait_for_others() {
        if (!gathered_timer_) gathered_timer_.emplace(this->executor());
        gathered_timer_->expires_at(gathering_.due(gathered_since_));
        gathered_timer_->async_wait([weak = this->weak_from_this()](error_code ec) {
            auto const self = weak.lock();
            if (ec || !self) return;
            auto& cache = static_cast<cache_state&>(*self);
            cache.in_background([&] { cache.others_are_there(); });
        });
        gathered_timer_set_ = true;
    }

    void others_are_there() {
        std::vector<Key> batch;
        {
            std::lock_guard lock(this->mutex_);
            gathered_timer_set_ = false;
            take_gathered(batch);
        }
        load_gathered(std::move(batch));
    }

    // The timer waits while there is something to expire. Where there is no memory for it, who puts
    // something in next tries again.
    void keep_maintained() noexcept {
        if (!settings().maintain_every_ || maintaining_.exchange(true)) return;
        try {
            std::lock_guard lock(this->mutex_);
            if (!this->closed_) wait_for_maintenance();
        } catch (...) {
            maintaining_ = false;
        }
    }

    void wait_for_maintenance() {
        if (!maintenance_) maintenance_.emplace(this->executor());
        maintenance_->expires_at(deadline_in<Clock>(
            std::chrono::duration_cast<typename Clock::duration>(*settings().maintain_every_)));
        maintenance_->async_wait([weak = this->weak_from_this()](error_code ec) {
            if (auto const self = weak.lock(); self && !ec) {
                static_cast<cache_state&>(*self).maintain(0);
            }
        });
    }

    // A few steps, from that part on, and later the rest: others are to run in between.
    void maintain(std::size_t part) noexcept {
        if (this->is_closed()) return;
        try {
            for (int steps = 0; steps < maintenance_steps; ++steps) {
                if (!parts_.maintain(part)) return rest_if_empty();
            }
            boost::asio::post(this->executor(), [weak = this->weak_from_this(), part] {
                if (auto const self = weak.lock()) static_cast<cache_state&>(*self).maintain(part);
            });
        } catch (...) { // as in keep_maintained
            maintaining_ = false;
        }
    }

    // Who puts something in after it was looked at finds that nobody maintains it, and sees to it.
    void rest_if_empty() noexcept {
        maintaining_ = false;
        if (!parts_.is_empty()) keep_maintained();
    }

    void on_close() noexcept override {
        if (maintenance_) maintenance_->cancel();
        if (gathered_timer_) gathered_timer_->cancel();
    }

    static constexpr int maintenance_steps = 8; // on end

    parts parts_;
    std::atomic<std::uint64_t> loads_{0};
    std::atomic<std::uint64_t> load_failures_{0};
    std::atomic<std::int64_t> load_time_{0};
    std::size_t unheard_overdue_ = 0;
    std::optional<timer_for_t<Clock, Executor>> maintenance_;
    std::atomic<bool> maintaining_{false};

    // What is to be refreshed together, and since when.
    core::batch_rule<time_point> gathering_;
    std::unordered_set<Key, Hash, Equal> gathered_;
    time_point gathered_since_{};
    bool gathered_timer_set_ = false;
    std::optional<timer_for_t<Clock, Executor>> gathered_timer_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
