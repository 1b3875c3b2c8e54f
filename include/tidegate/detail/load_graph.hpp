// SPDX-License-Identifier: BSL-1.0
// Which load waits for which, so that none waits for itself.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
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

    std::vector<load_node const*> waits_for_; // guarded by load_wait's mutex
};

/// While it lives, one load waits for another.
class load_wait {
public:
    load_wait() = default;
    load_wait(load_wait const&) = delete;
    load_wait& operator=(load_wait const&) = delete;
    ~load_wait() { end(); }

    /// False, and nothing is noted, if `on` waits for `who`, be it by way of others: that would
    /// never end. O(loads that wait for loads).
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
    // Without circles, this ends.
    static bool reaches(load_node const& from, load_node const& to) {
        return &from == &to ||
               std::any_of(from.waits_for_.begin(), from.waits_for_.end(),
                           [&](load_node const* next) { return reaches(*next, to); });
    }

    static std::mutex& mutex() {
        static std::mutex one;
        return one;
    }

    std::shared_ptr<load_node> who_;
    std::shared_ptr<load_node const> on_;
};

/// Runs a load, and tells everything that is awaited in it which load that is.
class load_executor {
public:
    load_executor(boost::asio::any_io_executor inner, std::weak_ptr<load_node> load) noexcept
        : inner_(std::move(inner)), load_(std::move(load)) {}

    std::shared_ptr<load_node> load() const noexcept { return load_.lock(); }

    template <class Property>
        requires boost::asio::can_require<boost::asio::any_io_executor const&, Property>::value
    load_executor require(Property const& p) const {
        return {boost::asio::require(inner_, p), load_};
    }
    template <class Property>
        requires boost::asio::can_prefer<boost::asio::any_io_executor const&, Property>::value
    load_executor prefer(Property const& p) const {
        return {boost::asio::prefer(inner_, p), load_};
    }
    template <class Property>
        requires boost::asio::can_query<boost::asio::any_io_executor const&, Property>::value
    decltype(auto) query(Property const& p) const {
        return boost::asio::query(inner_, p);
    }
    template <class Function>
    void execute(Function&& function) const {
        inner_.execute(std::forward<Function>(function));
    }

    friend bool operator==(load_executor const& a, load_executor const& b) noexcept {
        return a.inner_ == b.inner_;
    }
    friend bool operator!=(load_executor const& a, load_executor const& b) noexcept {
        return !(a == b);
    }

private:
    boost::asio::any_io_executor inner_;
    std::weak_ptr<load_node> load_;
};

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
