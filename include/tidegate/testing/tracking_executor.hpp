// SPDX-License-Identifier: BSL-1.0
// An executor that knows what runs on it: shows that a handler ran there, and not inline.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/execution.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

// One for all types of tracking executor: a property turns one type into another.
inline int& running_tracking_executor() noexcept {
    static thread_local int id = 0;
    return id;
}

} // namespace detail

namespace testing {

/// Passes everything on to `Inner` and remembers, on the running thread, that its functions run on
/// the executor with this id. Ids are the test's to choose; copies share theirs.
template <class Inner>
class tracking_executor {
public:
    tracking_executor(Inner inner, int id) noexcept : inner_(std::move(inner)), id_(id) {}

    /// The id of the innermost tracking executor that runs the calling function; 0 if none does.
    static int current() noexcept { return running(); }

    int id() const noexcept { return id_; }

    template <class Function>
    void execute(Function&& function) const {
        inner_.execute(
            [f = std::decay_t<Function>(std::forward<Function>(function)), id = id_]() mutable {
                struct scope {
                    int const before;
                    ~scope() { running() = before; }
                } const restore{std::exchange(running(), id)};
                std::move(f)();
            });
    }

    template <class Property>
        requires boost::asio::can_require<Inner const&, Property>::value
    auto require(Property const& property) const {
        return wrap(boost::asio::require(inner_, property));
    }

    template <class Property>
        requires boost::asio::can_prefer<Inner const&, Property>::value
    auto prefer(Property const& property) const {
        return wrap(boost::asio::prefer(inner_, property));
    }

    template <class Property>
        requires boost::asio::can_query<Inner const&, Property>::value
    decltype(auto) query(Property const& property) const {
        return boost::asio::query(inner_, property);
    }

    friend bool operator==(tracking_executor const& a, tracking_executor const& b) noexcept {
        return a.id_ == b.id_ && a.inner_ == b.inner_;
    }
    friend bool operator!=(tracking_executor const& a, tracking_executor const& b) noexcept {
        return !(a == b);
    }

private:
    template <class Other>
    tracking_executor<std::decay_t<Other>> wrap(Other&& other) const {
        return {std::forward<Other>(other), id_};
    }

    static int& running() noexcept { return detail::running_tracking_executor(); }

    Inner inner_;
    int id_;
};

} // namespace testing
TIDEGATE_END_NAMESPACE
