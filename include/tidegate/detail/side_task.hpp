// SPDX-License-Identifier: BSL-1.0
// A coroutine that runs beside the one that may cancel it.
#pragma once

#include <tidegate/detail/serial_executor.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include <concepts>
#include <exception>
#include <memory>
#include <utility>

TIDEGATE_BEGIN_NAMESPACE
namespace detail {

/// Asio wants a cancellation signal emitted where the coroutine runs, and never at the same time as
/// it: so each has an executor that runs in turn, to which `cancel` posts. May be called from any
/// thread, before, while and after the coroutine runs.
class side_task : public std::enable_shared_from_this<side_task> {
public:
    /// `executor` has to run in turn: see `serial_executors`.
    explicit side_task(boost::asio::any_io_executor executor) noexcept
        : executor_(std::move(executor)) {}
    side_task(side_task const&) = delete;
    side_task& operator=(side_task const&) = delete;

    boost::asio::any_io_executor const& executor() const noexcept { return executor_; }

    /// Starts `coroutine`, an awaitable or a function that returns one; to be called once.
    /// `ended(std::exception_ptr, T)` is called when it has, where it ran.
    template <class Coroutine, class Handler>
    void start(Coroutine coroutine, Handler ended) {
        // `co_spawn` runs the coroutine's first steps where it is called, and they look whether it
        // has been cancelled: so that has to be where `cancel` emits.
        if (runs_here(executor_)) spawn(std::move(coroutine), std::move(ended));
        else start_later(std::move(coroutine), std::move(ended));
    }

    /// As `start`, which on its executor runs the coroutine's first steps: this runs none of it
    /// before it returns.
    template <class Coroutine, class Handler>
    void start_later(Coroutine coroutine, Handler ended) {
        boost::asio::post(executor_, [self = shared_from_this(), coroutine = std::move(coroutine),
                                      ended = std::move(ended)]() mutable {
            self->spawn(std::move(coroutine), std::move(ended));
        });
    }

    // A template, so that who includes this without using it does not pay for compiling `post`.
    template <std::same_as<boost::asio::any_io_executor> Executor = boost::asio::any_io_executor>
    void cancel() {
        Executor const& where = executor_;
        boost::asio::post(where, [self = shared_from_this()] {
            self->cancelled_ = true;
            if (!self->over_) self->signal_.emit(boost::asio::cancellation_type::all);
        });
    }

private:
    template <class Coroutine, class Handler>
    void spawn(Coroutine coroutine, Handler ended) {
        boost::asio::co_spawn(
            executor_, std::move(coroutine),
            boost::asio::bind_cancellation_slot(
                signal_.slot(),
                [self = shared_from_this(), ended = std::move(ended)](auto&&... outcome) mutable {
                    self->over_ = true;
                    std::move(ended)(std::forward<decltype(outcome)>(outcome)...);
                }));
        // Who was cancelled before there was anybody to hear it hears it now.
        if (cancelled_ && !over_) signal_.emit(boost::asio::cancellation_type::all);
    }

    boost::asio::any_io_executor executor_;
    boost::asio::cancellation_signal signal_;
    // These change where `executor_` runs.
    bool cancelled_ = false;
    bool over_ = false;
};

} // namespace detail
TIDEGATE_END_NAMESPACE
