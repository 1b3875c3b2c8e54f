// SPDX-License-Identifier: BSL-1.0
// Outstanding work on an executor, and a way to post to it.
#pragma once

#include <tidegate/config.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/require.hpp>

#include <utility>
#include <variant>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

namespace asio = boost::asio;

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
    decltype(asio::prefer(
        asio::require(std::declval<Executor const&>(), asio::execution::blocking.never),
        asio::execution::outstanding_work.tracked)) executor_;
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
