// SPDX-License-Identifier: BSL-1.0
// Outstanding work on an executor, and a way to post to it.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/require.hpp>

#include <type_traits>
#include <utility>
#include <variant>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

namespace asio = boost::asio;

/// False for executors that cannot promise not to run a function inside the call
/// (any_completion_executor), or that stand for no event loop: posting to system_executor, or to
/// the one that use_future brings, would run the handler on a hidden thread.
template <class Executor>
inline constexpr bool can_post =
    asio::can_require<Executor const&, asio::execution::blocking_t::never_t>::value &&
    (asio::can_require<Executor const&, asio::execution::outstanding_work_t::tracked_t>::value ||
     asio::traits::prefer_member<Executor const&,
                                 asio::execution::outstanding_work_t::tracked_t>::is_valid);

/// Keeps `Executor` running while it lives.
template <class Executor>
class plain_work {
public:
    explicit plain_work(Executor const& executor)
        : executor_(asio::prefer(executor, asio::execution::outstanding_work.tracked)) {}

    /// May run the function inside the call.
    template <class Function>
    void execute(Function&& function) {
        executor_.execute(std::forward<Function>(function));
    }

private:
    std::decay_t<decltype(asio::prefer(std::declval<Executor const&>(),
                                       asio::execution::outstanding_work.tracked))>
        executor_; // prefer may return a reference
};

/// Keeps `Executor` running while it lives, and posts: `post` never runs the function itself.
template <class Executor>
class posting_work {
public:
    explicit posting_work(Executor const& executor)
        : executor_(asio::prefer(asio::require(executor, asio::execution::blocking.never),
                                 asio::execution::outstanding_work.tracked)) {}

    template <class Function, class Allocator>
    void post(Function&& function, Allocator const& allocator) {
        asio::prefer(executor_, asio::execution::allocator(allocator))
            .execute(std::forward<Function>(function));
    }

private:
    std::decay_t<decltype(asio::prefer(
        asio::require(std::declval<Executor const&>(), asio::execution::blocking.never),
        asio::execution::outstanding_work.tracked))>
        executor_;
};

/// Most often there is an io_context behind the type-erased executor. Asking for it once saves
/// several virtual calls a completion, and the allocation that type erasure needs for a function.
template <>
class posting_work<asio::any_io_executor> {
    using io_executor = asio::io_context::executor_type;

public:
    explicit posting_work(asio::any_io_executor const& executor) : work_(work_on(executor)) {}

    template <class Function, class Allocator>
    void post(Function&& function, Allocator const& allocator) {
        if (auto* const io = std::get_if<posting_work<io_executor>>(&work_)) {
            io->post(std::forward<Function>(function), allocator);
        } else {
            std::get<asio::any_io_executor>(work_).execute(std::forward<Function>(function));
        }
    }

private:
    using work = std::variant<posting_work<io_executor>, asio::any_io_executor>;

    static work work_on(asio::any_io_executor const& executor) {
        if (auto const* const io = executor.target<io_executor>()) {
            return posting_work<io_executor>(*io);
        }
        return asio::prefer(asio::require(executor, asio::execution::blocking.never),
                            asio::execution::outstanding_work.tracked);
    }

    work work_;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
