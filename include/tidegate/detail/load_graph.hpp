// SPDX-License-Identifier: BSL-1.0
// Which load waits for which, so that none waits for itself.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/execution/relationship.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// A load that others may wait for, of any cache or lazy value of the program.
class load_node {
public:
    load_node() = default;
    load_node(load_node const&) = delete;
    load_node& operator=(load_node const&) = delete;

protected:
    ~load_node() = default;

private:
    friend class load_wait;

    // Guarded by load_wait's mutex.
    std::vector<load_node const*> waits_for_;
    mutable std::uint64_t seen_in_ = 0;       // the last search that came by
    mutable load_node const* next_ = nullptr; // to be looked at in that search
};

/// While it lives, one load waits for another.
class load_wait {
public:
    load_wait() = default;
    load_wait(load_wait const&) = delete;
    load_wait& operator=(load_wait const&) = delete;
    ~load_wait() { end(); }

    /// False, and nothing is noted, if `on` waits for `who`, be it by way of others: that would
    /// never end. O(loads that wait for loads), each of which is looked at once.
    bool begin(std::shared_ptr<load_node> who, std::shared_ptr<load_node const> on) {
        std::lock_guard lock(mutex());
        if (reaches(*on, *who)) return false;
        who->waits_for_.push_back(on.get());
        who_ = std::move(who);
        on_ = std::move(on);
        return true;
    }

    void end() noexcept {
        if (!who_) return;
        {
            std::lock_guard lock(mutex());
            auto& all = who_->waits_for_;
            all.erase(std::find(all.begin(), all.end(), on_.get()));
        }
        who_.reset();
        on_.reset();
    }

private:
    // Many ways may lead to a load, and they may be long: neither every way nor a stack.
    static bool reaches(load_node const& from, load_node const& to) noexcept {
        static std::uint64_t searches = 0;
        std::uint64_t const mine = ++searches;
        load_node const* found = nullptr;
        auto const look_at = [&](load_node const& one) {
            if (std::exchange(one.seen_in_, mine) != mine) one.next_ = std::exchange(found, &one);
        };
        for (look_at(from); found;) {
            load_node const& one = *std::exchange(found, found->next_);
            if (&one == &to) return true;
            for (load_node const* const next : one.waits_for_) look_at(*next);
        }
        return false;
    }

    static std::mutex& mutex() {
        static std::mutex one;
        return one;
    }

    std::shared_ptr<load_node> who_;
    std::shared_ptr<load_node const> on_;
};

/// What the executors of one load share: on what it runs, and the work that those of them which
/// track it hold together.
class load_context {
public:
    load_context(boost::asio::any_io_executor inner, std::weak_ptr<load_node> load) noexcept
        : inner_(std::move(inner)), load_(std::move(load)) {}
    load_context(load_context const&) = delete;
    load_context& operator=(load_context const&) = delete;

    boost::asio::any_io_executor const& inner() const noexcept { return inner_; }
    std::shared_ptr<load_node> load() const noexcept { return load_.lock(); }

    void begin_work() {
        if (change_unless(0, 1)) return;
        std::lock_guard lock(mutex_);
        if (held_.load() == 0) {
            working_ =
                boost::asio::prefer(inner_, boost::asio::execution::outstanding_work.tracked);
        }
        held_.fetch_add(1);
    }

    void end_work() noexcept {
        if (change_unless(1, -1)) return;
        boost::asio::any_io_executor last; // ends after the lock
        std::lock_guard lock(mutex_);
        if (held_.fetch_sub(1) == 1) last.swap(working_);
    }

private:
    // Changes the number unless it is `edge`, where the work itself begins or ends.
    bool change_unless(long edge, long by) noexcept {
        long seen = held_.load();
        while (seen != edge) {
            if (held_.compare_exchange_weak(seen, seen + by)) return true;
        }
        return false;
    }

    boost::asio::any_io_executor const inner_;
    std::weak_ptr<load_node> const load_;
    std::atomic<long> held_{0};
    std::mutex mutex_;
    boost::asio::any_io_executor working_; // while somebody holds it
};

/// Runs a load, and tells everything that is awaited in it which load that is. Its properties are
/// bits, so that it is small enough for any_io_executor to hold it without allocating: a load asks
/// for its executor with this property and that some dozens of times.
class load_executor {
    using blocking = boost::asio::execution::blocking_t;
    using relationship = boost::asio::execution::relationship_t;
    using outstanding_work = boost::asio::execution::outstanding_work_t;

public:
    load_executor(boost::asio::any_io_executor inner, std::weak_ptr<load_node> load)
        : context_(std::make_shared<load_context>(std::move(inner), std::move(load))) {}
    load_executor(load_executor const& other) noexcept // where work is held, more throws nothing
        : load_executor(other.context_, other.properties_) {}
    load_executor(load_executor&& other) noexcept
        : context_(std::move(other.context_)), properties_(std::exchange(other.properties_, 0)) {}
    load_executor& operator=(load_executor other) noexcept {
        context_.swap(other.context_);
        std::swap(properties_, other.properties_);
        return *this;
    }
    ~load_executor() {
        if (properties_ & tracks_work) context_->end_work();
    }

    std::shared_ptr<load_node> load() const noexcept { return context_->load(); }
    /// What it runs on.
    boost::asio::any_io_executor const& inner() const noexcept { return context_->inner(); }

    load_executor require(blocking::never_t) const { return with(never_blocks); }
    load_executor require(blocking::possibly_t) const { return without(never_blocks); }
    load_executor require(relationship::continuation_t) const { return with(continues); }
    load_executor require(relationship::fork_t) const { return without(continues); }
    load_executor require(outstanding_work::tracked_t) const { return with(tracks_work); }
    load_executor require(outstanding_work::untracked_t) const { return without(tracks_work); }

    blocking query(blocking) const noexcept {
        if (properties_ & never_blocks) return blocking::never;
        return blocking::possibly;
    }
    relationship query(relationship) const noexcept {
        if (properties_ & continues) return relationship::continuation;
        return relationship::fork;
    }
    outstanding_work query(outstanding_work) const noexcept {
        if (properties_ & tracks_work) return outstanding_work::tracked;
        return outstanding_work::untracked;
    }
    boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept {
        return boost::asio::query(inner(), boost::asio::execution::context);
    }

    template <class Function>
    void execute(Function&& function) const {
        namespace asio = boost::asio;
        auto on = inner();
        if (properties_ & continues)
            on = asio::prefer(on, asio::execution::relationship.continuation);
        if (properties_ & never_blocks) on = asio::require(on, asio::execution::blocking.never);
        on.execute(std::forward<Function>(function));
    }

    friend bool operator==(load_executor const& a, load_executor const& b) noexcept {
        return a.properties_ == b.properties_ && a.inner() == b.inner();
    }
    friend bool operator!=(load_executor const& a, load_executor const& b) noexcept {
        return !(a == b);
    }

private:
    enum property : unsigned { never_blocks = 1, continues = 2, tracks_work = 4 };

    load_executor(std::shared_ptr<load_context> context, unsigned properties)
        : context_(std::move(context)), properties_(properties) {
        if (properties_ & tracks_work) context_->begin_work();
    }

    load_executor with(property one) const { return {context_, properties_ | one}; }
    load_executor without(property one) const { return {context_, properties_ & ~one}; }

    std::shared_ptr<load_context> context_;
    unsigned properties_ = 0;
};

static_assert(sizeof(load_executor) <= sizeof(std::shared_ptr<void>) + sizeof(void*));

/// The load that a coroutine with this executor is part of; null if none.
template <class Executor>
std::shared_ptr<load_node> load_of(Executor const& executor) noexcept {
    if constexpr (std::is_same_v<Executor, boost::asio::any_io_executor>) {
        using strand = boost::asio::strand<boost::asio::any_io_executor>;
        if (auto const* const own = executor.template target<load_executor>()) return own->load();
        // Some of what runs in a load has a strand of its own.
        if (auto const* const s = executor.template target<strand>()) {
            return load_of(s->get_inner_executor());
        }
    }
    return nullptr;
}

} // namespace detail
TIDEGATE_END_NAMESPACE
