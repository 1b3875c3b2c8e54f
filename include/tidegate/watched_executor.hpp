// SPDX-License-Identifier: BSL-1.0
// An executor whose handlers a stall_detector watches.
#pragma once

#include <tidegate/detail/activity.hpp>

#include <boost/asio/execution.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>

#include <type_traits>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE

namespace detail {

template <class Function>
struct watched_function {
    Function function;
    char const* loop;

    void operator()() {
        handler_scope const inside(loop);
        std::move(function)();
    }
};

} // namespace detail

/// What runs on `Inner`, a handler of which that takes too long is found by any `stall_detector`.
///
///     auto executor = tidegate::watched(context.get_executor(), "http");
///     co_spawn(executor, serve(socket), detached);
///
/// Costs two stores a handler. Otherwise it is `Inner`: properties and comparison are those of it,
/// and any_io_executor takes it. Whatever a watched coroutine awaits resumes it through here;
/// handlers bound to another executor are not watched.
template <class Inner>
class watched_executor {
public:
    using inner_executor_type = Inner;

    /// `loop` names it in reports, and has to stay: a string literal, mostly.
    explicit watched_executor(Inner inner, char const* loop = nullptr) noexcept
        : inner_(std::move(inner)), loop_(loop) {}

    Inner const& get_inner_executor() const noexcept { return inner_; }

    template <class Property>
        requires boost::asio::can_require<Inner const&, Property>::value
    auto require(Property const& p) const {
        return rewrap(boost::asio::require(inner_, p));
    }
    template <class Property>
        requires boost::asio::can_prefer<Inner const&, Property>::value
    auto prefer(Property const& p) const {
        return rewrap(boost::asio::prefer(inner_, p));
    }
    template <class Property>
        requires boost::asio::can_query<Inner const&, Property>::value
    decltype(auto) query(Property const& p) const {
        return boost::asio::query(inner_, p);
    }

    template <class Function>
    void execute(Function&& function) const {
        inner_.execute(detail::watched_function<std::decay_t<Function>>{
            std::forward<Function>(function), loop_});
    }

    friend bool operator==(watched_executor const& a, watched_executor const& b) noexcept {
        return a.inner_ == b.inner_;
    }
    friend bool operator!=(watched_executor const& a, watched_executor const& b) noexcept {
        return !(a == b);
    }

private:
    template <class Other>
    auto rewrap(Other other) const {
        return watched_executor<Other>(std::move(other), loop_);
    }

    Inner inner_;
    char const* loop_;
};

template <class Executor>
watched_executor<Executor> watched(Executor executor, char const* loop = nullptr) noexcept {
    return watched_executor<Executor>(std::move(executor), loop);
}

TIDEGATE_END_NAMESPACE
