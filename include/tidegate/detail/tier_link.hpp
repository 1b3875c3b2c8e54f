// SPDX-License-Identifier: BSL-1.0
// Between a cache and its second level: what fails there stays there.
#pragma once

#include <tidegate/cache_tier.hpp>
#include <tidegate/circuit_breaker.hpp>
#include <tidegate/detail/place_in_line.hpp>
#include <tidegate/policy.hpp>
#include <tidegate/semaphore.hpp>
#include <tidegate/timeout.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE

/// What came of a tiered cache's dealings with its second level. Keys, unless it says calls.
struct tier_statistics {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;       ///< with those of calls that failed
    std::uint64_t failed_reads = 0; ///< calls that failed, or that the breaker refused
    std::uint64_t undecodable = 0;  ///< found, but the codec threw
    std::uint64_t written = 0;
    std::uint64_t not_written = 0;  ///< a call failed, the codec threw, or too many were waiting
    std::uint64_t overtaken = 0;    ///< loaded, and invalidated, put or changed by others
                                    ///< meanwhile; or changed by others while it was being put
    std::size_t pending_writes = 0; ///< now
    std::size_t owed_invalidations = 0; ///< now; not read from the second level until it was told
    std::uint64_t failed_invalidations = 0; ///< calls; what they were to remove stays owed
    std::uint64_t lost_invalidations = 0;   ///< given up: there were more than may be pending
};

namespace detail {

struct tier_link_options {
    std::chrono::nanoseconds time_to_live = std::chrono::hours(1);
    std::chrono::nanoseconds time_limit = std::chrono::milliseconds(100);
    circuit_breaker_options breaker = circuit_breaker_options().consecutive_failures(5);
    std::size_t max_pending = 10'000;
    std::function<void(std::exception_ptr)> on_exception;
};

/// The rules:
/// - Nothing that the second level throws gets out, apart from the caller's own cancellation.
/// - One batch of changes at a time; invalidations that are owed go before writes, so a value never
///   gets there before what it replaces was removed.
/// - Whoever changes the second level takes turns, batch by batch, and what has waited longest is
///   written first: nobody waits for writes that came later.
/// - A name whose invalidation is owed is not read there. A write that failed leaves one behind, if
///   it was to replace something, and so does a load that brought nothing to replace it with.
/// - What was loaded is written only if its name was neither invalidated nor put since its load
///   began: each name has an epoch, which it shares with others. From when it was changed until it
///   is written, it is not read here either.
/// - What others change while it is being put here is invalidated: nobody knows who came last.
template <class Clock>
class tier_link : public std::enable_shared_from_this<tier_link<Clock>> {
    using breaker_type = basic_circuit_breaker<Clock>;
    using timeout_type = basic_timeout<Clock>;

    static auto make_guard(breaker_type& breaker, std::chrono::nanoseconds limit, bool abandons) {
        timeout_type in_time(std::chrono::duration_cast<typename Clock::duration>(limit));
        in_time.abandon(abandons);
        return policy(breaker, in_time);
    }

public:
    using found_values = std::vector<std::optional<tier_value>>;
    using names = std::vector<std::string>;
    using self_type = std::shared_ptr<tier_link>;
    template <class T>
    using awaitable = boost::asio::awaitable<T>;

    tier_link(boost::asio::any_io_executor executor, std::shared_ptr<cache_tier> tier,
              tier_link_options settings)
        : executor_(std::move(executor)),
          tier_(std::move(tier)),
          settings_(std::move(settings)),
          breaker_(settings_.breaker),
          reading_(make_guard(breaker_, settings_.time_limit, true)),
          changing_(make_guard(breaker_, settings_.time_limit, false)),
          turn_(executor_, 1) {}

    tier_link_options const& settings() const noexcept { return settings_; }

    // Reading -----------------------------------------------------------------------------------

    /// One result for each name, whatever happens.
    static awaitable<found_values> read(self_type self, names wanted) {
        found_values found(wanted.size());
        std::vector<std::size_t> place;
        names to_ask = self->answer_locally(std::move(wanted), found, place);
        if (!to_ask.empty()) {
            auto const tier = self->tier_;
            // The policy copies what it is given.
            auto const asked = std::make_shared<names const>(std::move(to_ask));
            auto ask = [tier, asked] { return tier->get_many(*asked); };
            auto asking = self->reading_(ask);
            auto got = co_await attempt(std::move(asking));
            if (got && got.value().size() != place.size()) {
                got.fail(failure(make_error_code(error::result_count_mismatch)));
            }
            if (got) self->take_found(std::move(got.value()), place, found);
            else
                self->note_failure(got.why(), &tier_statistics::failed_reads, co_await cancelled());
        }
        self->count_found(found);
        co_return found;
    }

    void tell(std::exception_ptr const& why) noexcept {
        if (settings_.on_exception && !is_closed()) settings_.on_exception(why);
    }
    void note_undecodable(std::exception_ptr why) {
        count(&tier_statistics::undecodable);
        tell(why);
    }
    void note_unwritten(std::string const& name, bool supersedes, std::exception_ptr why) {
        {
            std::lock_guard lock(mutex_);
            give_up(name, {{}, supersedes, true});
        }
        tell(why);
    }

    // Changing ----------------------------------------------------------------------------------

    std::uint64_t epoch_of(std::string const& name) const {
        std::lock_guard lock(mutex_);
        return epochs_[slot(name)];
    }

    /// What was loaded since the name's epoch was `epoch`. `supersedes`: there may be an older
    /// value that must not be found again.
    void write_loaded(std::string name, tier_value value, bool supersedes, std::uint64_t epoch) {
        {
            std::lock_guard lock(mutex_);
            if (epochs_[slot(name)] != epoch) {
                ++counts_.overtaken;
                return;
            }
            enqueue(std::move(name), {std::move(value), supersedes, true});
        }
        start_writer();
    }

    /// Nothing was loaded that is to be kept, and there may be an older value.
    void forget_loaded(std::string const& name, std::uint64_t epoch) {
        {
            std::lock_guard lock(mutex_);
            if (epochs_[slot(name)] != epoch) {
                ++counts_.overtaken;
                return;
            }
            pending_.erase(name);
            owe(name);
        }
        start_writer();
    }

    void write(std::string name, tier_value value) {
        {
            std::lock_guard lock(mutex_);
            ++epochs_[slot(name)];
            enqueue(std::move(name), {std::move(value), true, false});
        }
        start_writer();
    }

    /// From now on the name is not read there.
    void owe_invalidation(std::string const& name) {
        std::lock_guard lock(mutex_);
        ++epochs_[slot(name)];
        pending_.erase(name);
        owe(name);
    }

    /// Somebody else changed it there. What this cache itself put, and is still to send, is newer;
    /// what it sent or loaded may be older.
    void note_change(std::string const& name) {
        std::lock_guard lock(mutex_);
        ++epochs_[slot(name)];
        auto const it = pending_.find(name);
        if (it != pending_.end() && withdraw(*it)) pending_.erase(it);
    }
    void note_all_changed() {
        std::lock_guard lock(mutex_);
        for (auto& epoch : epochs_) ++epoch;
        std::erase_if(pending_, [this](auto const& one) { return withdraw(one); });
    }

    /// Tells the second level of all that is owed; whether it knows about `name` then.
    static awaitable<bool> pay(self_type self, std::string name) {
        auto paying = pay_in_turn(self);
        auto const done = co_await attempt(std::move(paying));
        if (!done) {
            self->start_writer();
            done.why().rethrow();
        }
        std::lock_guard lock(self->mutex_);
        co_return !self->owed_.contains(name);
    }

    /// Writes what is pending now, and pays what is owed.
    static awaitable<void> flush(self_type self) {
        auto const last = self->last_change();
        while (true) {
            auto const turn = co_await self->turn_.acquire();
            auto writing = write_batch(self, last);
            if (!co_await std::move(writing)) break;
        }
    }

    bool is_closed() const {
        std::lock_guard lock(mutex_);
        return closed_;
    }

    void close() noexcept {
        {
            std::lock_guard lock(mutex_);
            closed_ = true;
            pending_.clear();
        }
        turn_.close();
    }

    tier_statistics statistics() const {
        std::lock_guard lock(mutex_);
        tier_statistics all = counts_;
        all.pending_writes = pending_.size();
        all.owed_invalidations = owed_.size();
        return all;
    }

private:
    static constexpr std::size_t batch_size = 256; // entries that are written together

    struct change : place_in_line {
        change() = default;
        change(tier_value v, bool replaces, bool was_loaded)
            : value(std::move(v)), supersedes(replaces), loaded(was_loaded) {}

        tier_value value;
        bool supersedes = false;
        bool loaded = false;      // not put
        bool sent = false;        // since it was changed
        std::uint64_t number = 0; // grows along the line
        std::string const* name = nullptr;
    };

    static std::size_t slot(std::string const& name) noexcept {
        return std::hash<std::string>{}(name) % 1024;
    }

    void count(std::uint64_t tier_statistics::* what, std::uint64_t n = 1) {
        std::lock_guard lock(mutex_);
        counts_.*what += n;
    }

    static awaitable<bool> cancelled() {
        auto const state = co_await boost::asio::this_coro::cancellation_state;
        co_return state.cancelled() != boost::asio::cancellation_type::none;
    }

    // Everything but the caller's cancellation ends here.
    void note_failure(failure const& why, std::uint64_t tier_statistics::* what,
                      bool was_cancelled) {
        if (was_cancelled) why.rethrow();
        if (what) count(what);
        if (why.code() == error::circuit_open) return; // the breaker has listeners of its own
        if (!settings_.on_exception) return;
        tell(why.exception() ? why.exception()
                             : std::make_exception_ptr(boost::system::system_error(why.code())));
    }

    template <class T>
    static awaitable<outcome<T>> attempt(awaitable<T> running) {
        outcome<T> result;
        try {
            if constexpr (std::is_void_v<T>) {
                co_await std::move(running);
                result.succeed();
            } else {
                result.succeed(co_await std::move(running));
            }
        } catch (...) {
            result.fail(failure(std::current_exception()));
        }
        co_return result;
    }

    // Reading -----------------------------------------------------------------------------------

    // What waits to be written is known; what is owed is not there.
    names answer_locally(names&& wanted, found_values& found, std::vector<std::size_t>& place) {
        names rest;
        std::lock_guard lock(mutex_);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            if (auto const it = pending_.find(wanted[i]); it != pending_.end()) {
                found[i] = it->second.value;
            } else if (!owed_.contains(wanted[i])) {
                place.push_back(i);
                rest.push_back(std::move(wanted[i]));
            }
        }
        return rest;
    }

    static void take_found(found_values&& got, std::vector<std::size_t> const& place,
                           found_values& found) {
        for (std::size_t i = 0; i < place.size(); ++i) {
            if (got[i] && got[i]->time_to_live.count() > 0) found[place[i]] = std::move(got[i]);
        }
    }

    void count_found(found_values const& found) {
        std::lock_guard lock(mutex_);
        for (auto const& one : found) ++(one ? counts_.hits : counts_.misses);
    }

    // Writing -----------------------------------------------------------------------------------

    // Under the lock, like the next two.
    void enqueue(std::string&& name, change&& one) {
        if (closed_) return;
        if (pending_.size() >= settings_.max_pending && !pending_.contains(name)) {
            return give_up(name, one);
        }
        auto& [key, there] = *pending_.try_emplace(std::move(name)).first;
        // A name that is changed again and again keeps its place, or it would never be written.
        bool const keeps_place = there.name && !there.sent;
        one.number = keeps_place ? there.number : ++changes_;
        one.name = &key;
        there = std::move(one);
        if (!keeps_place) there.join(line_);
    }

    // What it was to replace must not be found again.
    void give_up(std::string const& name, change const& one) {
        ++counts_.not_written;
        if (one.supersedes) owe(name);
    }

    // What may have changed there: not to be written, or read here, any more, unless it was put and
    // not sent. What was sent may come before the change or after it, late, or never; older than it
    // is what it was to replace.
    bool withdraw(std::pair<std::string const, change> const& one) {
        if (!one.second.loaded && !one.second.sent) return false;
        ++counts_.overtaken;
        if (one.second.supersedes) owe(one.first);
        return true;
    }

    void owe(std::string const& name) {
        if (owed_.size() >= settings_.max_pending && !owed_.contains(name)) {
            owed_.erase(owed_.begin());
            ++counts_.lost_invalidations;
        }
        owed_[name] = ++changes_;
    }

    void start_writer() {
        {
            std::lock_guard lock(mutex_);
            if (closed_ || (pending_.empty() && owed_.empty())) return;
            if (std::exchange(writing_, true)) return;
        }
        boost::asio::co_spawn(executor_, write_in_background(this->shared_from_this()),
                              [self = this->shared_from_this()](std::exception_ptr why) {
                                  if (why) self->tell(why);
                              });
    }

    static awaitable<void> write_in_background(self_type self) {
        auto writing = flush(self);
        auto const done = co_await attempt(std::move(writing));
        bool more = false;
        {
            std::lock_guard lock(self->mutex_);
            self->writing_ = false;
            more = !self->pending_.empty();
        }
        if (!done) done.why().rethrow();
        if (more) self->start_writer();
    }

    static awaitable<void> pay_in_turn(self_type self) {
        auto const turn = co_await self->turn_.acquire();
        auto paying = pay_all(self);
        co_await std::move(paying);
    }

    std::uint64_t last_change() const {
        std::lock_guard lock(mutex_);
        return changes_;
    }

    // False if nothing of what came up to that change is left.
    static awaitable<bool> write_batch(self_type self, std::uint64_t last) {
        auto paying = pay_all(self);
        bool const paid = co_await std::move(paying);
        auto const entries = self->take_entries(last, paid);
        if (!entries) co_return false;
        if (entries->empty()) co_return true;
        auto const tier = self->tier_;
        names sent;
        sent.reserve(entries->size());
        for (auto const& one : *entries) sent.push_back(one.key);
        // Called once: that guard does not retry.
        auto put = [tier, entries] { return tier->put_many(std::move(*entries)); };
        auto putting = self->changing_(put);
        auto const done = co_await attempt(std::move(putting));
        self->settle(sent, static_cast<bool>(done));
        if (!done) self->note_failure(done.why(), nullptr, co_await cancelled());
        co_return true;
    }

    static change& change_at(place_in_line& place) noexcept { return static_cast<change&>(place); }

    // The next entries to write, which can be read here until they are written, if one of them came
    // up to that change. All are given up if what was owed could not be paid; a name whose
    // invalidation is owed since then waits for the next round.
    std::shared_ptr<std::vector<tier_entry>> take_entries(std::uint64_t last, bool paid) {
        std::lock_guard lock(mutex_);
        if (!paid) {
            auto const unwritten = std::exchange(pending_, {});
            for (auto const& [name, one] : unwritten) give_up(name, one);
        }
        if (pending_.empty() || change_at(line_.next()).number > last) return nullptr;
        auto entries = std::make_shared<std::vector<tier_entry>>();
        entries->reserve(std::min(batch_size, pending_.size()));
        for (auto* at = &line_.next(); at != &line_ && entries->size() < batch_size;
             at = &at->next()) {
            auto& one = change_at(*at);
            if (owed_.contains(*one.name)) continue;
            entries->push_back({*one.name, one.value, !one.supersedes});
            one.sent = true;
        }
        return entries;
    }

    void settle(names const& sent, bool written) {
        std::lock_guard lock(mutex_);
        for (auto const& name : sent) {
            auto const it = pending_.find(name);
            bool const is_last_word = it != pending_.end() && it->second.sent;
            if (written) ++counts_.written;
            else if (is_last_word) give_up(name, it->second);
            else ++counts_.not_written;
            if (is_last_word) pending_.erase(it);
        }
    }

    static awaitable<bool> pay_all(self_type self) {
        auto const debts = self->debts();
        if (debts.empty()) co_return true;
        names owed;
        for (auto const& [name, debt] : debts) owed.push_back(name);
        auto const tier = self->tier_;
        auto forget = [tier, owed] { return tier->invalidate(owed); };
        auto forgetting = self->changing_(forget);
        auto const done = co_await attempt(std::move(forgetting));
        if (done) self->settle(debts);
        else
            self->note_failure(done.why(), &tier_statistics::failed_invalidations,
                               co_await cancelled());
        co_return static_cast<bool>(done);
    }

    std::unordered_map<std::string, std::uint64_t> debts() const {
        std::lock_guard lock(mutex_);
        return owed_;
    }

    void settle(std::unordered_map<std::string, std::uint64_t> const& debts) {
        std::lock_guard lock(mutex_);
        for (auto const& [name, debt] : debts) {
            auto const it = owed_.find(name);
            if (it != owed_.end() && it->second == debt) owed_.erase(it);
        }
    }

    boost::asio::any_io_executor executor_;
    std::shared_ptr<cache_tier> const tier_;
    tier_link_options const settings_;
    breaker_type breaker_;
    using guard = decltype(make_guard(std::declval<breaker_type&>(), {}, true));
    guard reading_;
    guard changing_;              // a late write could overtake the next one: waits for its end
    basic_semaphore<Clock> turn_; // to change the second level

    std::mutex mutable mutex_;
    std::array<std::uint64_t, 1024> epochs_{};
    place_in_line line_; // of what is pending
    std::unordered_map<std::string, change> pending_;
    std::unordered_map<std::string, std::uint64_t> owed_;
    std::uint64_t changes_ = 0;
    bool writing_ = false;
    bool closed_ = false;
    tier_statistics counts_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
